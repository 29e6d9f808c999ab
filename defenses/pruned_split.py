"""A split with channels removed at its cut: what pruning does to both sides, not a defense."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from splitbench.release import Tensors, TensorSpec, channel_axis, channels_of

# What treats every channel by itself, so that a channel can be removed before it.
_BY_CHANNEL = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Sigmoid,
    nn.Tanh, nn.Softplus, nn.Identity, nn.Dropout, nn.MaxPool2d, nn.AvgPool2d, nn.BatchNorm2d,
)  # fmt: skip
_FUNCTIONS = (torch.relu, functional.relu, torch.sigmoid, torch.tanh, functional.gelu)
_SIZES = ("out_channels", "out_features", "num_features")
_TENSORS = ("weight", "bias", "running_mean", "running_var")


class PrunedClient(nn.Module):
    """A client that computes and sends some channels of each live tensor.

    The filters that make a channel which is not sent are removed with it where that can be done:
    where the client is a graph, and between a convolution or linear layer and the cut lies nothing
    but layers that treat each channel by itself, read by nobody else. Elsewhere, as in an open
    residual connection, the channel is computed and left out.

    Args:
        whole: The client up to the cut; copied.
        specs: Its features.
        kept: How many channels of each remain, the first ones until `choose` says which.
    """

    def __init__(self, whole: nn.Module, specs: Sequence[TensorSpec], kept: Sequence[int]) -> None:
        super().__init__()
        self.body = copy.deepcopy(whole)
        self._makers = _makers(self.body, specs)
        for i, count in enumerate(kept):
            self.register_buffer(f"kept_{i}", torch.arange(count))
        self.choose(whole, [torch.arange(count) for count in kept])

    @property
    def kept(self) -> list[Tensor]:
        """Places of the channels of each tensor that are sent, ascending."""
        return [self.get_buffer(f"kept_{i}") for i in range(len(self._makers))]

    @property
    def removes(self) -> list[bool]:
        """Whether the other channels of each tensor are not even computed."""
        return [bool(makers) for makers in self._makers]

    @torch.no_grad()
    def choose(self, whole: nn.Module, kept: Sequence[Tensor]) -> None:
        """Take these channels of the client that was pruned, with its weights."""
        for i, (index, makers) in enumerate(zip(kept, self._makers, strict=True)):
            self.get_buffer(f"kept_{i}").copy_(index)
            for name in makers:
                _narrow(self.body.get_submodule(name), whole.get_submodule(name), index)

    def forward(self, images: Tensor) -> Tensors:
        """Images ``(b, c, h, w)`` to the channels that are sent."""
        parts = zip(self.body(images), self.kept, self._makers, strict=True)
        return tuple(
            f if makers else f.index_select(channel_axis(f), kept) for f, kept, makers in parts
        )


class FillingServer(nn.Module):
    """A server that begins by putting zeros where channels were removed.

    Args:
        tail: The server after the cut, features to logits.
        specs: The features.
        kept: How many channels of each arrive.
    """

    def __init__(self, tail: nn.Module, specs: Sequence[TensorSpec], kept: Sequence[int]) -> None:
        super().__init__()
        self.tail = tail
        self.channels = [channels_of(spec.shape) for spec in specs]
        for i, count in enumerate(kept):
            self.register_buffer(f"kept_{i}", torch.arange(count))

    @torch.no_grad()
    def choose(self, kept: Sequence[Tensor]) -> None:
        """These channels arrive."""
        for i, index in enumerate(kept):
            self.get_buffer(f"kept_{i}").copy_(index)

    def restore(self, tensors: Tensors) -> Tensors:
        """Features in the shapes that the tail takes."""
        return tuple(self._filled(i, t) for i, t in enumerate(tensors))

    def forward(self, tensors: Tensors) -> Tensor | Tensors:
        """Channels that were sent to what the tail makes: logits, or features of a later cut."""
        made: Tensor | Tensors = self.tail(self.restore(tensors))
        return made

    def _filled(self, i: int, sent: Tensor) -> Tensor:
        axis, shape = channel_axis(sent), list(sent.shape)
        shape[axis] = self.channels[i]
        return sent.new_zeros(shape).index_copy(axis, self.get_buffer(f"kept_{i}"), sent)


def _makers(client: nn.Module, specs: Sequence[TensorSpec]) -> list[list[str]]:
    """Modules that lose outputs with the channels of each tensor; none where that cannot be."""
    if not isinstance(client, fx.GraphModule):
        return [[] for _ in specs]
    released = client.graph.output_node().args[0]
    assert isinstance(released, tuple)
    once = [node.target for node in client.graph.nodes if node.op == "call_module"]
    return [
        _chain(client, node, nn.Conv2d if len(spec.shape) == 3 else nn.Linear, once)
        for node, spec in zip(released, specs, strict=True)
    ]


def _chain(
    client: fx.GraphModule, node: object, maker: type[nn.Module], calls: Sequence[object]
) -> list[str]:
    """From a released node back to the layer that makes its channels; empty without one."""
    found: list[str] = []
    while isinstance(node, fx.Node) and len(node.users) == 1:
        if node.op == "call_module":
            name = str(node.target)
            module = client.get_submodule(name)
            if calls.count(node.target) > 1:
                return []
            if isinstance(module, maker):
                grouped = isinstance(module, nn.Conv2d) and module.groups > 1
                return [] if grouped else [*found, name]
            if not isinstance(module, _BY_CHANNEL):
                return []
            if isinstance(module, nn.BatchNorm2d):
                found.append(name)
        elif node.op != "call_function" or node.target not in _FUNCTIONS:
            return []
        node = node.args[0]
    return []


def _narrow(layer: nn.Module, whole: nn.Module, kept: Tensor) -> None:
    """Give a layer these outputs of another one."""
    for name in _TENSORS:
        value = getattr(whole, name, None)
        if value is not None:
            part = value.detach()[kept.to(value.device)].clone()
            parameter = isinstance(value, nn.Parameter)
            grad = value.requires_grad
            setattr(layer, name, nn.Parameter(part, requires_grad=grad) if parameter else part)
    for name in _SIZES:
        if hasattr(layer, name):
            setattr(layer, name, len(kept))
