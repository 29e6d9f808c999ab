"""What follows from a message: all that can be computed from it leaks through it.

By the data processing inequality no message leaks less than another that was computed from it:
where a measured curve says so, the attack on the earlier message was the weaker one, and its owner
would have computed the later message instead. Which follow from which is decided by
`splitbench.leaderboard.simulable`, and leakage is raised by `splitbench.leaderboard.relations`.
"""

from collections.abc import Collection, Mapping


def reachable(simulable: Mapping[str, Collection[str]]) -> dict[str, tuple[str, ...]]:
    """What a holder of each message can compute: itself, and all that follows step by step.

    Args:
        simulable: For each message the messages that can be simulated from it.

    Raises:
        ValueError: A message is mentioned that is not a key.
    """
    unknown = {b for targets in simulable.values() for b in targets} - set(simulable)
    if unknown:
        raise ValueError(f"simulable mentions {sorted(unknown)}; messages are {sorted(simulable)}")
    found: dict[str, tuple[str, ...]] = {}
    for name in simulable:
        seen, todo = {name}, [name]
        while todo:
            fresh = set(simulable[todo.pop()]) - seen
            seen |= fresh
            todo += sorted(fresh)
        found[name] = tuple(other for other in simulable if other in seen)
    return found
