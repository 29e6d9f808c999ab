"""What the class of an attack must look like: constructor, repr, documentation, knobs."""

import sys
from collections.abc import Collection, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from splitbench.attack import Attack
from splitbench.checks.attack_trial import attempt
from splitbench.checks.attack_world import ToyWorld, toy_world
from splitbench.checks.form import explains_itself, keeps_its_keywords, other_values, rebuilt
from splitbench.described import Described
from splitbench.threat import ThreatModelError

SECTIONS = ("Threat model:", "Cost:", "Deviations from the paper:", "References:")
NOTHING: Mapping[str, object] = MappingProxyType({})


def check_constructor_only_stores(attack: Attack) -> None:
    """The constructor keeps its keywords under their names, and ``eval(repr(x))`` rebuilds x."""
    cls = type(attack)
    again = keeps_its_keywords(attack)
    heavy = Tensor | nn.Module | torch.Generator
    work = [name for name, value in vars(again).items() if isinstance(value, heavy)]
    assert not work, f"the constructor makes {work}: make them in learn or recover"
    namespace = {**vars(sys.modules[cls.__module__]), **_classes(attack)}
    evaluated = eval(repr(attack), namespace)  # noqa: S307  # the repr of the caller's own object
    assert repr(evaluated) == repr(attack), (
        f"eval(repr(x)) gives {evaluated!r}, not {attack!r}: let Described make the repr"
    )


def check_docstring(attack: Attack) -> None:
    """The docstring explains every keyword and has the sections of an attack."""
    explains_itself(type(attack), SECTIONS)


def check_every_knob_matters(
    attack: Attack,
    *,
    others: Mapping[str, object] = NOTHING,
    exempt: Collection[str] = (),
) -> None:
    """Another value of a keyword changes the guesses, or is refused.

    Args:
        attack: With settings at which each keyword should matter.
        others: Another value for keywords where none can be made up from the type.
        exempt: Keywords that are known not to change guesses. Each must be one of these.
    """
    world = toy_world()
    guess = attempt(attack, world).guess
    idle = []
    for name in attack.arguments():
        values = [others[name]] if name in others else list(other_values(attack, name))
        assert values, f"cannot make up another value for {name}: hand one to the check in `others`"
        if not any(_moves(attack, world, guess, {name: value}) for value in values):
            idle.append(name)
    dead, stale = sorted(set(idle) - set(exempt)), sorted(set(exempt) - set(idle))
    assert not dead, (
        f"{dead} change nothing: use them, remove them, or choose settings that show it"
    )
    assert not stale, f"{stale} are exempt but matter: remove the exemption"


def _classes(value: object) -> dict[str, type]:
    """Classes that the repr of a value names: its own, and those of what it holds."""
    names = {type(value).__name__: type(value)}
    inside: Collection[object] = ()
    if isinstance(value, Described):
        inside = value.arguments().values()
    elif isinstance(value, Mapping):
        inside = value.values()
    elif isinstance(value, list | tuple):
        inside = value
    for one in inside:
        names |= _classes(one)
    return names


def _moves(attack: Attack, world: ToyWorld, guess: Tensor, change: dict[str, object]) -> bool:
    try:
        return not torch.equal(attempt(rebuilt(attack, **change), world).guess, guess)
    except (ValueError, ThreatModelError):  # refused, so it is looked at
        return True
