"""What a defense must do that promises local differential privacy; one without passes."""

from collections.abc import Mapping

from splitbench.audit import audit, canaries
from splitbench.checks.defense_conduct import turned
from splitbench.checks.defense_world import DefenseWorld
from splitbench.checks.form import rebuilt
from splitbench.defense import Defense
from splitbench.rng import stream

AUDIBLE = 4.0  # epsilon: what larger ones allow, so few messages could not show to be exceeded
TURNS = 40  # of the knob, each by a factor of two
CONFIDENCE = 0.999


def check_promise_survives_an_audit(defense: Defense, world: DefenseWorld) -> None:
    """Messages of two inputs cannot be told apart better than promised.

    The knob is turned, as far as it is needed, to where a few thousand messages can tell.
    """
    if not defense.guarantee().formal:
        return
    deployed = world.fitted(_audible(defense))
    pairs = canaries(deployed.features(world.targets))
    found = audit(deployed.defense, pairs, generator=stream(0, "audit"), confidence=CONFIDENCE)
    assert not found.refuted, (
        f"messages of pair {found.pair} of the canaries show an epsilon of at least "
        f"{found.epsilon:.2f}, promised is {found.claimed.epsilon:.2f}: the sensitivity is the "
        "distance of the two most different inputs (twice the bound of a norm); bound all tensors "
        "of an example together, draw fresh noise on every value, in eval mode too"
    )


def _audible(defense: Defense) -> Defense:
    """The same defense with its knob, or those of its members, turned towards a small epsilon."""
    if not defense.guarantee().formal:
        return defense
    if defense.knob is None:
        return rebuilt(defense, **{k: _within(v) for k, v in defense.arguments().items()})
    name, direction = defense.knob
    for _ in range(TURNS):
        if defense.guarantee().epsilon <= AUDIBLE:
            break
        _, strong = turned(defense.arguments()[name], direction)
        defense = rebuilt(defense, **{name: strong})
    return defense


def _within(argument: object) -> object:
    """A keyword of a defense, with the defenses that it holds made audible."""
    if isinstance(argument, Mapping):
        return {name: _within(value) for name, value in argument.items()}
    return _audible(argument) if isinstance(argument, Defense) else argument
