"""Attacks that make one guess of other attacks' guesses: a piece, not an attack."""

import copy
from abc import ABC
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from splitbench.attack import Attack
from splitbench.release import Release
from splitbench.threat import Access, Surface


class Combination(Attack, ABC):
    """Holds the members, shares them as parts, and keeps their states beside its own.

    Class attributes:
        own_needs: What it asks of the surface beside what its members ask.
    """

    own_needs: ClassVar[frozenset[Access]]

    def __init__(self, *, members: Mapping[str, Attack]) -> None:
        if not members:
            raise ValueError("members={}: want at least one")
        dotted = [name for name in members if not name or "." in name]
        if dotted:
            raise ValueError(f"members={dotted}: names must not be empty or contain a dot")
        self.members = dict(members)

    @property
    def needs(self) -> frozenset[Access]:  # type: ignore[override]  # depends on the members
        """What it asks of the surface."""
        return self.own_needs.union(*(member.needs for member in self.members.values()))

    @property
    def per_example(self) -> bool:  # type: ignore[override]  # depends on the members
        """Whether every member guesses for each example alone."""
        return all(member.per_example for member in self.members.values())

    @property
    def max_targets(self) -> int | None:  # type: ignore[override]  # depends on the members
        """As many targets as every member attacks."""
        limits = [m.max_targets for m in self.members.values() if m.max_targets is not None]
        return min(limits, default=None)

    def parts(self) -> tuple[Attack, ...]:
        """The members."""
        return tuple(self.members.values())

    def with_parts(self, parts: tuple[Attack, ...]) -> "Combination":
        """A copy that combines these (fitted) members."""
        other = copy.copy(self)
        other.members = dict(zip(self.members, parts, strict=True))
        return other

    def export_state(self) -> Mapping[str, Tensor]:
        """Each member's state under its name and a dot."""
        return {
            f"{name}.{key}": value
            for name, member in self.members.items()
            for key, value in member.export_state().items()
        }

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Give the members theirs back; those that are fitted already are left as they are."""
        super().import_state(state, surface)
        for name, member in self.members.items():
            if not member.fitted:
                start = f"{name}."
                own = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
                member.import_state(own, surface)

    def guesses(
        self, release: Release, surface: Surface, *, generator: torch.Generator
    ) -> Float[Tensor, "b m c h w"]:
        """What each member makes of the release."""
        members = self.members.values()
        return torch.stack([m(release, surface, generator=generator) for m in members], dim=1)
