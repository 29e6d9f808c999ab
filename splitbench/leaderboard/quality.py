"""How near guesses come to the truth by each measure, under the attack that is best by it.

No one measure of images agrees with what people recognise, and the attack that errs least per
pixel is rarely the one whose guesses look most alike. So each measure has a best attack of its
own.

References:
    Sun et al. "Privacy assessment on reconstructed images: are existing evaluation metrics
    faithful to human perception?" NeurIPS 2023. arXiv:2309.13038
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from splitbench.leaderboard.evidence import BLIND, AttackKey, System, bootstrap
from splitbench.leaderboard.rows import Quality
from splitbench.leaderboard.seeds import over_seeds
from splitbench.record import Interval, Record
from splitbench.statistics import Array

BY_PIXEL = "mse"  # which L is about: it has a way of its own to deal with few targets


def qualities(system: System, resamples: int) -> dict[str, Quality]:
    """For each measure of the records but the squared error its best attack, and how good that is.

    Best is who has the best mean over all targets: the largest, or of a distance the smallest.
    Floors take no part, being the zero of the scale. For an attack on the first few targets the
    mean on all is estimated: that of the best thorough attack, plus the mean difference between
    the two on those few.

    Args:
        system: At least one real attack succeeded.
        resamples: Of each bootstrap.
    """
    records = [r for key in system.real for r in system.records_of(key)]
    names = {name for r in records for name in r.ceilings if {*_blind(name)} <= {*r.floors}}
    found = {name: _best(system, name, resamples) for name in sorted(names - {BY_PIXEL})}
    return {name: best for name, best in found.items() if best is not None}


def _best(system: System, name: str, resamples: int) -> Quality | None:
    """The best attack by one measure; None where no attack was measured by it at all seeds."""
    keys = [k for k in system.real if all(name in r.leakage for r in system.records_of(k))]
    if not keys:
        return None
    most = max(_targets(system, key) for key in keys)
    sign = -1 if _falls(system.records_of(keys[0])[0], name) else 1
    means = {
        key: float(np.mean([r.leakage[name].mean for r in system.records_of(key)]))
        for key in keys
        if _targets(system, key) == most
    }
    companion = max(means, key=lambda key: sign * means[key])
    for key in keys:
        if key not in means:
            tables = _columns(system, key, companion, name)
            means[key] = float(_on_all(tables)(np.mean([t.mean(0) for t in tables], axis=0)))
    best = max(means, key=lambda key: sign * means[key])
    if _targets(system, best) == most:
        return _as_recorded(system, best, name)
    tables = _columns(system, best, companion, name)
    value = bootstrap(tables, _on_all(tables), resamples)
    return _scaled(Quality(attack=best[1], value=value), system.records_of(companion), name)


def _targets(system: System, key: AttackKey) -> int:
    return system.records_of(key)[0].targets


def _falls(record: Record, name: str) -> bool:
    """Whether a guess is the better the lower it scores: a distance is 0 for the truth alone."""
    return record.ceilings[name] == 0 < min(record.floors[each] for each in _blind(name))


def _blind(name: str) -> list[str]:
    return [f"{each.split('/')[0]}/{name}" for each in BLIND]


def _as_recorded(system: System, key: AttackKey, name: str) -> Quality | None:
    records = system.records_of(key)
    value = over_seeds([r.leakage[name] for r in records])
    if value is None:
        return None
    return Quality(key[1], value, over_seeds([r.normalised.get(name) for r in records]))


def _scaled(found: Quality, records: list[Record], name: str) -> Quality:
    """With its place between floor and ceiling, if these are clearly apart in such records."""
    if not all(name in r.normalised for r in records):
        return found
    choose = min if _falls(records[0], name) else max
    floor = float(np.mean([choose(r.floors[each] for each in _blind(name)) for r in records]))
    span = float(np.mean([r.ceilings[name] for r in records])) - floor
    ends = sorted((end - floor) / span for end in (found.value.low, found.value.high))
    mean = (found.value.mean - floor) / span
    interval = Interval(mean=mean, low=ends[0], high=ends[1], n=found.value.n)
    return replace(found, normalised=interval)


def _columns(system: System, few: AttackKey, companion: AttackKey, name: str) -> list[Array]:
    """Per seed ``(images, 4)``, the few padded with zeros, of which `_on_all` takes the means.

    Scores of the few, which images these are, and the companion's scores on all and on these.
    """
    tables = []
    for mine, other in zip(system.scores_of(few), system.scores_of(companion), strict=True):
        whole = np.asarray(other.metrics[name], dtype=np.float64)
        own = np.zeros_like(whole)
        own[: len(mine.metrics[name])] = mine.metrics[name]
        tried = (np.arange(len(whole)) < len(mine.metrics[name])).astype(np.float64)
        tables.append(np.stack([own, tried, whole, whole * tried], axis=1))
    return tables


def _on_all(tables: Sequence[Array]) -> Callable[[Array], Array]:
    """Statistic of `_columns`: the companion's mean, plus the mean difference to it on the few.

    Kept among the scores of single images, beyond which no mean lies.
    """
    scores = np.concatenate([np.append(t[t[:, 1] > 0, 0], t[:, 2]) for t in tables])

    def statistic(means: Array) -> Array:
        tried = means[..., 1]
        gap = (means[..., 0] - means[..., 3]) / np.where(tried > 0, tried, 1)
        estimate = means[..., 2] + np.where(tried > 0, gap, 0)
        return np.clip(estimate, scores.min(), scores.max())

    return statistic
