"""What the releases of a row tell besides the image."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from splitbench.advantage import Trials, judged
from splitbench.guarantee import Guarantee
from splitbench.leaderboard.evidence import Evidence, LeaderboardError
from splitbench.leaderboard.rows import Inferred
from splitbench.record import Interval
from splitbench.statistics import Resampler, Summary

ARRAYS = ("right", "group", "pixels")


def inferred(evidence: Sequence[Evidence], resamples: int) -> tuple[Inferred, ...]:
    """One entry for each secret and inference, pooled over the seeds at which it succeeded.

    Args:
        evidence: Records of one system whose secret is not the image.
        resamples: Of every bootstrap.

    Raises:
        LeaderboardError: A successful record lacks its scores.
    """
    groups: dict[tuple[str, str, str], list[Evidence]] = {}
    for item in sorted(evidence, key=lambda e: e.record.cell.seed):
        cell = item.record.cell
        groups.setdefault((cell.secret, cell.attack_name, cell.attack), []).append(item)
    return tuple(_entry(key, groups[key], resamples) for key in sorted(groups))


def beats(guarantee: Guarantee, found: Sequence[Inferred]) -> bool:
    """Whether an attribute is recognised more often than a formal guarantee lets anybody.

    The bound is about the mean rate over the values of an attribute, which balanced accuracy is;
    persons are not asked for equally often, and are left out. One over the prior is the number of
    values.
    """
    return any(
        one.rate is not None
        and one.prior is not None
        and one.secret.startswith("attribute ")
        and one.rate.low > guarantee.best_guess(candidates=round(1 / one.prior))
        for one in found
    )


def _entry(key: tuple[str, str, str], items: list[Evidence], resamples: int) -> Inferred:
    good = [e for e in items if e.record.status == "ok"]
    problems = dict.fromkeys(
        e.record.error or e.record.status for e in items if e.record.status != "ok"
    )
    entry = Inferred(
        secret=key[0],
        name=key[1],
        expression=key[2],
        seeds=len(good),
        failed=any(e.record.status == "failed" for e in items),
        note="; ".join(problems),
        cells=tuple(e.record.cell_id for e in items),
    )
    if not good:
        return entry
    floors, ceilings = good[0].record.floors, good[0].record.ceilings
    prior = floors["prior"]
    trials = [_trials(e) for e in good]
    found = judged(trials, prior=prior, resampler=Resampler(resamples=resamples))
    return replace(
        entry,
        rate=_interval(found.score),
        advantage=None if found.advantage is None else _interval(found.advantage),
        prior=prior,
        prediction=found.prediction if "prediction" in floors else None,
        pixels=found.pixels if "pixels" in ceilings else None,
    )


def _trials(item: Evidence) -> Trials:
    scores = item.scores
    known = scores is not None and {*ARRAYS} <= {*scores.metrics} and "prediction" in scores.floors
    if scores is None or not known:
        raise LeaderboardError(
            f"cell {item.record.cell_id} succeeded, but its scores are missing: delete its record "
            "and run it again"
        )
    return Trials(
        groups=scores.metrics["group"].astype(np.int64),
        right=scores.metrics["right"] > 0,
        prediction=scores.floors["prediction"] > 0,
        pixels=scores.metrics["pixels"] > 0,
    )


def _interval(summary: Summary) -> Interval:
    return Interval(mean=summary.mean, low=summary.low, high=summary.high, n=summary.n)
