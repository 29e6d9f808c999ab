"""CIFAR's batches are pickles of Python 2; here they are read without trust."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splitbench.data.source import DataDamagedError

LARGEST_BYTES = 256 << 20
# All that a damaged or hostile stream can make the reader below raise.
_REFUSALS = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
)


# Stands for the class numpy.ndarray: the class itself could be called, with any size.
_ARRAY = object()


def _reconstruct(kind: object, shape: object, _: object) -> NDArray[np.uint8]:
    # NumPy's own function allocates whatever shape the stream states; a batch states none.
    if kind is not _ARRAY or shape != (0,):
        raise pickle.UnpicklingError(f"it makes an array of shape {shape!r} out of {kind!r}")
    return np.ndarray.__new__(np.ndarray, (0,), np.uint8)


def _dtype(code: object, *_: object) -> "np.dtype[np.uint8]":
    if code not in ("u1", "|u1"):
        raise pickle.UnpicklingError(f"it makes an array of type {code!r}")
    return np.dtype(np.uint8)


class _ByteArraysOnly(pickle.Unpickler):
    """Allows the containers, strings and numbers of pickle, and NumPy's arrays of bytes."""

    _allowed: Mapping[tuple[str, str], Any] = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _ARRAY,
        ("numpy", "dtype"): _dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Refuse all names but those of an array."""
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return self._allowed[module, name]


def read_batch(path: Path) -> dict[str, Any]:
    """Read one pickle of CIFAR without running anything that is in it.

    Raises:
        DataDamagedError: The file is too large, not a pickle of a dictionary, or holds anything
            but containers, strings, numbers and arrays of bytes.
    """
    if path.stat().st_size > LARGEST_BYTES:
        raise DataDamagedError(f"{path} has more than {LARGEST_BYTES} bytes: not a batch of CIFAR")
    try:
        with path.open("rb") as file:
            batch = _ByteArraysOnly(file, encoding="latin1").load()
    except _REFUSALS as error:
        raise DataDamagedError(f"{path} is not a batch of CIFAR: {error}") from error
    if not isinstance(batch, dict):
        raise DataDamagedError(f"{path} is not a batch of CIFAR: it holds a {type(batch).__name__}")
    return batch


def read_images(path: Path, *, label_key: str, classes: int) -> tuple[Tensor, Tensor]:
    """Read pixels uint8 ``(n, 3, 32, 32)`` and labels int64 ``(n,)`` of one batch.

    Raises:
        DataDamagedError: The batch does not hold images and labels.
    """
    batch = read_batch(path)
    data, labels = batch.get("data"), batch.get(label_key)
    if not (isinstance(data, np.ndarray) and data.ndim == 2 and data.shape[1] == 3 * 32 * 32):
        raise DataDamagedError(f"{path} holds no images of 32 x 32 pixels under 'data'")
    if not (
        isinstance(labels, list)
        and len(labels) == len(data)
        and all(type(label) is int and 0 <= label < classes for label in labels)
    ):
        raise DataDamagedError(
            f"{path} holds no {len(data)} labels below {classes} under {label_key!r}"
        )
    return torch.from_numpy(data.reshape(-1, 3, 32, 32)), torch.tensor(labels)
