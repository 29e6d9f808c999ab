"""Leakage that follows from leakage: what can be computed from a message leaks through it."""

from collections.abc import Collection, Mapping, Sequence


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


def closure(
    leaks: Mapping[str, float], simulable: Mapping[str, Collection[str]]
) -> dict[str, float]:
    """Raise each leakage to that of every message that can be simulated from it.

    By the data processing inequality no message leaks less than what can be computed from it:
    where a measured curve says so, the attack on the earlier message was the weaker one, and its
    owner would have computed the later message instead.

    The relation must be simulability, which holds between

    - a cut and a deeper cut of the same undefended network;
    - an undefended cut and the same or a deeper cut with any defense of the same network;
    - one cut with less and with more noise of a self-decomposable kind (Gaussian, Laplace);
    - a finer and a coarser quantiser that are nested, and k and fewer observations.

    It does not hold between cuts that are each defended by noise of their own, between models
    that were trained separately, nor for an adversary without the client's weights.

    For an interval, give `splitbench.leakage.leakage` the errors at all `reachable` messages as
    columns: then the maximum is inside the bootstrap.

    Args:
        leaks: Measured leakage of each message.
        simulable: For each message those that follow from it; transitive steps are added.

    Raises:
        ValueError: The two mention different messages.
    """
    if set(leaks) != set(simulable):
        raise ValueError(f"leaks of {sorted(leaks)}, but relations of {sorted(simulable)}")
    return {
        name: max(leaks[other] for other in others) for name, others in reachable(simulable).items()
    }


def deeper_cuts(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The relation of one undefended network: each cut simulates all later ones.

    Args:
        names: Cuts in the order of the network.
    """
    return {name: tuple(names[i + 1 :]) for i, name in enumerate(names)}
