"""How long the same work takes from one request to the next."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Sampler = Callable[[int, np.random.Generator], Array]
"""Draws so many independent times in milliseconds."""

NORMAL_P95 = 1.6448536269514722  # standard deviations below which 95 % of a normal law lie


def lognormal(p50_ms: float, tail_ms: float = 0.0) -> Sampler:
    """Times with this median, whose 95th percentile is so much above it.

    Raises:
        ValueError: A negative time.
    """
    if not (p50_ms >= 0 and tail_ms >= 0):
        raise ValueError(f"p50_ms={p50_ms}, tail_ms={tail_ms}: must not be negative")
    deviation = np.log1p(tail_ms / p50_ms) / NORMAL_P95 if p50_ms else 0.0
    return lambda count, rng: p50_ms * np.exp(deviation * rng.standard_normal(count))


def exponential(mean_ms: float) -> Sampler:
    """Times as textbooks have them; measured ones are seldom like this."""
    return lambda count, rng: rng.exponential(mean_ms, count)


def resampled(times_ms: ArrayLike) -> Sampler:
    """Times that were measured, each as likely as the other.

    Raises:
        ValueError: None were given.
    """
    measured = np.asarray(times_ms, dtype=np.float64).ravel()
    if not measured.size:
        raise ValueError("no times to draw from")
    return lambda count, rng: rng.choice(measured, count)
