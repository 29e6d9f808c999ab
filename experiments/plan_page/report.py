"""What the sections of a plan's report are made from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from experiments.planning import Question
from offloading.outcome import Judged, Outcome
from offloading.plan import Plan
from offloading.planner import Index, Planner
from offloading.sensitivity import Change

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Report:
    """A question, its outcome, and what several sections need of them.

    Attributes:
        asked: The question, with the planner.
        outcome: The answer.
        doubts: What wrong constants do.
        minimise: What the recommended plan has the least of.
    """

    asked: Question
    outcome: Outcome
    doubts: tuple[Change, ...] = field(default=())
    minimise: str = "latency_ms"

    @property
    def planner(self) -> Planner:
        """Of the question."""
        return self.asked.planner

    @cached_property
    def keeps(self) -> NDArray[np.bool_]:
        """Which placements keep all limits."""
        return self.planner.keeps(self.asked.constraints)

    @cached_property
    def possible(self) -> NDArray[np.bool_]:
        """Which placements fit into memory, and find no tier overloaded."""
        found: NDArray[np.bool_] = self.planner.joined("possible").astype(bool)
        return found

    @cached_property
    def option_numbers(self) -> Rows:
        """What leaves the device; -1 where nothing does."""
        return np.concatenate([found.options for found in self.planner.routes])

    @cached_property
    def device_ends(self) -> Rows:
        """Place of the cut at which the device's part ends."""
        return np.concatenate([found.ends[:, 0] for found in self.planner.routes])

    @cached_property
    def chosen(self) -> Index | None:
        """The recommended placement."""
        return self.planner.best(self.asked.constraints, minimise=self.minimise)

    @cached_property
    def offloaded(self) -> Index | None:
        """The recommended placement if it sends anything; else the fastest that does.

        Among those within the limits, if there are any; None where none is possible.
        """
        if self.chosen is not None and not self.planner.placement(self.chosen).stays:
            return self.chosen
        sends = self.option_numbers >= 0
        for allowed in (sends & self.keeps, sends & self.possible):
            found = self.fastest(allowed)
            if found is not None:
                return found
        return None

    def fastest(self, allowed: NDArray[np.bool_]) -> Index | None:
        """The placement with the lowest latency among some."""
        rows = np.flatnonzero(allowed)
        if not rows.size:
            return None
        latency = self.planner.joined("latency_ms")[rows]
        return self.planner.index(int(rows[np.argmin(latency)]))

    def judged(self, index: Index) -> Judged:
        """A placement with its figures, and which limits it exceeds."""
        exceeded = self.planner.exceeded(index, self.asked.constraints)
        return Judged(self.planner.plan(index), exceeded)

    @cached_property
    def bars(self) -> Sequence[tuple[str, Judged]]:
        """Baselines by name, then for each cut its best option: the fastest within the limits.

        Where none is within them, the fastest undefended one that is possible.
        """
        found = list(self.outcome.baselines.items())
        exact = np.array([*(o.exact for o in self.planner.options), False])[self.option_numbers]
        for place, cut in enumerate(self.planner.profile.cuts[1:-1], start=1):
            here = self.device_ends == place
            index = self.fastest(here & self.keeps)
            if index is None:
                index = self.fastest(here & self.possible & exact)
            if index is not None:
                found.append((cut.name, self.judged(index)))
        return found


def is_possible(plan: Plan) -> bool:
    """Whether no tier is asked for more than it can do."""
    return bool(np.isfinite(plan.figures["latency_ms"].value))
