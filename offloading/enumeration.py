"""Every placement of a model over the tiers of a scenario."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offloading.option import Option
from offloading.profile import Profile
from offloading.scenario import Route, Scenario

Places = NDArray[np.int64]
MOST = 5_000_000  # placements along one route: about a gigabyte of numbers


class TooManyError(ValueError):
    """More placements than memory holds."""


@dataclass(frozen=True)
class Candidates:
    """The placements along one route.

    Attributes:
        route: Tiers in use, the device first.
        options: Index of what leaves the device, ``(n,)``; -1 where nothing does.
        ends: Place of the cut at which each tier ends, ``(n, tiers)``, ascending; the last column
            is the place of ``output``.
    """

    route: Route
    options: Places
    ends: Places

    def __len__(self) -> int:
        return len(self.options)

    def __getitem__(self, i: int) -> "Candidates":
        """One of them."""
        return Candidates(self.route, self.options[i : i + 1], self.ends[i : i + 1])

    def starts(self, tier: int) -> Places:
        """Place at which the tier with this number begins."""
        return np.zeros(len(self), dtype=np.int64) if tier == 0 else self.ends[:, tier - 1]


def candidates(
    scenario: Scenario, profile: Profile, options: tuple[Option, ...]
) -> Iterator[Candidates]:
    """All placements, one route after the other.

    The device may run anything from nothing (it sends the image) to the whole model (it sends
    nothing); each tier behind it runs at least one step. What leaves the device is one of the
    options at its cut; tiers behind it pass on the plain features.

    Raises:
        TooManyError: Along one route there are more than `MOST`.
        ProfileError: An option is at a cut that was not profiled.
    """
    last = len(profile.cuts) - 1
    first = np.array([profile.places[profile.at(o.cut).name] for o in options], dtype=np.int64)
    for route in scenario.routes():
        if len(route) == 1:
            yield Candidates(route, np.array([-1]), np.array([[last]]))
            continue
        sent = np.flatnonzero(first < last)
        further = len(route) - 2
        count = sum(math.comb(last - 1 - place, further) for place in first[sent].tolist())
        if count > MOST:
            raise TooManyError(
                f"{scenario.name}: {count:,} placements over {len(route)} tiers; profile fewer "
                "cuts (granularity=module), name fewer options, or use offloading.labels in "
                "Python, which has the front along a chain without listing all placements"
            )
        chosen, ends = sent, first[sent][:, None]
        for _ in range(further):
            rows, later = _later(ends[:, -1], last)
            chosen, ends = chosen[rows], np.column_stack([ends[rows], later])
        yield Candidates(route, chosen, np.column_stack([ends, np.full(len(ends), last)]))


def _later(places: Places, last: int) -> tuple[Places, Places]:
    """Every place between each of these and the last one, with the row that it follows."""
    room = np.maximum(last - 1 - places, 0)
    rows = np.repeat(np.arange(len(places)), room)
    first_of_row = np.cumsum(room) - room
    return rows, places[rows] + 1 + np.arange(len(rows)) - first_of_row[rows]
