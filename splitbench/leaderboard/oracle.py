"""What would leak if the truth chose the best guess for every image: an envelope, no adversary."""

from dataclasses import dataclass

import numpy as np

from splitbench.leaderboard.evidence import BLIND, AttackKey, System, bootstrap
from splitbench.record import Interval
from splitbench.statistics import Array


@dataclass(frozen=True)
class Envelope:
    """Leakage of the per-image best of all guesses, with its null calibration.

    Attributes:
        raw: Grows with the number of attacks even where nothing leaks.
        null: The same guesses held against other images: what the choice alone gains.
        corrected: ``(raw - null) / (1 - null)``, 0 without a leak and 1 for exact recovery.
    """

    raw: Interval
    null: Interval
    corrected: Interval


def envelope(system: System, resamples: int) -> Envelope | None:
    """The envelope of one row; None where the records hold no errors on the null channel.

    The blind guesses take part, here and on the null channel: an attack whose guesses are sharp
    and wrong is no better informed for being further off than a blind one. An attack on the first
    few images takes part in the choice for these alone.

    Args:
        system: At least one real attack succeeded.
        resamples: Of each bootstrap.
    """
    scores = [s for key in system.real for s in system.scores_of(key)]
    if not all({"mse", *BLIND} <= {*s.null} for s in scores):
        return None
    tables = [_columns(system, system.real, place) for place in range(len(system.seeds))]

    def raw(means: Array) -> Array:
        return 1 - _unexplained(means[..., :3])

    def null(means: Array) -> Array:
        return 1 - _unexplained(means[..., 3:])

    def corrected(means: Array) -> Array:
        return 1 - _unexplained(means[..., :3]) / _unexplained(means[..., 3:])

    return Envelope(*(bootstrap(tables, each, resamples) for each in (raw, null, corrected)))


def _unexplained(means: Array) -> Array:
    """The least error over that of the better blind guess, on the same images."""
    ratio: Array = means[..., 0] / means[..., 1:].min(-1)
    return ratio


def _columns(system: System, keys: tuple[AttackKey, ...], seed: int) -> Array:
    """Per guess the least error and two blind ones, on its own image and on another: ``(n, 6)``."""
    scores = [system.scores_of(key)[seed] for key in keys]
    thorough = max(scores, key=lambda s: len(s.metrics["mse"]))
    sides = []
    for errors, floors in (
        ([s.metrics["mse"] for s in scores], thorough.floors),
        ([s.null["mse"] for s in scores], thorough.null),
    ):
        blind = np.stack([floors[name] for name in BLIND], axis=1)
        best = blind.min(1)
        for error in errors:
            best[: len(error)] = np.minimum(best[: len(error)], error)
        sides += [best[:, None], blind]
    return np.concatenate(sides, axis=1)
