"""Retrieval: show an auxiliary image whose release looks alike."""

from collections.abc import Iterator

import torch
from torch import Tensor

from attacks.principal_axes import principal_axes
from attacks.retrieval import Retrieval, Weighting, check_retrieval, standardisation
from splitbench.progress import Progress
from splitbench.threat import Surface


class NearestNeighbor(Retrieval):
    """Returns the mean of the k auxiliary images whose releases are nearest.

    Distances are cosines between centred features: as they are, standardised, or with their
    principal components whitened. A single neighbour is a real photograph, strong for what is
    semantic in an image and poor in squared error; the mean of many approaches the posterior mean
    where little is left of the image.

    Where a defense is random, an auxiliary image is filed under the mean of several of its
    releases: whoever searches needs no noise on the files beside that on the question.

    Threat model:
        Auxiliary images and queries.

    Cost: One inner product per pair of target and auxiliary image, and `draws` queries of each
    auxiliary image (two where the release turns out not to be random).

    Args:
        neighbors: How many are averaged, >= 1; None lets the held-out auxiliary images choose
            (64 with a kernel).
        standardise: Give each feature the same variance, so that none decides by its scale alone.
        whiten: Give so many principal components (of the standardised features, where these are)
            the same variance and forget the others; 0 leaves features as they are.
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
        standardise: bool = True,
        whiten: int = 0,
        draws: int = 64,
        weighting: Weighting = "uniform",
    ) -> None:
        check_retrieval(neighbors, draws, weighting)
        if whiten < 0:
            raise ValueError(f"whiten={whiten}: a number of components, or 0 for none")
        self.neighbors = neighbors
        self.standardise = standardise
        self.whiten = whiten
        self.draws = draws
        self.weighting = weighting

    def _measure(
        self, features: Tensor, denoised: Tensor, surface: Surface, generator: torch.Generator
    ) -> Iterator[Progress]:
        del denoised, surface
        self._mean = features.mean(0)
        self._map = self._axes(features, generator)
        yield Progress(1, 1, 0.0)

    def _axes(self, features: Tensor, generator: torch.Generator) -> Tensor:
        """Scales ``(d,)``, or a map ``(d, components)`` that whitens."""
        scales = standardisation(features) if self.standardise else torch.ones_like(features[0])
        if not self.whiten or not len(scales):
            return scales
        axes, lengths = principal_axes((features - self._mean) * scales, self.whiten, generator)
        kept = lengths > 1e-6 * lengths[0]
        return scales[:, None] * axes[:, kept] / lengths[kept]

    def _key(self, features: Tensor) -> Tensor:
        centred = features - self._mean
        mapped = centred @ self._map if self._map.ndim == 2 else centred * self._map
        return torch.nn.functional.normalize(mapped, dim=1)

    def _compare(self, features: Tensor) -> Tensor:
        return self._key(features) @ self._keys.T
