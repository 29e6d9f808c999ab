"""A codec whose messages say everything beside the live tensors."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from splitbench.codec import Codec
from splitbench.codecs.float32 import Float32
from splitbench.release import Tensors, TensorSpec


class Aside(Codec):
    """Sends the features beside the live tensors, which arrive as zeros."""

    lossless = False

    def encode(self, tensors: Sequence[Tensor]) -> bytes:
        """The features, as they are."""
        return Float32().encode(tensors)

    def decode(self, payload: bytes) -> Tensors:
        """Zeros, then the features."""
        return _aside(Float32().decode(payload))

    def transform(self, tensors: Tensors) -> Tensors:
        """Zeros, then the features."""
        return _aside(Float32().transform(tensors))

    def payload_bound(self, specs: Sequence[TensorSpec]) -> int:
        """As without anything beside."""
        return Float32().payload_bound(specs)

    def beside(self, specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """One tensor for each live one, of its shape."""
        return tuple(replace(spec, name=f"aside {spec.name}") for spec in specs)


def _aside(tensors: Tensors) -> Tensors:
    return (*(torch.zeros_like(t) for t in tensors), *tensors)
