"""Which channels of a client can be removed, and where: a piece of pruning, not a defense."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from splitbench.release import TensorSpec, channels_of

_ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Sigmoid,
    nn.Tanh, nn.Softplus, nn.Identity, nn.Dropout,
)  # fmt: skip
# What treats every channel by itself, so that a channel can be removed before it.
_BY_CHANNEL = (*_ELEMENTWISE, nn.MaxPool2d, nn.AvgPool2d, nn.BatchNorm2d)
_WITHIN = (*_BY_CHANNEL, nn.AdaptiveAvgPool2d)
_FUNCTIONS = (torch.relu, functional.relu, torch.sigmoid, torch.tanh, functional.gelu)


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that one layer makes, with every place that has them.

    Attributes:
        channels: How many there are.
        makers: Layers that lose outputs with them: the one that makes them, and normalisations
            behind it. None where the channels have to be computed.
        readers: Layers that lose inputs with them, and how many inputs each channel is.
    """

    channels: int
    makers: tuple[str, ...]
    readers: Mapping[str, int]


def groups_at_cut(client: nn.Module, specs: Sequence[TensorSpec]) -> list[ChannelGroup]:
    """The channels of each live tensor; nobody in the client reads them where they have makers.

    They have makers where the client is a graph, and between a convolution or linear layer and the
    cut lies nothing but layers that treat each channel by itself, called once, read by nobody else.
    """
    channels = [channels_of(spec.shape) for spec in specs]
    if not isinstance(client, fx.GraphModule):
        return [ChannelGroup(count, (), {}) for count in channels]
    released = client.graph.output_node().args[0]
    assert isinstance(released, tuple)
    once = [node.target for node in client.graph.nodes if node.op == "call_module"]
    kinds = [nn.Conv2d if len(spec.shape) == 3 else nn.Linear for spec in specs]
    return [
        ChannelGroup(count, tuple(_chain(client, node, kind, once)), {})
        for count, node, kind in zip(channels, released, kinds, strict=True)
    ]


def groups_within(client: nn.Module) -> list[ChannelGroup]:
    """The channels that are made and read within the client, and can be removed.

    Their layer and all that read them are convolutions without groups or linear layers, whose
    weights are used once. Between these lies nothing but layers that treat each channel by itself,
    and what flattens maps. The channels of all other layers, such as those that are added,
    concatenated or released, are in no group; nor is any where the client is no graph.
    """
    if not isinstance(client, fx.GraphModule):
        return []
    nodes = list(client.graph.nodes)
    uses = Counter(id(t) for node in nodes for t in _tensors(client, node))
    found = (_followed(client, node, uses) for node in nodes)
    return [group for group in found if group is not None]


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


def _followed(
    client: fx.GraphModule, node: fx.Node, uses: Mapping[int, int]
) -> ChannelGroup | None:
    """From the layer that makes channels on to all that read them; None where that is in vain."""
    layer = _module(client, node)
    if not _mixes(layer) or not _is_alone(client, node, uses):
        return None
    channels = len(layer.get_parameter("weight"))
    makers, readers = [str(node.target)], dict[str, int]()
    ahead = [(user, isinstance(layer, nn.Conv2d)) for user in node.users]
    while ahead:
        user, as_maps = ahead.pop()
        module = _module(client, user)
        if not _is_alone(client, user, uses):
            return None
        if _mixes(module) and isinstance(module, nn.Conv2d) == as_maps:
            readers[str(user.target)] = module.get_parameter("weight").shape[1] // channels
            continue
        flat = as_maps and _flattens(user, module)
        if not flat and not _treats_each(user, module, as_maps):
            return None
        if isinstance(module, nn.BatchNorm2d):
            makers.append(str(user.target))
        ahead += [(later, as_maps and not flat) for later in user.users]
    return ChannelGroup(channels, tuple(makers), readers) if readers else None


def _module(client: fx.GraphModule, node: fx.Node) -> nn.Module:
    """The module that a node calls; one that does nothing for any other node."""
    return client.get_submodule(str(node.target)) if node.op == "call_module" else nn.Module()


def _tensors(client: fx.GraphModule, node: fx.Node) -> list[Tensor]:
    """Parameters and buffers that a node reads."""
    if node.op == "get_attr":
        path, _, name = str(node.target).rpartition(".")
        value = getattr(client.get_submodule(path), name)
        return [value] if isinstance(value, Tensor) else []
    module = _module(client, node)
    return list(chain(module.parameters(), module.buffers()))


def _is_alone(client: fx.GraphModule, node: fx.Node, uses: Mapping[int, int]) -> bool:
    """Whether no other node reads the same weights: neither another call nor a tied layer."""
    return all(uses[id(tensor)] == 1 for tensor in _tensors(client, node))


def _mixes(module: nn.Module) -> bool:
    """Whether each output is made from all inputs, by weights ``(outputs, inputs, ...)``."""
    plain = isinstance(module, nn.Conv2d) and module.groups == 1
    return plain or isinstance(module, nn.Linear)


def _treats_each(node: fx.Node, module: nn.Module, as_maps: bool) -> bool:
    """Whether each channel is treated by itself, of maps or of vectors."""
    if node.op == "call_function":
        return node.target in _FUNCTIONS
    return isinstance(module, _WITHIN if as_maps else _ELEMENTWISE)


def _flattens(node: fx.Node, module: nn.Module) -> bool:
    """Whether maps become one vector per image, channel after channel."""
    if isinstance(module, nn.Flatten):
        return (module.start_dim, module.end_dim) == (1, -1)
    return node.target is torch.flatten and node.args[1:] == (1,) and not node.kwargs
