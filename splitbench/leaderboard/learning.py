"""What an adversary finds with fewer images of its own."""

from collections.abc import Mapping
from dataclasses import replace

from splitbench.leaderboard.rows import Row


def with_learning_curves(boards: Mapping[int, Mapping[str, Row]]) -> dict[int, dict[str, Row]]:
    """Add to the rows of the board with the most auxiliary images what fewer of them find.

    Args:
        boards: Rows of boards that differ only in the auxiliary role, by its number of images.

    Returns:
        The rows of all boards, by the same keys; `Row.learning` where there are at least two sizes.
    """
    found = {size: dict(rows) for size, rows in boards.items()}
    most = max(found)
    for key, row in found[most].items():
        measured = ((size, rows.get(key)) for size, rows in sorted(found.items()))
        points = tuple((size, one.raw) for size, one in measured if one and one.raw)
        if len(points) > 1:
            found[most][key] = replace(row, learning=points)
    return found
