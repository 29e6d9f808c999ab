"""Several guesses made into one, by weights that held-out images decide."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from scipy.optimize import nnls
from torch import Tensor

from attacks.combination import Combination
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.threat import Access, Surface

BATCH = 256
FOLDS = 5  # parts of the held-out images, each guessed with weights that the others decided
EMPTY = 1e-12  # directions of the members' guesses with a smaller share of power are dropped


class StackedCombination(Combination):
    """Adds up other attacks' guesses: ``mean + sum_i w_i (guess_i - mean)``, every ``w_i >= 0``.

    The mean is that of the auxiliary images, so weights that sum to less than one shrink towards
    the blind guess. Weights minimise the squared error on held-out auxiliary images, with one draw
    of the release of each. There is one weight for a member, not one for a pixel: some hundreds of
    held-out images decide a handful of numbers well, and thousands badly.

    The combination is used only where it beats each member, and the mean image, when every fifth
    of the held-out images is guessed with weights that the rest decided, and does not lose to them
    with the final weights either. Otherwise the best of them alone takes its place: on held-out
    images this attack is never worse than its best member. Members that chose settings of their
    own on those images are flattered by that, all of them and a little.

    Threat model:
        Auxiliary images and queries, and what the members need.

    Cost: That of the members on the held-out images and on the targets. A search among them
    (`LikelihoodMaximization`) searches for every held-out image too, which is why none is a
    member of the suites.

    Args:
        members: Name to attack, at least one. The smallest `max_targets` among them is that of
            the combination.

    Deviations from the paper:
        Weights are not made to sum to one, because the mean image is a member; the weights come
        from one held-out set, not from cross-validation of the members, which would be trained
        over and over.

    References:
        Breiman. "Stacked regressions". Machine Learning 1996. doi:10.1007/BF00117832
        Wolpert. "Stacked generalization". Neural Networks 1992. doi:10.1016/S0893-6080(05)80023-1
    """

    own_needs: ClassVar[frozenset[Access]] = frozenset({Access.AUXILIARY, Access.QUERY})

    _weights: Tensor
    _mean: Tensor

    def learn(self, surface: Surface, *, generator: torch.Generator) -> Iterator[Progress]:
        """Guess the held-out images, and weigh the members."""
        self._mean = surface.auxiliary.images().mean(0)
        images, release = surface.validation_pairs()
        if not len(images):
            self._weights = torch.full((len(self.members),), 1 / len(self.members))
            return
        batches = images.split(BATCH)
        seen = []
        for step, batch in enumerate(batches, 1):
            part = release[slice((step - 1) * BATCH, step * BATCH)]
            seen.append(self.guesses(part, surface, generator=generator))
            yield Progress(step, len(batches), float((seen[-1] - batch[:, None]).square().mean()))
        self._weights = _weigh(torch.cat(seen), images, self._mean)

    def export_state(self) -> Mapping[str, Tensor]:
        """Weights ``(members,)``, the mean image, and the members' states."""
        return {"weights": self._weights, "mean": self._mean, **super().export_state()}

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Take everything back."""
        super().import_state(state, surface)
        self._weights, self._mean = state["weights"], state["mean"]

    def recover(
        self, release: Release, surface: Surface, *, generator: torch.Generator
    ) -> Float[Tensor, "b c h w"]:
        """Combine the guesses of the members that have a weight."""
        total = (1 - self._weights.sum()) * self._mean.repeat(len(release), 1, 1, 1)
        for weight, member in zip(self._weights, self.members.values(), strict=True):
            if weight > 0:
                total = total + weight * member(release, surface, generator=generator)
        return total


def _weigh(
    guesses: Float[Tensor, "n m c h w"], images: Float[Tensor, "n c h w"], mean: Tensor
) -> Float[Tensor, " m"]:
    """Weights of the combination, or of the best member, or none for the mean image."""
    deviations = (guesses - mean).flatten(2).double()
    wanted = (images - mean).flatten(1).double()
    gram = torch.einsum("nip,njp->nij", deviations, deviations)
    match = torch.einsum("nip,np->ni", deviations, wanted)
    fold = torch.arange(len(images)) % FOLDS
    crossed = torch.zeros_like(match)
    for k in range(FOLDS):
        rest = fold != k
        crossed[~rest] = _least_squares(gram[rest].sum(0), match[rest].sum(0))
    together = _least_squares(gram.sum(0), match.sum(0))
    choices = torch.cat([torch.eye(len(together)), torch.zeros(1, len(together))]).double()

    def error(weights: Tensor) -> float:
        guess = torch.einsum("nip,ni->np", deviations, weights.expand_as(match))
        shown = (guess + mean.flatten()).clamp(0, 1) - mean.flatten()
        return float((shown - wanted).square().mean())

    alone = [error(choice) for choice in choices]
    better = error(crossed) < min(alone) and error(together) <= min(alone)
    chosen = together if better else choices[alone.index(min(alone))]
    return chosen.float()


def _least_squares(gram: Float[Tensor, "m m"], match: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """The non-negative weights with ``gram w`` closest to `match`, of equal members some."""
    values, axes = torch.linalg.eigh(gram)
    kept = values > EMPTY * values.max()
    root = values[kept].sqrt()
    design, target = root[:, None] * axes[:, kept].T, axes[:, kept].T @ match / root
    if not bool(kept.any()):
        return torch.zeros_like(match)
    weights = nnls(design.cpu().numpy(), target.cpu().numpy())[0]
    return torch.from_numpy(weights).to(design.device)
