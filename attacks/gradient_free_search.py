"""Search for the image that explains the release best, without a single gradient."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
import torch
from cmaes import CMA
from jaxtyping import Float
from torch import Tensor

from splitbench.attack import Attack
from splitbench.placement import here
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.threat import Access, Surface

BATCH = 2048  # candidates sent through the client at once


class GradientFreeSearch(Attack):
    """Minimises the mismatch over the leading principal components of images, by CMA-ES.

    It asks of the client nothing but features. Where a defense hides its gradients (by rounding,
    saturation, an argmax), searches that follow gradients stop at once and this one does not:
    where it beats them, they were fooled, and the release leaks more than they say.

    An image is the mean auxiliary image plus a combination of `components` directions, scaled to
    unit variance over the auxiliary images; the search starts at the mean. Where the defense has
    an exact likelihood, a standard normal prior on the coefficients is added to it; elsewhere the
    distance alone decides. Images are independent problems; the candidates of all of them go
    through the client together. Each keeps the best candidate that it has seen.

    It is a check, not a contender: what lies outside the components is never recovered, so it
    falls behind wherever gradients are of use.

    Threat model:
        The client's weights, used as a black box that computes features, and auxiliary images.

    Cost: `generations` times `population` passes of the client per image, forward only, and as
    many updates of a covariance of `components` squared values on the CPU.

    Args:
        components: Principal components that are searched, > 1; fewer where there are fewer.
        generations: Rounds of candidates, > 0.
        population: Candidates in each round, > 3; None lets CMA-ES choose by the dimension.
        spread: Deviation of the first candidates, in deviations of the auxiliary images, > 0.
        max_targets: Attack the first so many targets; None attacks all.

    Deviations from the paper:
        Plain CMA-ES in the space of principal components instead of the latent space of a
        generator.

    References:
        Hansen, Ostermeier. "Completely derandomized self-adaptation in evolution strategies".
        Evolutionary Computation 2001. doi:10.1162/106365601750190398
        Li et al. "Auditing privacy defenses in federated learning via generative gradient
        leakage". CVPR 2022. arXiv:2203.15696 (the same optimiser where gradients are degraded)

    Example:
        >>> sorted(GradientFreeSearch().needs)
        [<Access.AUXILIARY: 'auxiliary'>, <Access.CLIENT: 'client'>]
    """

    needs: ClassVar[frozenset[Access]] = frozenset({Access.AUXILIARY, Access.CLIENT})
    gradient_free: ClassVar[bool] = True

    _mean: Tensor
    _directions: Tensor

    def __init__(
        self,
        *,
        components: int = 64,
        generations: int = 1000,
        population: int | None = None,
        spread: float = 0.5,
        max_targets: int | None = 16,
    ) -> None:
        if components < 2:
            raise ValueError(f"components={components}: must be at least 2")
        if generations < 1:
            raise ValueError(f"generations={generations}: must be at least 1")
        if population is not None and population < 4:
            raise ValueError(f"population={population}: at least 4, or None for CMA-ES's choice")
        if not spread > 0:
            raise ValueError(f"spread={spread}: must be positive")
        if max_targets is not None and max_targets < 1:
            raise ValueError(f"max_targets={max_targets}: at least 1, or None for all")
        self.components = components
        self.generations = generations
        self.population = population
        self.spread = spread
        self.max_targets = max_targets

    def learn(self, surface: Surface, *, generator: torch.Generator) -> Iterator[Progress]:
        """Find the principal components of the auxiliary images."""
        del generator
        images = surface.auxiliary.images()
        self._mean = images.mean(0)
        centred = (images - self._mean).flatten(1).double()
        _, values, axes = torch.linalg.svd(centred, full_matrices=False)
        kept = min(self.components, int((values > 1e-6 * values[0]).sum()))
        if kept < 2:
            raise ValueError(f"the auxiliary images have {kept} principal components: want 2")
        leading = axes[:kept] * values[:kept, None] / len(images) ** 0.5
        # The sign of an axis is arbitrary: let its largest entry be positive.
        signs = leading.gather(1, leading.abs().argmax(1, keepdim=True)).sign()
        self._directions = (leading * signs).float().unflatten(1, images.shape[1:])
        yield Progress(1, 1, 0.0)

    def export_state(self) -> Mapping[str, Tensor]:
        """Mean image, and the directions at unit variance, ``(components, c, h, w)``."""
        return {"mean": self._mean, "directions": self._directions}

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Take them back."""
        super().import_state(state, surface)
        self._mean, self._directions = state["mean"], state["directions"]

    @torch.no_grad()
    def recover(
        self, release: Release, surface: Surface, *, generator: torch.Generator
    ) -> Float[Tensor, "b c h w"]:
        """Search for each image; all searches draw the same numbers."""
        seed = int(torch.randint(2**31, (), generator=generator))
        start = np.zeros(len(self._directions))
        searches = [
            CMA(mean=start, sigma=self.spread, seed=seed, population_size=self.population)
            for _ in range(len(release))
        ]
        best = torch.zeros(len(release), len(start))
        least = torch.full((len(release),), torch.inf)
        for _ in range(self.generations):
            points = [[s.ask() for _ in range(s.population_size)] for s in searches]
            candidates = torch.from_numpy(np.array(points)).float().to(here())
            costs = self._costs(candidates, release, surface)
            for search, mine, values in zip(searches, points, costs.double().tolist(), strict=True):
                search.tell(list(zip(mine, values, strict=True)))
            lowest, place = costs.min(1)
            better = lowest < least
            chosen = candidates[torch.arange(len(release)), place]
            best = torch.where(better[:, None], chosen, best)
            least = torch.where(better, lowest, least)
        return self._images(best)

    def _costs(self, candidates: Tensor, release: Release, surface: Surface) -> Tensor:
        """Objective of each candidate ``(b, population, components)``, as ``(b, population)``."""
        example = torch.arange(len(candidates)).repeat_interleave(candidates.shape[1])
        flat = candidates.flatten(0, 1)
        parts = [
            self._cost(flat[part], release[example[part]], surface)
            for part in torch.arange(len(flat)).split(BATCH)
        ]
        return torch.cat(parts).view(candidates.shape[:2])

    def _cost(self, candidates: Tensor, release: Release, surface: Surface) -> Tensor:
        features = tuple(surface.client(self._images(candidates)))
        cost = surface.mismatch(release, features)
        if surface.is_likelihood(release, features):
            cost = cost + candidates.square().sum(1) / 2
        return cost

    def _images(self, coefficients: Tensor) -> Tensor:
        images: Tensor = self._mean + torch.einsum("nk,kchw->nchw", coefficients, self._directions)
        return images.clamp(0, 1)
