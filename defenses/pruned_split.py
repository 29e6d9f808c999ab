"""A split with channels removed: what pruning does to both sides, not a defense."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from defenses.channel_groups import ChannelGroup, groups_at_cut, groups_within
from splitbench.release import Tensors, TensorSpec, channel_axis, channels_of

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)
_OUTPUTS = ("out_channels", "out_features", "num_features")
_INPUTS = ("in_channels", "in_features")
_TENSORS = ("weight", "bias", "running_mean", "running_var")


class PrunedClient(nn.Module):
    """A client that computes and sends some channels of each live tensor.

    The filters that make a channel which is not sent are removed with it where that can be done
    (`defenses.channel_groups`); elsewhere, as in an open residual connection, the channel is
    computed and left out. Channels within the client go together with the weights that read them.
    The weights that remain compute what the whole client does if the removed channels are zero
    where they are read, behind their normalisation and activation.

    Args:
        whole: The client up to the cut; copied.
        specs: Its features.
        remain: How many of so many channels remain, the first ones until `choose` says which.
        within: Whether channels that are made and read within the client are removed, too.
    """

    def __init__(
        self,
        whole: nn.Module,
        specs: Sequence[TensorSpec],
        remain: Callable[[int], int],
        *,
        within: bool = False,
    ) -> None:
        super().__init__()
        self.body = copy.deepcopy(whole)
        self._released = groups_at_cut(self.body, specs)
        self.inner: list[ChannelGroup] = groups_within(self.body) if within else []
        first = [torch.arange(remain(g.channels)) for g in (*self._released, *self.inner)]
        for i in range(len(self._released)):
            self.register_buffer(f"kept_{i}", first[i].clone())
        self.choose(whole, first)

    @property
    def kept(self) -> list[Tensor]:
        """Places of the channels of each tensor that are sent, ascending."""
        return [self.get_buffer(f"kept_{i}") for i in range(len(self._released))]

    @property
    def removes(self) -> list[bool]:
        """Whether the other channels of each tensor are not even computed."""
        return [bool(group.makers) for group in self._released]

    @property
    def left(self) -> list[str]:
        """Convolutions and linear layers of which every output is computed."""
        lose = {name for group in (*self._released, *self.inner) for name in group.makers}
        layers = [name for name, m in self.body.named_modules() if isinstance(m, _LAYERS)]
        return [name for name in layers if name not in lose]

    @torch.no_grad()
    def choose(self, whole: nn.Module, kept: Sequence[Tensor]) -> None:
        """Take these channels of the client that was pruned, with its weights.

        Args:
            whole: That client.
            kept: Places of the channels of each tensor, then of each of `inner`, ascending.
        """
        rows, columns = dict[str, Tensor](), dict[str, Tensor]()
        for group, index in zip((*self._released, *self.inner), kept, strict=True):
            rows |= dict.fromkeys(group.makers, index)
            columns |= {name: _each(index, count) for name, count in group.readers.items()}
        for buffer, index in zip(self.kept, kept, strict=False):
            buffer.copy_(index)
        for name in rows | columns:
            given, layer = whole.get_submodule(name), self.body.get_submodule(name)
            _narrow(layer, given, rows.get(name), columns.get(name))

    def forward(self, images: Tensor) -> Tensors:
        """Images ``(b, c, h, w)`` to the channels that are sent."""
        parts = zip(self.body(images), self.kept, self.removes, strict=True)
        return tuple(
            f if removed else f.index_select(channel_axis(f), kept) for f, kept, removed in parts
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


def _each(kept: Tensor, inputs: int) -> Tensor:
    """Places of the inputs of these channels, where each channel is so many in a row."""
    return (kept[:, None] * inputs + torch.arange(inputs, device=kept.device)).flatten()


def _narrow(
    layer: nn.Module, whole: nn.Module, rows: Tensor | None, columns: Tensor | None
) -> None:
    """Give a layer these outputs and inputs of another one; None is all of them."""
    for name in _TENSORS:
        value = getattr(whole, name, None)
        if value is not None:
            part = value.detach().clone()
            if rows is not None:
                part = part.index_select(0, rows.to(part.device))
            if columns is not None and name == "weight":
                part = part.index_select(1, columns.to(part.device))
            parameter = isinstance(value, nn.Parameter)
            grad = value.requires_grad
            setattr(layer, name, nn.Parameter(part, requires_grad=grad) if parameter else part)
    for names, kept in ((_OUTPUTS, rows), (_INPUTS, columns)):
        for name in names:
            if kept is not None and hasattr(layer, name):
                setattr(layer, name, len(kept))
