"""Watching and disturbing the global random number generators, which nothing may use."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def global_randomness() -> tuple[bytes, bytes]:
    """State of the global generators of torch and NumPy.

    That of Python is left out: tools that check types at run time draw from it. What depends on
    it is found out by `disturbed`.
    """
    numbers = np.random.get_state(legacy=False)["state"]  # noqa: NPY002  # looks, draws nothing
    return torch.get_rng_state().numpy().tobytes(), repr(numbers).encode()


@contextmanager
def disturbed() -> Iterator[None]:
    """Put all global generators into another state for a while."""
    numbers, python = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        try:
            torch.rand(1)
            np.random.rand()  # noqa: NPY002  # the global one is what this is about
            random.random()  # noqa: S311  # no secret
            yield
        finally:
            np.random.set_state(numbers)  # noqa: NPY002
            random.setstate(python)
