"""Auxiliary images filed under their releases, which vote: a piece, not an attack."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from splitbench.attack import Attack
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.threat import Access, Surface

BATCH = 256
COUNTS = (1, 2, 4, 8, 16, 32, 64)  # neighbours to choose from
WIDTHS = (0.1, 0.2, 0.4, 0.8)  # kernels to choose from

Weighting = Literal["uniform", "kernel"]


class Retrieval(Attack):
    """Files auxiliary images, and answers with a weighted mean of the nearest.

    Where a defense is random, an image is filed under the mean of several of its releases:
    whoever searches needs no noise on the files beside that on the question.

    Subclasses say what is near: `_measure` learns a metric, `_key` maps releases to vectors, and
    `_compare` compares those.
    """

    needs: ClassVar[frozenset[Access]] = frozenset({Access.AUXILIARY, Access.QUERY})

    neighbors: int | None
    draws: int
    weighting: Weighting

    _images: Tensor
    _keys: Tensor
    _mean: Tensor
    _map: Tensor
    _choice: Tensor

    def learn(self, surface: Surface, *, generator: torch.Generator) -> Iterator[Progress]:
        """Query all auxiliary images and file them; choose how many vote, or how."""
        filed = [
            (images, *self._file(images, release.flat(), surface))
            for images, release in surface.pairs()
        ]
        self._images, features, denoised = (torch.cat(part) for part in zip(*filed, strict=True))
        yield from self._measure(features, denoised, surface, generator)
        self._keys = self._key(denoised)
        self._choice = torch.tensor(self._settled(surface))

    def export_state(self) -> Mapping[str, Tensor]:
        """The files, the metric, and what was chosen."""
        return {
            "keys": self._keys,
            "mean": self._mean,
            "map": self._map,
            "images": self._images,
            "choice": self._choice,
        }

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Take them back."""
        super().import_state(state, surface)
        self._keys, self._mean, self._map = state["keys"], state["mean"], state["map"]
        self._images, self._choice = state["images"], state["choice"]

    def recover(
        self, release: Release, surface: Surface, *, generator: torch.Generator
    ) -> Float[Tensor, "b c h w"]:
        """Weighted mean of the nearest images."""
        del surface, generator
        return self._vote(*self._nearest(self._compare(release.flat())), float(self._choice))

    @abstractmethod
    def _measure(
        self, features: Tensor, denoised: Tensor, surface: Surface, generator: torch.Generator
    ) -> Iterator[Progress]:
        """Learn what is near: set `_mean` and `_map`, at least.

        Args:
            features: One release of each auxiliary image, ``(n, values)``.
            denoised: The mean of several; the very same where releases are not random.
            surface: Of the attack.
            generator: Of the attack.
        """

    @abstractmethod
    def _key(self, features: Tensor) -> Tensor:
        """Vectors ``(b, d)`` of flat releases."""

    @abstractmethod
    def _compare(self, features: Tensor) -> Tensor:
        """Similarity of flat releases to each filed image, ``(b, n)``; larger is nearer."""

    def _settled(self, surface: Surface) -> float:
        """How many vote, or how: as told, or as held-out images choose."""
        if self.neighbors is not None and self.weighting == "uniform":
            return float(self.neighbors)
        held_out, release = surface.validation_pairs()
        if not len(held_out):
            return 1.0
        return self._choose(self._compare(release.flat()), held_out)[1]

    def _file(self, images: Tensor, first: Tensor, surface: Surface) -> tuple[Tensor, Tensor]:
        """One release of each image, and the mean of several where the release is random."""
        total = first.clone()
        limited = surface.threat.query_budget is not None
        draws = 1 if limited else max(1, self.draws // surface.threat.observations)
        for _ in range(draws - 1):
            again = surface.query(images).flat()
            if torch.equal(again, first):
                return first, first
            total += again
        return first, total / draws

    def _choose(self, similarity: Tensor, images: Tensor) -> tuple[float, float]:
        """The least squared error on held-out images, and the choice that has it."""
        near = self._nearest(similarity)
        candidates = [k for k in COUNTS if k <= near[0].shape[1]]
        choices = [float(c) for c in (candidates if self.weighting == "uniform" else WIDTHS)]
        errors = [float((self._vote(*near, c) - images).square().mean()) for c in choices]
        least = min(errors)
        return least, choices[errors.index(least)]

    def _nearest(self, similarity: Tensor) -> tuple[Tensor, Tensor]:
        """Similarities and indices of all that may vote, ``(b, most)``; ties by position."""
        most = min(self.neighbors or max(COUNTS), similarity.shape[1])
        nearest = similarity.sort(dim=1, descending=True, stable=True)
        return nearest.values[:, :most], nearest.indices[:, :most]

    def _vote(self, values: Tensor, index: Tensor, choice: float) -> Tensor:
        """Weighted mean of the chosen images."""
        if self.weighting == "uniform":
            return torch.stack([self._images[i].mean(0) for i in index[:, : int(choice)]])
        behind = values - values[:, :1]
        furthest = behind[:, -1:].abs().clamp(min=torch.finfo(behind.dtype).tiny)
        weights = torch.softmax(behind / (choice * furthest), dim=1)
        pairs = zip(weights, index, strict=True)
        return torch.stack([torch.tensordot(w, self._images[i], dims=1) for w, i in pairs])


def check_retrieval(neighbors: int | None, draws: int, weighting: str) -> None:
    """Refuse settings that no retrieval takes.

    Raises:
        ValueError: One of them is out of range.
    """
    if neighbors is not None and neighbors < 1:
        raise ValueError(f"neighbors={neighbors}: at least 1, or None to let data choose")
    if draws < 1:
        raise ValueError(f"draws={draws}: at least 1")
    if weighting not in ("uniform", "kernel"):
        raise ValueError(f"weighting={weighting!r}: choose 'uniform' or 'kernel'")


def standardisation(features: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    """Scales that give each feature unit variance, and 0 for features that never change."""
    deviation = (features - features.mean(0)).square().mean(0).sqrt()
    alive = deviation > 1e-6 * deviation.max() if len(deviation) else deviation > 0
    return torch.where(alive, 1 / deviation, torch.zeros_like(deviation))
