"""Undoing a secret key that many users share, without a single pair."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from attacks.key_matching import Crowd, matched_order, matched_rotation, undo
from splitbench.attack import Attack
from splitbench.key import KeyAction
from splitbench.progress import Progress
from splitbench.release import Release, Tensors
from splitbench.threat import Access, Surface


class KeyRecovery(Attack):
    """Turns releases under a secret key into such under the adversary's own, and decodes those.

    Lacking the victims' key, the adversary still has the mechanism, draws a key of its own, and
    trains any decoder on its own releases. What it needs is the one rotation or permutation that
    leads from the one key to the other. Many users share the victims' key and send images of the
    same kind: the means and second moments of their releases, over all and over those that the
    server answered alike, are those of the adversary's own releases, turned by just that. Orders
    are matched by linear assignment, rotations by alternating polar decompositions
    (`attacks.key_matching`). Where the key is known, or there is none, this is the decoder.

    Permutations are found all but outright, of thousands of units too. A rotation is found as far
    as its leading axes can be told from noise; the rest of the release is replaced by its mean,
    which the decoder was not trained for. Without the server's answers rotations of vectors stay
    hidden, for second moments leave the sign of every axis open. It fails where keys are drawn for
    every user or message, and says nothing of keys that are neither rotation nor permutation.

    Threat model:
        The mechanism of the defense, auxiliary images of the same kind, a device of its own with
        another key, releases of other users and the server's answers to them. No pair under the
        victims' key, no weights.

    Cost: That of the decoder; besides, for k units, ``k ** 3`` operations for an order (minutes
    for 5000), and up to 300 decompositions of `components` squared for a rotation.

    Args:
        decoder: Any attack that turns releases into images.
        observed: Releases of other users, > 1.
        simulated: Releases of its own that they are compared with, > 1.
        components: Principal axes of a rotation that are matched, > 0. With a thousand users 64
            are found reliably; of more, some are mistaken for one another, and spoil the others.

    Deviations from the paper:
        The papers match a cloud of points (word embeddings; tables that were multiplied by a
        secret matrix); here it is moments, for the points are too many, and the server's answers
        tell the axes apart.

    References:
        Giannella, Liu, Kargupta. "Breaching Euclidean distance-preserving data perturbation using
        few known inputs". 2013. arXiv:0911.2942
        Grave, Joulin, Berthet. "Unsupervised alignment of embeddings with Wasserstein Procrustes".
        AISTATS 2019. arXiv:1805.11222

    Example:
        >>> from attacks.ridge import Ridge
        >>> Access.CLIENT in KeyRecovery(decoder=Ridge()).needs
        False
    """

    own_needs: ClassVar[frozenset[Access]] = frozenset(
        {Access.AUXILIARY, Access.QUERY, Access.DEFENSE, Access.SERVER}
    )

    _action: KeyAction | None
    _found: list[dict[str, Tensor]]

    def __init__(
        self,
        *,
        decoder: Attack,
        observed: int = 2000,
        simulated: int = 4000,
        components: int = 64,
    ) -> None:
        if min(observed, simulated) < 2:
            raise ValueError(f"observed={observed}, simulated={simulated}: want at least 2 of each")
        if components < 1:
            raise ValueError(f"components={components}: must be at least 1")
        self.decoder = decoder
        self.observed = observed
        self.simulated = simulated
        self.components = components

    @property
    def needs(self) -> frozenset[Access]:  # type: ignore[override]  # depends on the decoder
        """What it asks of the surface."""
        return self.own_needs | self.decoder.needs

    @property
    def per_example(self) -> bool:  # type: ignore[override]  # depends on the decoder
        """Whether the decoder guesses for each example alone."""
        return self.decoder.per_example

    @property
    def max_targets(self) -> int | None:  # type: ignore[override]  # depends on the decoder
        """As many targets as the decoder attacks."""
        return self.decoder.max_targets

    def parts(self) -> tuple[Attack, ...]:
        """The decoder."""
        return (self.decoder,)

    def with_parts(self, parts: tuple[Attack, ...]) -> "KeyRecovery":
        """A copy with this (fitted) decoder."""
        other = copy.copy(self)
        (other.decoder,) = parts
        return other

    def learn(self, surface: Surface, *, generator: torch.Generator) -> Iterator[Progress]:
        """Listen to other users, and find how to undo their key."""
        del generator
        seen, self._action = surface.observed(self.observed), _hidden(surface)
        self._found = [{} for _ in seen.tensors]
        if self._action is None:
            return
        own = Release.concatenate([release for _, release in surface.pairs(self.simulated)])
        with torch.no_grad():
            answers = surface.server(own.tensors), surface.predict(seen)
        for i, tensors in enumerate(zip(own.tensors, seen.tensors, strict=True)):
            mine, theirs = (
                Crowd(self._action.unfold(t).double(), logits.double().softmax(1))
                for t, logits in zip(tensors, answers, strict=True)
            )
            if self._action.group == "permutation":
                self._found[i] = matched_order(mine, theirs)
            else:
                found = matched_rotation(mine, theirs, components=self.components)
                self._found[i] = {name: value.float() for name, value in found.items()}
            yield Progress(i + 1, len(self._found), self._mismatch(i, mine, theirs))

    def export_state(self) -> Mapping[str, Tensor]:
        """What undoes the key of each tensor, and the decoder's state."""
        found = {f"{i}.{k}": v for i, part in enumerate(self._found) for k, v in part.items()}
        state = self.decoder.export_state()
        return {**found, **{f"decoder.{name}": value for name, value in state.items()}}

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Take both back."""
        super().import_state(state, surface)
        self._action = _hidden(surface)
        self._found = [
            {k.removeprefix(f"{i}."): v for k, v in state.items() if k.startswith(f"{i}.")}
            for i in range(len(surface.specs))
        ]
        if not self.decoder.fitted:
            start = "decoder."
            own = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
            self.decoder.import_state(own, surface)

    def recover(
        self, release: Release, surface: Surface, *, generator: torch.Generator
    ) -> Float[Tensor, "b c h w"]:
        """Undo the key, and decode."""
        turned = replace(release, tensors=self._undone(release.tensors))
        return self.decoder(turned, surface, generator=generator)

    def _undone(self, tensors: Tensors) -> Tensors:
        action = self._action
        if action is None:
            return tensors
        pairs = zip(tensors, self._found, strict=True)
        return tuple(action.fold(undo(action.unfold(t), found), t) for t, found in pairs)

    def _mismatch(self, index: int, mine: Crowd, theirs: Crowd) -> float:
        """Share of their mean release that is not mine once the key is undone."""
        found = {
            k: v.double() if v.is_floating_point() else v for k, v in self._found[index].items()
        }
        mean = mine.units.mean(0)
        gap = undo(theirs.units, found).mean(0) - mean
        return float(gap.square().sum() / mean.square().sum().clamp(min=1e-12))


def _hidden(surface: Surface) -> KeyAction | None:
    """How the key acts that this adversary lacks; None where it lacks none.

    Raises:
        ValueError: The defense does not say how its key acts.
    """
    defense = surface.defense
    if surface.threat.key == "known" or not defense.keyed:
        return None
    if defense.key_action is None:
        raise ValueError(f"{defense!r} does not say how its key acts: nothing can be matched")
    return defense.key_action
