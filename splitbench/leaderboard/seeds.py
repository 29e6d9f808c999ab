"""Means over seeds of what records hold as intervals."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from splitbench.record import Interval


def over_seeds(intervals: Sequence[Interval | None]) -> Interval | None:
    """Mean over seeds of a quantity whose images are the same under every seed.

    The images' part of the error is the mean of the seeds' own intervals; what the seeds add is
    Student's t of their spread; the two are added in squares.
    """
    known = [i for i in intervals if i is not None]
    if len(known) <= 1:
        return known[0] if known else None
    means = np.array([i.mean for i in known])
    mean, count = float(means.mean()), len(known)
    spread = float(stats.t.ppf(0.975, count - 1) * means.std(ddof=1) / np.sqrt(count))
    below = float(np.mean([i.mean - i.low for i in known]))
    above = float(np.mean([i.high - i.mean for i in known]))
    return Interval(
        mean=mean,
        low=mean - float(np.hypot(below, spread)),
        high=mean + float(np.hypot(above, spread)),
        n=known[0].n,
    )
