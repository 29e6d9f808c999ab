"""Named random streams: adding a consumer of randomness moves no other."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from splitbench.placement import on_the_cpu


def stream(seed: int, *names: str) -> torch.Generator:
    """Return the CPU generator of one named purpose.

    Args:
        seed: The experiment's seed, >= 0.
        *names: What the stream is for, from general to particular, e.g. ``"attack", "relu1"``.

    Returns:
        A fresh generator. Equal arguments give equal streams; streams with different names are
        independent for all practical purposes (seeded by SHA-256 of the names).
    """
    digest = hashlib.sha256(repr((seed, names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@contextmanager
def isolated(generator: torch.Generator) -> Iterator[None]:
    """Seed torch's global CPU generator from `generator` for a while, then put it back.

    For library code that offers no generator argument, such as the initialisation of modules.
    What is made meanwhile is made on the CPU, so that the numbers do not depend on a device; move
    it afterwards.
    """
    seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))
    with torch.random.fork_rng(devices=[]), on_the_cpu():
        torch.manual_seed(seed)
        yield


def normal_like(values: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise of the shape, dtype and device of `values`."""
    noise = torch.randn(values.shape, generator=generator, dtype=values.dtype)
    return noise.to(values.device)


def uniform_like(values: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform noise in [0, 1) of the shape, dtype and device of `values`."""
    noise = torch.rand(values.shape, generator=generator, dtype=values.dtype)
    return noise.to(values.device)
