"""The evidence behind one row, as arrays that can be resampled together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from splitbench.leaderboard.simulable import Message
from splitbench.record import Interval, Record, Scores
from splitbench.statistics import Array, Resampler, hierarchical_bootstrap

BLIND = ("constant_color/mse", "mean_image/mse")  # what anybody can guess: the floor of L
RESAMPLES = 1000
WIDTH = 5  # columns of one attack

AttackKey = tuple[bool, str, str]  # is real (no floor), label, constructor expression


class LeaderboardError(ValueError):
    """The records contradict each other; the message names them."""


@dataclass(frozen=True)
class Evidence:
    """A record with its per-example scores; failed cells have none."""

    record: Record
    scores: Scores | None = None


class System:
    """One defended system under one adversary: records of several attacks and seeds.

    Numbers rest on the seeds at which every attack that ever succeeded did succeed, so that the
    best attack is chosen among equals.
    """

    def __init__(self, evidence: Sequence[Evidence]) -> None:
        """Hold the evidence of one row, at least one record."""
        self.records = [e.record for e in evidence]
        self.first = self.records[0]
        by_attack: dict[AttackKey, dict[int, Evidence]] = {}
        for item in evidence:
            cell = item.record.cell
            key = (not cell.floor, cell.attack_name, cell.attack)
            by_attack.setdefault(key, {})[cell.seed] = item
        self.attacks = {key: by_attack[key] for key in sorted(by_attack)}
        good = [
            {seed for seed, e in seeds.items() if e.record.status == "ok"}
            for seeds in self.attacks.values()
        ]
        finished = [seeds for seeds in good if seeds]
        self.seeds = tuple(sorted(set.intersection(*finished))) if finished else ()
        cell = self.first.cell
        self.message = Message(
            cut=cell.cut,
            cut_index=cell.cut_index,
            defense=cell.defense,
            codec=cell.codec,
            # Hydra's own keys, such as _target_, say nothing about the adversary.
            threat={k: v for k, v in cell.threat.items() if not k.startswith("_")},
            traits=dict(self.first.traits),
        )

    @property
    def targets(self) -> int:
        """Images that the most thorough attack took on."""
        return max(record.targets for record in self.records)

    @property
    def real(self) -> tuple[AttackKey, ...]:
        """Attacks that are no floors and succeeded."""
        return tuple(key for key in self.attacks if key[0] and self.records_of(key))

    def records_of(self, key: AttackKey) -> list[Record]:
        """Successful records of one attack, by seed; empty where it failed."""
        found = [self.attacks[key].get(seed) for seed in self.seeds]
        good = [e.record for e in found if e is not None and e.record.status == "ok"]
        return good if len(good) == len(self.seeds) else []

    def scores_of(self, key: AttackKey) -> list[Scores]:
        """Scores of one attack, by seed.

        Raises:
            LeaderboardError: A record lacks its scores, or the scores lack the floor.
        """
        scores = []
        for seed in self.seeds:
            item = self.attacks[key][seed]
            if item.scores is None or not {*BLIND} <= set(item.scores.floors):
                raise LeaderboardError(
                    f"cell {item.record.cell_id} succeeded, but its scores or floors are missing: "
                    "delete its record and run it again"
                )
            scores.append(item.scores)
        return scores

    def columns(self, images: int, keys: Sequence[AttackKey] | None = None) -> list[Array]:
        """Per seed a table ``(images, 5 attacks)``, of which `best_leakage` takes the means.

        For each attack its error, two blind errors, and twice the error of a companion: on all
        images, and on those that the attack took on. An attack on all images needs no companion;
        one on the first few is compared with the best thorough attack on the same few, so that
        it is not favoured by what images they are.
        """
        chosen = self.real if keys is None else keys
        companion = self._most_thorough()
        others = self.scores_of(companion) if companion else [None] * len(self.seeds)
        per_attack = [
            [_columns(s, o, images) for s, o in zip(self.scores_of(key), others, strict=True)]
            for key in chosen
        ]
        return [np.concatenate(parts, axis=1) for parts in zip(*per_attack, strict=True)]

    def _most_thorough(self) -> AttackKey | None:
        """Of the attacks on the most images the one with the least error."""
        if not self.real:
            return None
        errors = {
            key: [s.metrics["mse"] for s in self.scores_of(key)] for key in self.real if self.seeds
        }
        most = max(len(seeds[0]) for seeds in errors.values())
        means = {k: float(np.mean(e)) for k, e in errors.items() if len(e[0]) == most}
        return min(means, key=lambda key: (means[key], key))


def _columns(scores: Scores, companion: Scores | None, images: int) -> Array:
    own = np.stack([scores.metrics["mse"], *(scores.floors[name] for name in BLIND)], axis=1)
    if companion is None or len(own) == len(companion.metrics["mse"]):
        return _padded(np.pad(own, ((0, 0), (0, 2)), constant_values=1.0), images)
    error = companion.metrics["mse"]
    floors = [companion.floors[name] for name in BLIND]
    on_same = np.where(np.arange(len(error)) < len(own), error, 0.0)
    whole = np.stack([_padded(own[:, 0], len(error)), *floors, error, on_same], axis=1)
    return _padded(whole, images)


def _padded(values: Array, images: int) -> Array:
    """Zeros for the images that were not attacked: they cancel in every ratio of means."""
    after = [(0, images - len(values)), *[(0, 0)] * (values.ndim - 1)]
    return np.pad(values, after)


def best_leakage(means: Array) -> Array:
    """L of the best of some attacks, from means ``(..., 5 attacks)`` of `System.columns`.

    The error of an attack on a few images is estimated for all by its ratio to the companion's on
    the same few. An attack none of whose images was drawn cannot win.
    """
    parts = means.reshape(*means.shape[:-1], -1, WIDTH)
    floor, few = parts[..., 1:3].min(-1), parts[..., 4]
    valid = (floor > 0) & (few > 0)
    error = parts[..., 0] * parts[..., 3] / np.where(valid, few, 1)
    leaks = np.where(valid, 1 - error / np.where(valid, floor, 1), -np.inf)
    best: Array = leaks.max(-1)
    return best


def bootstrap(
    tables: Sequence[Array], statistic: Callable[[Array], Array], resamples: int
) -> Interval:
    """Interval of a statistic of column means; all rows are resampled alike."""
    summary = hierarchical_bootstrap(tables, resampler=drawer(resamples), statistic=statistic)
    return Interval(mean=summary.mean, low=summary.low, high=summary.high, n=summary.n)


@cache
def drawer(resamples: int) -> Resampler:
    """What draws for all intervals of a board: alike, and but once."""
    return Resampler(resamples=resamples)


def gain(first: System, second: System, images: int, resamples: int) -> Interval | None:
    """L of the best attack on `first` minus that on `second`, on the same images and seeds.

    None where the two have no seed in common, or one has no attack that succeeded.
    """
    tables = joined([first, second], images)
    if tables is None:
        return None
    split = WIDTH * len(first.real)

    def difference(means: Array) -> Array:
        return best_leakage(means[..., :split]) - best_leakage(means[..., split:])

    return bootstrap(tables, difference, resamples)


def joined(systems: Sequence[System], images: int) -> list[Array] | None:
    """Columns of several systems side by side, at the seeds that they share."""
    seeds = set.intersection(*[set(s.seeds) for s in systems])
    if not seeds or not all(s.real for s in systems):
        return None
    tables = [dict(zip(s.seeds, s.columns(images), strict=True)) for s in systems]
    return [np.concatenate([t[seed] for t in tables], axis=1) for seed in sorted(seeds)]
