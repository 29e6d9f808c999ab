"""What the class of a defense must look like: constructor, documentation, knobs."""

import inspect
import re
from collections.abc import Iterator
from typing import Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from splitbench.checks.attack_trial import global_randomness
from splitbench.checks.defense_messages import equal
from splitbench.checks.defense_world import DefenseWorld, rebuilt
from splitbench.defense import Defense
from splitbench.release import Tensors
from splitbench.rng import stream

SECTIONS = ("Guarantee:", "Known to fall to:", "Deviations from the paper:", "References:")


def check_constructor_only_stores(defense: Defense, world: DefenseWorld) -> None:
    """The constructor keeps its keywords under their names; everything else happens in fit."""
    del world
    cls = type(defense)
    kinds = {p.name: p.kind for p in inspect.signature(cls).parameters.values()}
    loose = [name for name, kind in kinds.items() if kind is not inspect.Parameter.KEYWORD_ONLY]
    assert not loose, f"{cls.__name__} takes {loose} by position: put `*` before them"
    before = global_randomness()
    again = rebuilt(defense)
    assert global_randomness() == before, "the constructor draws random numbers: do it in fit"
    given, kept = defense.arguments(), again.arguments()
    changed = [name for name in given if repr(kept[name]) != repr(given[name])]
    assert not changed, f"the constructor changes {changed}: store them as they are given"
    made = sorted(again.state_dict()) + [k for k, v in vars(again).items() if isinstance(v, Tensor)]
    assert not made, f"the constructor makes {made}: make them in adapt or fit"


def check_docstring(defense: Defense, world: DefenseWorld) -> None:
    """The docstring explains every keyword and has the sections of a defense."""
    del world
    cls = type(defense)
    text = inspect.getdoc(cls) or ""
    lacking = [section for section in SECTIONS if not _section(text, section).strip()]
    assert not lacking, (
        f"the docstring of {cls.__name__} has nothing under {lacking}: add it; where there is "
        "nothing to say, say None"
    )
    told = re.findall(r"^ {4}(\w+):", _section(text, "Args:"), re.MULTILINE)
    wanted = list(inspect.signature(cls).parameters)
    assert told == wanted, f"the docstring explains {told}, the constructor takes {wanted}"
    sources = _section(text, "References:")
    assert re.search(r"doi:10\.|arXiv:\d|^\s*None", sources), (
        f"the references of {cls.__name__} name neither a doi: nor an arXiv: number, nor say None"
    )


def check_every_knob_matters(defense: Defense, world: DefenseWorld) -> None:
    """Another value of a keyword changes release, payload or logits, or is refused."""
    if not defense.arguments():
        return
    present = _outcome(defense, world)
    for name in defense.arguments():
        others = list(_others(defense, name))
        assert others, f"{name} has no other value: give it a type with more than one"
        assert any(_differs(defense, world, present, {name: other}) for other in others), (
            f"{name} changes nothing: use it, remove it, or test with settings at which it matters"
        )


def _outcome(defense: Defense, world: DefenseWorld) -> tuple[Tensors, Tensor]:
    deployed = world.deploy(defense)
    release = deployed.transmit(world.targets, generator=stream(0, "message"), observations=2)
    assert release.payload_bytes is not None
    return (*release.tensors, release.payload_bytes), deployed.predict(release)


def _differs(
    defense: Defense,
    world: DefenseWorld,
    present: tuple[Tensors, Tensor],
    change: dict[str, object],
) -> bool:
    try:
        sent, logits = _outcome(rebuilt(defense, **change), world)
    except ValueError:  # refused, so it is looked at
        return True
    return not (equal(sent, present[0]) and torch.equal(logits, present[1]))


def _others(defense: Defense, name: str) -> Iterator[object]:
    """Values that a keyword could have instead, from its type."""
    value = defense.arguments()[name]
    for hint in _alternatives(get_type_hints(type(defense).__init__)[name]):
        if get_origin(hint) is Literal:
            yield from (choice for choice in get_args(hint) if choice != value)
        elif get_origin(hint) is tuple and value is None:
            yield tuple(float(i) / 2 for i in range(len(get_args(hint))))
        elif hint is bool:
            yield not value
        elif hint is int and isinstance(value, int):
            yield from (value + 1, max(value - 1, 1))
        elif hint is float and isinstance(value, int | float):
            yield value * 2 or 0.5
        elif hint is type(None) and value is not None:
            yield None


def _alternatives(hint: object) -> tuple[object, ...]:
    """Members of a union, or the type itself."""
    return (hint,) if get_origin(hint) in (Literal, tuple) else get_args(hint) or (hint,)


def _section(text: str, title: str) -> str:
    """The indented lines under a title, or what follows it on the same line."""
    found = re.search(rf"^{re.escape(title)}(.*\n?(?:(?: .*)?\n?)*?)(?=^\S|\Z)", text, re.MULTILINE)
    return found.group(1) if found else ""
