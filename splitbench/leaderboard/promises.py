"""Whether a row does what its promise says nobody can: then one of the two is wrong."""

from collections.abc import Sequence

import numpy as np

from splitbench.guarantee import Guarantee
from splitbench.leaderboard.evidence import BLIND, AttackKey, System
from splitbench.statistics import Array, wilson

RECOVERED = 0.5  # L of one image above which it counts as rebuilt


def promises_of(system: System) -> tuple[Guarantee, tuple[Guarantee, ...]]:
    """What the defense promises, and the certificates; the weakest where seeds differ."""
    certificates = [
        [Guarantee.from_record(one) for one in record.certificates] for record in system.records
    ]
    weakest: dict[str, Guarantee] = {}
    for one in (one for each in certificates for one in each):
        bound = one.statement.split(":")[0]
        known = weakest.setdefault(bound, one)
        if (one.least_mse or 0) < (known.least_mse or 0):
            weakest[bound] = one
    return Guarantee.from_record(system.first.guarantee), tuple(weakest.values())


def broken(system: System, promises: Sequence[Guarantee]) -> bool:
    """Whether any attack of a row beats one of its promises by more than the intervals.

    Only promises that bind here are asked (`Guarantee.binds`).
    """
    return any(
        _rebuilds_too_often(system, key, promise)
        if promise.formal
        else _errs_too_little(system, key, promise)
        for promise in promises
        if promise.binds
        for key in system.real
    )


def _rebuilds_too_often(system: System, key: AttackKey, promise: Guarantee) -> bool:
    """Whether more targets are rebuilt than privacy allows.

    The prior is how often the very same guesses rebuild another target, of which they can know
    nothing. That is a prior for which the bound is proved: it holds for each pair of inputs, is
    concave, and so survives the mean over pairs. Both rates count with the far end of their
    intervals; targets are counted once, however many seeds there are.
    """
    rates = [_rates(s.metrics["mse"], s.null["mse"], np.stack([s.floors[b] for b in BLIND]))
             for s in system.scores_of(key) if "mse" in s.null]  # fmt: skip
    if not rates:
        return False
    n = len(system.scores_of(key)[0].metrics["mse"])
    found, blind = (wilson(round(share * n), n) for share in np.mean(rates, axis=0))
    return found.low > promise.best_reconstruction(prior=blind.high)


def _rates(mse: Array, null: Array, floors: Array) -> tuple[float, float]:
    """Share of the targets that guesses rebuild, and of the others that they then would."""
    enough = (1 - RECOVERED) * floors.mean(1).min()
    return float((mse < enough).mean()), float((null < enough).mean())


def _errs_too_little(system: System, key: AttackKey, promise: Guarantee) -> bool:
    """Whether the mean squared error lies below what is certified, with its whole interval."""
    highs = [record.leakage["mse"].high for record in system.records_of(key)]
    return promise.least_mse is not None and float(np.mean(highs)) < promise.least_mse
