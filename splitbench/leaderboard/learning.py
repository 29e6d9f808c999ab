"""What an adversary finds with fewer images of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from splitbench.leaderboard.effort import Side
from splitbench.leaderboard.evidence import WIDTH, System, best_leakage, bootstrap, joined
from splitbench.leaderboard.rows import Row
from splitbench.record import Interval


def with_learning_curves(boards: Mapping[int, Side], resamples: int) -> dict[int, dict[str, Row]]:
    """Add to the rows of the board with the most auxiliary images what fewer of them find.

    Args:
        boards: Boards that differ only in the auxiliary role, by its number of images.
        resamples: Of each bootstrap.

    Returns:
        The rows of all boards, by the same keys; `Row.learning` where there are at least two sizes
        with a seed in common, at the seeds that all of them share.
    """
    found = {size: dict(rows) for size, (rows, _) in boards.items()}
    most = max(found)
    for key, row in found[most].items():
        systems = {
            size: boards[size][1][key]
            for size in sorted(found)
            if key in boards[size][1] and found[size][key].raw is not None
        }
        if len(systems) > 1:
            leaks = _leaks(list(systems.values()), resamples)
            found[most][key] = replace(row, learning=tuple(zip(systems, leaks, strict=False)))
    return found


def _leaks(systems: Sequence[System], resamples: int) -> list[Interval]:
    """Raw leakage of each at the seeds that they share; nothing where they share none."""
    tables = joined(systems, max(system.targets for system in systems))
    if tables is None:
        return []
    ends = accumulate((WIDTH * len(system.real) for system in systems), initial=0)
    return [
        bootstrap([table[:, first:last] for table in tables], best_leakage, resamples)
        for first, last in pairwise(ends)
    ]
