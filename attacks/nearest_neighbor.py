"""Retrieval: show an auxiliary image whose release looks alike."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from splitbench.attack import Attack
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.threat import Access, Surface


class NearestNeighbor(Attack):
    """Returns the mean of the k auxiliary images whose releases are nearest.

    Distances are cosines between standardised features, optionally whitened. A single neighbour
    is a real photograph, strong for what is semantic in an image and poor in squared error; the
    mean of many approaches the posterior mean where little is left of the image.

    Where a defense is random, an auxiliary image is filed under the mean of several of its
    releases: whoever searches needs no noise on the files beside that on the question.

    Threat model:
        Auxiliary images and queries.

    Cost: One inner product per pair of target and auxiliary image, and `draws` queries of each
    auxiliary image (two where the release turns out not to be random).

    Args:
        neighbors: How many are averaged, >= 1; None lets the held-out auxiliary images choose.
        whiten: Principal components to whiten to, or 0 for standardised features.
        draws: Releases of each auxiliary image that are averaged, >= 1; fewer where each release
            is pooled from several observations, and one under a query budget.

    Deviations from the paper:
        None; the method is folklore.

    References:
        Cover, Hart. "Nearest neighbor pattern classification". IEEE Transactions on Information
        Theory 1967. doi:10.1109/TIT.1967.1053964
    """

    needs: ClassVar[frozenset[Access]] = frozenset({Access.AUXILIARY, Access.QUERY})
    CHOICES: ClassVar[tuple[int, ...]] = (1, 2, 4, 8, 16, 32, 64)

    _keys: Tensor
    _mean: Tensor
    _map: Tensor
    _images: Tensor
    _k: Tensor

    def __init__(self, *, neighbors: int | None = None, whiten: int = 0, draws: int = 64) -> None:
        if neighbors is not None and neighbors < 1:
            raise ValueError(f"neighbors={neighbors}: at least 1, or None to let data choose")
        if whiten < 0:
            raise ValueError(f"whiten={whiten}: a number of components, or 0 for none")
        if draws < 1:
            raise ValueError(f"draws={draws}: at least 1")
        self.neighbors = neighbors
        self.whiten = whiten
        self.draws = draws

    def learn(self, surface: Surface, *, generator: torch.Generator) -> Iterator[Progress]:
        """Query all auxiliary images and keep their features; choose k."""
        del generator
        filed = [
            (images, *self._file(images, release.flat(), surface))
            for images, release in surface.pairs()
        ]
        self._images, features, denoised = (torch.cat(part) for part in zip(*filed, strict=True))
        self._mean = features.mean(0)
        self._map = self._axes(features - self._mean)
        self._keys = self._key(denoised)
        k = self.neighbors or self._choose(surface)
        self._k = torch.tensor(min(k, len(self._images)))
        yield Progress(1, 1, 0.0)

    def export_state(self) -> Mapping[str, Tensor]:
        """Features and images of the auxiliary data."""
        return {
            "keys": self._keys,
            "mean": self._mean,
            "map": self._map,
            "images": self._images,
            "k": self._k,
        }

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Take them back."""
        super().import_state(state, surface)
        self._keys, self._mean, self._map = state["keys"], state["mean"], state["map"]
        self._images, self._k = state["images"], state["k"]

    def recover(
        self, release: Release, surface: Surface, *, generator: torch.Generator
    ) -> Float[Tensor, "b c h w"]:
        """Mean of the nearest images."""
        del surface, generator
        nearest = self._nearest(release, int(self._k))
        return torch.stack([self._images[index].mean(0) for index in nearest])

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

    def _choose(self, surface: Surface) -> int:
        """The k with the least squared error on the held-out images."""
        held_out, release = surface.validation_pairs()
        if not len(held_out):
            return 1
        most = min(max(self.CHOICES), len(self._images))
        nearest = self._nearest(release, most)
        sums = self._images[nearest].cumsum(1)
        candidates = [k for k in self.CHOICES if k <= most]
        errors = [float((sums[:, k - 1] / k - held_out).square().mean()) for k in candidates]
        return candidates[errors.index(min(errors))]

    def _nearest(self, release: Release, k: int) -> Tensor:
        """Indices of the k most similar auxiliary images, ``(b, k)``; ties by position."""
        similarity = self._key(release.flat()) @ self._keys.T
        return similarity.sort(dim=1, descending=True, stable=True).indices[:, :k]

    def _axes(self, centred: Tensor) -> Tensor:
        """Scales ``(d,)`` that standardise, or a map ``(d, components)`` that whitens."""
        if self.whiten and centred.shape[1]:
            rank = min(self.whiten, *centred.shape)
            _, values, axes = torch.linalg.svd(centred, full_matrices=False)
            kept = values[:rank] > 1e-6 * values[0]
            whitening: Tensor = axes[:rank][kept] / values[:rank][kept, None]
            return whitening.T.contiguous()
        deviation = centred.square().mean(0).sqrt()
        alive = deviation > 1e-6 * deviation.max() if len(deviation) else deviation > 0
        return torch.where(alive, 1 / deviation, torch.zeros_like(deviation))

    def _key(self, features: Tensor) -> Tensor:
        centred = features - self._mean
        mapped = centred @ self._map if self._map.ndim == 2 else centred * self._map
        return torch.nn.functional.normalize(mapped, dim=1)
