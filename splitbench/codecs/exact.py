"""Tensors that travel unchanged, as little-endian bytes."""

import numpy as np
import torch
from torch import Tensor

from splitbench.codecs.bitpack import pack, packed_bytes, unpack
from splitbench.release import TensorSpec

_LAYOUT = {"float32": "<f4", "int16": "<i2", "int32": "<i4", "int64": "<i8"}


def exact_bytes(spec: TensorSpec) -> int:
    """Length of the bytes of one tensor; booleans take one bit each."""
    return packed_bytes(spec.numel, 1) if spec.dtype == "bool" else spec.bytes


def to_bytes(values: Tensor) -> bytes:
    """Write a tensor on the CPU of any dtype that a message can hold."""
    flat = values.reshape(values.numel()).numpy()
    if values.dtype == torch.bool:
        return pack(flat, 1)
    return flat.astype(flat.dtype.newbyteorder("<"), copy=False).tobytes()


def from_bytes(body: bytes, spec: TensorSpec) -> Tensor:
    """Undo `to_bytes`.

    Raises:
        CodecError: Unused bits of packed booleans are set.
    """
    if spec.dtype == "bool":
        flat = unpack(body, spec.numel, 1).astype(np.bool_)
    else:
        flat = np.frombuffer(body, _LAYOUT.get(spec.dtype, spec.dtype)).astype(spec.dtype)
    return torch.from_numpy(flat).reshape(spec.shape)
