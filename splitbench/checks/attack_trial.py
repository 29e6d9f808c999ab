"""One attempt of an attack on the toy world, with everything that was watched meanwhile."""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import get_args, get_type_hints

from torch import Tensor

from splitbench.attack import Attack
from splitbench.checks.attack_world import ToyWorld
from splitbench.checks.randomness import disturbed as disturbed
from splitbench.checks.randomness import global_randomness as global_randomness
from splitbench.pool import NOTHING
from splitbench.progress import Progress
from splitbench.rng import stream
from splitbench.threat import Access, Surface, ThreatModel

GRANTING = ("client", "defense", "auxiliary", "key")  # fields of a threat model that grant


@dataclass(frozen=True)
class Trial:
    """What came of an attempt.

    Attributes:
        attack: The fitted copy.
        guess: Its guesses of the targets.
        surfaces: Those it was fitted on and recovered from.
        progress: What its fitting yielded.
        overheard: Releases of other users that it looked at.
    """

    attack: Attack
    guess: Tensor
    surfaces: tuple[Surface, Surface]
    progress: Sequence[Progress]
    overheard: int

    @property
    def used(self) -> frozenset[Access]:
        """Everything it asked of the surfaces."""
        return self.surfaces[0].used | self.surfaces[1].used

    @property
    def queries(self) -> int:
        """Images it sent through the client and owned up to."""
        return sum(surface.queries for surface in self.surfaces)

    @property
    def sent(self) -> int:
        """Images that went through the client for it: its own, and those that it overheard."""
        return self.queries + self.overheard


def attempt(
    attack: Attack,
    world: ToyWorld,
    *,
    threat: ThreatModel | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Trial:
    """Fit a fresh copy of an attack and let it guess the targets.

    Args:
        attack: Left as it is.
        world: What is attacked.
        threat: None grants everything.
        on_step: Called after every step of the fitting, while it waits.
    """
    progress: list[Progress] = []

    def note(step: Progress) -> None:
        progress.append(step)
        on_step()

    surface = world.surface("fit", threat or ThreatModel())
    fresh = _fitted(attack, surface, note)
    guess, second = recover(fresh, world, threat=threat, after=surface)
    return Trial(fresh, guess, (surface, second), progress, len(world.overheard))


def fitted_on(attack: Attack, world: ToyWorld) -> Attack:
    """A fresh copy that is fitted where everything is granted, and has seen no target."""
    return _fitted(attack, world.surface("fit", ThreatModel()), lambda _: None)


def recover(
    fitted: Attack,
    world: ToyWorld,
    *,
    index: slice | Tensor = slice(None),
    threat: ThreatModel | None = None,
    after: Surface | None = None,
) -> tuple[Tensor, Surface]:
    """Let a fitted attack guess the targets that `index` selects, on a new surface.

    What was spent on the surface `after` which this one comes counts against the budget.
    """
    spent = after.spent if after else NOTHING
    surface = world.surface("recover", threat or ThreatModel(), spent=spent)
    release = world.release()[index]
    return fitted(release, surface, generator=stream(0, "attack", "recover")), surface


def called(attack: Attack) -> str:
    """The name by which an author knows the attack."""
    return type(attack).__name__


def weakest(needs: Collection[Access]) -> ThreatModel:
    """A threat model that grants all of these accesses, and as few others as there can be."""
    choices = (get_args(get_type_hints(ThreatModel)[name]) for name in GRANTING)
    models = [ThreatModel(**dict(zip(GRANTING, each, strict=True))) for each in product(*choices)]
    enough = [model for model in models if model.grants() >= frozenset(needs)]
    return min(enough, key=lambda model: len(model.grants()))


def without(access: Access) -> ThreatModel | None:
    """The strongest threat model that lacks one access; None where each one grants it."""
    lacking: Mapping[Access, ThreatModel] = {
        Access.AUXILIARY: ThreatModel(auxiliary="none"),
        Access.QUERY: ThreatModel(client="architecture"),
        Access.ARCHITECTURE: ThreatModel(client="query"),
        Access.CLIENT: ThreatModel(client="query"),
        Access.DEFENSE: ThreatModel(defense="hidden"),
    }
    return lacking.get(access)


def _fitted(attack: Attack, surface: Surface, on_step: Callable[[Progress], None]) -> Attack:
    """A fresh copy, fitted after its parts."""
    fresh = copy.deepcopy(attack)
    for part in fresh.parts():
        part.fit(surface, generator=stream(0, "attack", repr(part)))
    if fresh.parts():
        fresh = fresh.with_parts(fresh.parts())
    for step in fresh.fitting(surface, generator=stream(0, "attack", "fit")):
        on_step(step)
    return fresh
