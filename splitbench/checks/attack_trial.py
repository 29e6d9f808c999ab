"""One attempt of an attack on the toy world, with everything that was watched meanwhile."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from splitbench.attack import Attack
from splitbench.checks.attack_world import ToyWorld
from splitbench.checks.randomness import disturbed as disturbed
from splitbench.checks.randomness import global_randomness as global_randomness
from splitbench.pool import NOTHING
from splitbench.progress import Progress
from splitbench.rng import stream
from splitbench.threat import Access, Surface, ThreatModel


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
    fresh = copy.deepcopy(attack)
    surface = world.surface("fit", threat or ThreatModel())
    progress: list[Progress] = []
    for part in fresh.parts():
        part.fit(surface, generator=stream(0, "attack", repr(part)))
    if fresh.parts():
        fresh = fresh.with_parts(fresh.parts())
    for step in fresh.fitting(surface, generator=stream(0, "attack", "fit")):
        progress.append(step)
        on_step()
    guess, second = recover(fresh, world, threat=threat, after=surface)
    return Trial(fresh, guess, (surface, second), progress, len(world.overheard))


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
