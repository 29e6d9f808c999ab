"""One plan of the front that is good in everything, and how much the front covers."""

from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray

from experiments.plan_page.report import Report
from offloading.planner import OBJECTIVES, Index

VOLUME = ("latency_ms", "leakage", "usd_per_million")
RAW = "send raw image to "  # the cloud, or the farthest tier that there is
BEYOND = 1.1  # the reference point lies so far behind the corners that these count too


@dataclass(frozen=True)
class Volume:
    """How much the front covers.

    Attributes:
        share: Of the box between zero and the reference point.
        reference: Of the latter, by objective.
        corners: Names of the baselines that it lies behind.
    """

    share: float
    reference: dict[str, float]
    corners: tuple[str, ...]


def knee(report: Report) -> Index | None:
    """The plan of the front whose worst objective is least.

    Objectives are scaled to [0, 1] over the front; the distance to its ideal corner is Chebyshev's.
    """
    if not report.outcome.front:
        return None
    points = _points(report, OBJECTIVES)
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    worst = scaled.max(axis=1)
    order = np.lexsort([scaled.sum(axis=1), worst])
    return report.planner.front[int(order[0])]


def volume(report: Report) -> Volume | None:
    """Hypervolume of the front in latency, leakage and price.

    The reference point is a tenth behind the worse, in each, of the whole model on the device and
    of the raw image to the cloud or the farthest tier: the two corners that need no planner. None
    where one is missing or overloaded, or both are zero in something.
    """
    baselines = report.outcome.baselines
    names = [n for n in baselines if n == "all on the device" or n.startswith(RAW)]
    if not report.outcome.front or len(names) != 2:
        return None
    each = [[baselines[n].plan.figures[name].value for name in VOLUME] for n in names]
    reference = BEYOND * np.max(np.array(each), axis=0)
    if not np.isfinite(reference).all() or (reference <= 0).any():
        return None
    points = _points(report, VOLUME) / reference
    share = float(moocore.hypervolume(points, ref=np.ones(len(VOLUME))))
    return Volume(share, dict(zip(VOLUME, map(float, reference), strict=True)), tuple(names))


def _points(report: Report, names: Sequence[str]) -> NDArray[np.float64]:
    """Objectives of the front, ``(plans, names)``."""
    figures = [judged.plan.figures for judged in report.outcome.front]
    return np.array([[each[name].value for name in names] for each in figures])
