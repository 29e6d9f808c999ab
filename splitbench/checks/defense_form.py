"""What the class of a defense must look like: constructor, documentation, knobs."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from splitbench.checks.defense_messages import equal
from splitbench.checks.defense_world import DefenseWorld
from splitbench.checks.form import explains_itself, keeps_its_keywords, other_values, rebuilt
from splitbench.defense import Defense
from splitbench.release import Tensors
from splitbench.rng import stream

NOTHING: Mapping[str, object] = MappingProxyType({})
SECTIONS = (
    "Threat model:",
    "Guarantee:",
    "Known to fall to:",
    "Deviations from the paper:",
    "References:",
)


def check_constructor_only_stores(defense: Defense, world: DefenseWorld) -> None:
    """The constructor keeps its keywords under their names; everything else happens in fit."""
    del world
    again = keeps_its_keywords(defense)
    made = sorted(again.state_dict()) + [k for k, v in vars(again).items() if isinstance(v, Tensor)]
    assert not made, f"the constructor makes {made}: make them in adapt or fit"


def check_docstring(defense: Defense, world: DefenseWorld) -> None:
    """The docstring explains every keyword and has the sections of a defense."""
    del world
    explains_itself(type(defense), SECTIONS)


def check_every_knob_matters(
    defense: Defense, world: DefenseWorld, *, others: Mapping[str, object] = NOTHING
) -> None:
    """Another value of a keyword changes release, payload or logits.

    Where all others are refused, with a message that names a keyword, it is for settings of the
    rest that this defense does not have. A refusal beside values that change nothing is no effect.

    Args:
        defense: What is checked.
        world: Where.
        others: Another value for keywords where none can be made up from the type.
    """
    if not defense.arguments():
        return
    present = _outcome(defense, world)
    for name in defense.arguments():
        values = [others[name]] if name in others else list(other_values(defense, name))
        assert values, f"cannot make up another value for {name}: hand one to the check in `others`"
        assert _matters(defense, world, present, name, values), (
            f"{name} changes nothing: use it, remove it, or test with settings at which it matters"
        )


def _outcome(defense: Defense, world: DefenseWorld) -> tuple[Tensors, Tensor]:
    deployed = world.fitted(defense)
    release = deployed.transmit(world.targets, generator=stream(0, "message"), observations=2)
    assert release.payload_bytes is not None
    return (*release.tensors, release.payload_bytes), deployed.answer(world.targets, release)


def _matters(
    defense: Defense,
    world: DefenseWorld,
    present: tuple[Tensors, Tensor],
    name: str,
    values: Sequence[object],
) -> bool:
    """Whether a value of this keyword changes the outcome, or all are refused with a reason."""
    refused = True
    for value in values:
        try:
            sent, logits = _outcome(rebuilt(defense, **{name: value}), world)
        except ValueError as error:
            # Not its own alone: what is wrong may be another, given this one.
            refused &= any(re.search(rf"\b{k}\b", str(error)) for k in defense.arguments())
            continue
        if not (equal(sent, present[0]) and torch.equal(logits, present[1])):
            return True
        refused = False
    return refused
