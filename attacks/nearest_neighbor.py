"""Retrieval: show an auxiliary image whose release looks alike."""

from collections.abc import Iterator

import torch
from torch import Tensor

from attacks.retrieval import Retrieval, Weighting, check_retrieval, standardisation
from splitbench.progress import Progress
from splitbench.threat import Surface


class NearestNeighbor(Retrieval):
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
        neighbors: How many are averaged, >= 1; None lets the held-out auxiliary images choose
            (64 with a kernel).
        whiten: Principal components to whiten to, or 0 for standardised features.
        draws: Releases of each auxiliary image that are averaged, >= 1; fewer where each release
            is pooled from several observations, and one under a query budget.
        weighting: ``uniform``, or ``kernel`` for weights that fall exponentially with how much
            less alike a neighbour is than the nearest one, in units of the furthest; how fast,
            held-out auxiliary images choose.

    Deviations from the paper:
        None; the method is folklore.

    References:
        Cover, Hart. "Nearest neighbor pattern classification". IEEE Transactions on Information
        Theory 1967. doi:10.1109/TIT.1967.1053964
        Nadaraya. "On estimating regression". Theory of Probability and its Applications 1964,
        for the kernel. doi:10.1137/1109020
    """

    def __init__(
        self,
        *,
        neighbors: int | None = None,
        whiten: int = 0,
        draws: int = 64,
        weighting: Weighting = "uniform",
    ) -> None:
        check_retrieval(neighbors, draws, weighting)
        if whiten < 0:
            raise ValueError(f"whiten={whiten}: a number of components, or 0 for none")
        self.neighbors = neighbors
        self.whiten = whiten
        self.draws = draws
        self.weighting = weighting

    def _measure(
        self, features: Tensor, denoised: Tensor, surface: Surface, generator: torch.Generator
    ) -> Iterator[Progress]:
        del denoised, surface, generator
        self._mean = features.mean(0)
        self._map = self._axes(features)
        yield Progress(1, 1, 0.0)

    def _axes(self, features: Tensor) -> Tensor:
        """Scales ``(d,)`` that standardise, or a map ``(d, components)`` that whitens."""
        if not self.whiten or not features.shape[1]:
            return standardisation(features)
        rank = min(self.whiten, *features.shape)
        _, values, axes = torch.linalg.svd(features - features.mean(0), full_matrices=False)
        kept = values[:rank] > 1e-6 * values[0]
        whitening: Tensor = axes[:rank][kept] / values[:rank][kept, None]
        return whitening.T.contiguous()

    def _key(self, features: Tensor) -> Tensor:
        centred = features - self._mean
        mapped = centred @ self._map if self._map.ndim == 2 else centred * self._map
        return torch.nn.functional.normalize(mapped, dim=1)

    def _compare(self, features: Tensor) -> Tensor:
        return self._key(features) @ self._keys.T
