"""Tensors to bytes and back."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from splitbench.described import Described
from splitbench.release import Tensors, TensorSpec


class CodecError(ValueError):
    """The bytes are not a message of this codec, or are damaged, or claim more than is allowed."""


class Codec(Described, ABC):
    """Encodes the live tensors of one example into real bytes.

    The payload of a release is the length of what `encode` returns; nothing else is counted and
    nothing is left out. `decode` may be handed anything by a peer: it raises `CodecError` before
    it allocates what a header merely claims, and never unpickles.

    Class attributes:
        lossless: ``decode(encode(x))`` equals x for every float32 tensor.
    """

    lossless: ClassVar[bool]

    @abstractmethod
    def encode(self, tensors: Sequence[Tensor]) -> bytes:
        """Encode the tensors of one example (no batch axis).

        Raises:
            ValueError: A tensor cannot be carried: not finite, of a wrong dtype or shape, or
                larger than allowed. The message names the tensor.
        """

    @abstractmethod
    def decode(self, payload: bytes) -> Tensors:
        """Decode one message into tensors without a batch axis, on the CPU: live ones first.

        Raises:
            CodecError: The bytes are truncated, corrupted, of another codec or too large.
        """

    @abstractmethod
    def transform(self, tensors: Tensors) -> Tensors:
        """What ``decode(encode(.))`` does to each example of a batch, without making bytes.

        Equal to the real round trip bit for bit (a contract check compares them), and raises
        what `encode` raises.
        """

    @abstractmethod
    def payload_bound(self, specs: Sequence[TensorSpec]) -> int:
        """Largest payload in bytes for one example; exact without entropy coding."""

    def beside(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """What `decode` and `transform` return after the live tensors, by name and shape.

        For values that travel, and so are the adversary's to read, but are no feature that the
        server takes: masks, indices, exit decisions. They become `Release.side`. A codec whose
        decoded tensors already say all that its messages say has nothing here, which is the
        default: the ends of a quantiser's range are the smallest and the largest decoded value,
        and the places of kept values are those that are not zero.

        Args:
            specs: Of the live tensors.
        """
        del specs
        return ()

    def interval(self, decoded: Tensors) -> tuple[Tensors, Tensors] | None:
        """Lower and upper ends of the values that may have been encoded, or None.

        A likelihood attack uses it: every input in between explains the message equally well.
        None where nothing was lost, and where the loss is not a box around each value.

        Args:
            decoded: Decoded tensors of a batch, each ``(b, *shape)``.

        Returns:
            Two tuples of tensors like `decoded`; both ends belong to the interval and may be
            infinite.
        """
        del decoded
        return None

    def distance(self, decoded: Tensors, features: Tensors) -> Tensor:
        """How badly `features` explain the message `decoded`, per example; shape ``(b,)``, >= 0.

        Squared error, or the squared distance to the quantisation cell for lossy codecs.
        Differentiable in `features`.
        """
        cells = self.interval(decoded)
        total = torch.zeros(len(decoded[0]), device=decoded[0].device)
        for i, (seen, value) in enumerate(zip(decoded, features, strict=True)):
            if cells is None:
                error = value.float() - seen.float()
            else:
                low, high = cells[0][i].float(), cells[1][i].float()
                error = torch.relu(low - value.float()) + torch.relu(value.float() - high)
            total = total + error.unsqueeze(-1).flatten(1).square().sum(1)
        return total
