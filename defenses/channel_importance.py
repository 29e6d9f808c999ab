"""What the loss owes to channels: a piece of pruning, not a defense."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.channel_groups import ChannelGroup
from splitbench.data.images import LabeledImages
from splitbench.release import channel_axis
from splitbench.split import Split


def importance(
    split: Split, train: LabeledImages, *, batch_size: int, groups: Sequence[ChannelGroup] = ()
) -> list[Tensor]:
    """What the loss owes to each channel, to first order, from one backward pass over the data.

    Args:
        split: Undefended.
        train: The train role.
        batch_size: Images per pass, > 0.
        groups: Channels within the client; they count where they are read, as that is where their
            removal leaves zeros.

    Returns:
        ``(channels,)`` for each tensor of the cut, then for each group: the mean over the images
        of ``|sum over positions of activation x gradient|``.

    Raises:
        ValueError: A layer that reads a group has no batch as its first axis.
    """
    device = next((p.device for p in split.server.parameters()), torch.device("cpu"))
    worth: list[Tensor] = []
    for index in torch.arange(len(train)).split(batch_size):
        images, labels = train.images(index).to(device), train.labels[index].to(device)
        with (
            _gates(split.client, groups, len(index), device) as gates,
            torch.set_grad_enabled(bool(gates)),
        ):
            features = tuple(split.client(images))
        if not gates:
            features = tuple(f.detach() for f in features)
        features = tuple(f.requires_grad_() for f in features)
        loss = functional.cross_entropy(split.server(features), labels, reduction="sum")
        slopes = torch.autograd.grad(loss, (*features, *gates))
        products = (f.detach() * g for f, g in zip(features, slopes, strict=False))
        parts = [_summed(p).abs().sum(0) for p in products]
        parts += [slope.abs().sum(0) for slope in slopes[len(features) :]]
        worth = [a + b for a, b in zip(worth, parts, strict=True)] if worth else parts
    return [total / len(train) for total in worth]


@contextmanager
def _gates(
    client: nn.Module, groups: Sequence[ChannelGroup], count: int, device: torch.device
) -> Iterator[list[Tensor]]:
    """Factors of one for each image and channel, ``(count, channels)``, applied where it is read.

    Their gradient is the sum over all positions of activation x gradient.
    """
    gates = [torch.ones(count, g.channels, device=device, requires_grad=True) for g in groups]
    with ExitStack() as stack:
        for gate, group in zip(gates, groups, strict=True):
            for name, inputs in group.readers.items():
                hook = partial(_gated, gate=gate, inputs=inputs)
                reader = client.get_submodule(name)
                stack.callback(reader.register_forward_pre_hook(hook).remove)
        yield gates


def _gated(reader: nn.Module, read: tuple[Tensor], *, gate: Tensor, inputs: int) -> Tensor:
    """What a layer reads, times the factor of each channel."""
    (values,) = read
    if len(values) != len(gate):
        raise ValueError(
            f"{reader} reads {tuple(values.shape)} of {len(gate)} images: layers='all' needs the "
            "batch as the first axis within the client; use layers='cut'"
        )
    shape = [1] * values.ndim
    shape[0], shape[1 if isinstance(reader, nn.Conv2d) else -1] = len(gate), -1
    return values * gate.repeat_interleave(inputs, dim=1).reshape(shape)


def _summed(products: Tensor) -> Tensor:
    """The sum over positions, ``(b, channels)``."""
    axis = channel_axis(products)
    others = [a for a in range(1, products.ndim) if a != axis]
    return products.sum(others) if others else products
