"""All that an object holds, to see later what has changed."""

from collections.abc import Iterator, Mapping
from enum import Enum
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from splitbench.threat import Surface

SHOWN = str | bytes | int | float | complex | Enum | type | ModuleType | Surface | None


def portrait(thing: object, name: str) -> dict[str, object]:
    """Every value that can be reached through attributes and containers, by how it is reached.

    Of tensors and generators the bits are taken, of caches how much is in them. Surfaces and
    modules of Python are not looked into.

    Args:
        thing: Anything; left as it is.
        name: What paths begin with.
    """
    return dict(_leaves(thing, name, frozenset()))


def differences(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Paths of values that are new, gone or changed, in order."""
    paths = dict.fromkeys([*before, *after])
    return [path for path in paths if before.get(path, paths) != after.get(path, paths)]


def _leaves(value: object, path: str, above: frozenset[int]) -> Iterator[tuple[str, object]]:
    """Paths and values of what is inside; what is inside itself is left out."""
    if id(value) in above:
        return
    inside = _inside(value, path)
    if inside is None:
        yield path, _bits(value)
        return
    for where, one in inside.items():
        yield from _leaves(one, where, above | {id(value)})


def _inside(value: object, path: str) -> dict[str, object] | None:
    """What a value consists of, by its path; None where it is taken as a whole."""
    if isinstance(value, SHOWN | Tensor | np.ndarray | torch.Generator):
        return None
    if hasattr(value, "cache_info"):
        return None
    if isinstance(value, Mapping):
        return {f"{path}[{key!r}]": one for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return {f"{path}[{i}]": one for i, one in enumerate(value)}
    if hasattr(value, "__dict__"):
        return {f"{path}.{key}": one for key, one in vars(value).items()}
    return None


def _bits(value: object) -> object:
    """What is compared."""
    if isinstance(value, torch.Generator):
        value = value.get_state()
    if isinstance(value, Tensor):
        bits = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
        return value.dtype, tuple(value.shape), bits.numpy().tobytes()
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    if hasattr(value, "cache_info"):
        return value.cache_info().currsize
    return repr(value)
