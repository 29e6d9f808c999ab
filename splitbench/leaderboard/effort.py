"""Whether more of what an adversary may spend finds more: capacity, data, observations."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np

from splitbench.leaderboard.evidence import (
    WIDTH,
    AttackKey,
    System,
    best_leakage,
    bootstrap,
    gain,
)
from splitbench.leaderboard.rows import Row
from splitbench.leaderboard.simulable import Message, parse
from splitbench.record import Interval
from splitbench.statistics import Array

SIZES = ("width", "blocks", "layers", "steps")  # keywords of which an attack can have more
TUNED = ("learning_rate",)  # set anew for every size
CAPACITY_GAIN = 0.02  # of L, from a larger attack
DATA_GAIN = 0.02  # of L, per doubling of the auxiliary data
OBSERVATIONS_GAIN = 0.1  # of L, from more observations


def capacity_gain(system: System, resamples: int) -> bool:
    """Whether an attack leaks clearly more than a smaller or shorter one of the same kind.

    Clearly: by more than 0.02, and by more than the interval of the paired difference.
    """
    pairs = [p for p in permutations(system.real, 2) if _is_larger(*p)]
    leads = [_lead(system, larger, smaller, resamples) for larger, smaller in pairs]
    return any(lead.mean > CAPACITY_GAIN and lead.low > 0 for lead in leads)


def gradients_mislead(system: System, resamples: int) -> bool:
    """Whether an attack without gradients leaks clearly more than the best that follows them.

    Clearly: by more than the interval of the paired difference. Records of attacks without
    gradients carry the flag of that name, win or lose.
    """
    blind = [k for k in system.real if "gradients_mislead" in system.records_of(k)[0].flags]
    others = [k for k in system.real if k not in blind]
    leads = [[_lead(system, key, other, resamples) for other in others] for key in blind]
    nearest = [min(over, key=lambda lead: lead.mean) for over in leads if over]
    return any(lead.low > 0 for lead in nearest)


def _is_larger(one: AttackKey, other: AttackKey) -> bool:
    """The same attack in all but its size, which is larger in one respect and less in none."""
    (name, mine), (other_name, theirs) = parse(one[2]), parse(other[2])
    if name != other_name or {*mine} != {*theirs}:
        return False
    differ = [k for k in mine if mine[k] != theirs[k] and k not in TUNED]
    return bool(differ) and all(
        k in SIZES and isinstance(mine[k], int | float) and mine[k] > theirs[k] for k in differ
    )


def _lead(system: System, first: AttackKey, second: AttackKey, resamples: int) -> Interval:
    def difference(means: Array) -> Array:
        return best_leakage(means[..., :WIDTH]) - best_leakage(means[..., WIDTH:])

    tables = system.columns(system.targets, [first, second])
    return bootstrap(tables, difference, resamples)


def ignores_randomness(message: Message) -> bool:
    """Whether releases are random, and the adversary neither simulates that nor averages it out.

    Such a row says what a single draw hides from somebody who does not expect it.
    """
    naive = message.threat.get("defense") == "hidden"
    return bool(message.traits.get("stochastic", False)) and naive and _seen(message) == 1


def only_observations_differ(first: Message, second: Message) -> bool:
    """Whether two adversaries differ in nothing but how many releases of a target they see."""
    return {**first.threat, "observations": 0} == {**second.threat, "observations": 0}


def with_untested_repetition(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Flag rows that see one release of a random defense, where nobody was shown several.

    Noise averages out over releases of one image, so that one says what a single message hides.
    Any row of the same system under several observations answers the question, whatever else its
    adversary knows. Naive rows have a flag of their own (`ignores_randomness`).

    Args:
        rows: Of one board.
    """
    tried = {
        _system(row.message)
        for row in rows.values()
        if row.raw is not None and _seen(row.message) > 1
    }
    found = dict(rows)
    for key, row in rows.items():
        random = bool(row.message.traits.get("stochastic", False)) and not row.naive
        if random and _seen(row.message) == 1 and _system(row.message) not in tried:
            flags = {*row.flags, "repetition_untested"}
            found[key] = replace(row, flags=tuple(sorted(flags)))
    return found


def _system(message: Message) -> tuple[str, str, str]:
    return message.cut, message.defense, message.codec


def _seen(message: Message) -> int:
    return int(message.threat.get("observations", 1))


Side = tuple[Mapping[str, Row], Mapping[str, System]]  # rows and systems of one board, by key


def data_gain(boards: Mapping[int, Side], resamples: int) -> dict[int, dict[str, Row]]:
    """Flag rows that leak clearly more than with less auxiliary data.

    Clearly: by more than 0.02 per doubling, and by more than the interval of the paired
    difference, to the board with the next smaller auxiliary role.

    Args:
        boards: Boards that differ only in the auxiliary role, by its number of images.
        resamples: Of each bootstrap.

    Returns:
        The rows of all boards, by the same keys.
    """
    found = {size: dict(rows) for size, (rows, _) in boards.items()}
    for smaller, larger in pairwise(sorted(boards)):
        doublings = np.log2(larger / smaller)
        (_, few), (_, many) = boards[smaller], boards[larger]
        for key in sorted({*few} & {*many}):
            images = max(few[key].targets, many[key].targets)
            lead = gain(many[key], few[key], images, resamples)
            if lead and lead.mean / doublings > DATA_GAIN and lead.low > 0:
                flags = {*found[larger][key].flags, "data_not_saturated"}
                found[larger][key] = replace(found[larger][key], flags=tuple(sorted(flags)))
    return found
