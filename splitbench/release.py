"""What leaves the device."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]
SENT = "sent"  # name of the side value that says whether a message came at all


def channel_axis(values: Tensor) -> int:
    """Axis of the channels of a batch: 1 of images, the last one of tokens and of vectors."""
    return 1 if values.ndim == 4 else values.ndim - 1


def channels_of(shape: tuple[int, ...]) -> int:
    """Channels of one example: axis 0 of images, the last one of tokens and of vectors."""
    return (shape[0] if len(shape) == 3 else shape[-1]) if shape else 1


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape (without the batch axis) and dtype of one live tensor of a cut."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def numel(self) -> int:
        """Values per example."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes per example before any codec."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return self.numel * dtype.itemsize


@dataclass(frozen=True)
class Release:
    """The decoded message of a batch, all of it visible to the adversary.

    Attributes:
        tensors: The live tensors of the cut after defense and codec, each of shape ``(b, *shape)``.
        side: Everything else that travels (masks, indices, exit decisions), each ``(b, ...)``, or
            ``(b, k, ...)`` of k > 1 observations; see `Codec.beside`.
        payload_bytes: Length of the encoded message per example, shape ``(b,)``; None for
            releases that an adversary simulated without encoding them.
    """

    tensors: Tensors
    side: Mapping[str, Tensor] = field(default_factory=dict)
    payload_bytes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: slice | Tensor) -> "Release":
        """Select examples."""
        payload = None if self.payload_bytes is None else self.payload_bytes[index]
        return Release(
            tuple(t[index] for t in self.tensors),
            {name: value[index] for name, value in self.side.items()},
            payload,
        )

    @property
    def sent(self) -> Tensor | None:
        """Of which examples a message came, bool ``(b,)``; None where all are sent.

        The tensors of the others are zero, and the length of their message is 0.
        """
        told = self.side.get(SENT)
        return None if told is None else told[:, 0] > 0

    @property
    def visible(self) -> Tensors:
        """Everything that arrives: the live tensors, then what travels beside them, as named."""
        return (*self.tensors, *self.side.values())

    def flat(self) -> Tensor:
        """All values that the adversary sees as one float matrix, shape ``(b, values)``."""
        return torch.cat([p.unsqueeze(-1).flatten(1).float() for p in self.visible], dim=1)

    def detach(self) -> "Release":
        """The same release outside any autograd graph."""
        return replace(self, tensors=tuple(t.detach() for t in self.tensors))

    @staticmethod
    def concatenate(parts: "list[Release]") -> "Release":
        """Join batches into one."""
        payloads = [p.payload_bytes for p in parts]
        known = [p for p in payloads if p is not None]
        return Release(
            tuple(torch.cat(ts) for ts in zip(*(p.tensors for p in parts), strict=True)),
            {name: torch.cat([p.side[name] for p in parts]) for name in parts[0].side},
            torch.cat(known) if len(known) == len(payloads) else None,
        )
