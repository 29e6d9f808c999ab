"""Choose among several guesses, image by image, by how well each explains the release."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from scipy.optimize import isotonic_regression
from torch import Tensor

from attacks.combination import Combination
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.threat import Access, Surface

BATCH = 256
HELD_OUT = 512  # held-out images from which each member's error is learnt: a search is slow
FOLDS = 5  # parts of the held-out images, each chosen for by what the others taught
CLEARLY = 1.0  # standard errors by which the choice must beat the best member


class LikelihoodSelection(Combination):
    """Shows, for each image, the member's guess with the least squared error as *predicted*.

    What an adversary can compute of a guess is how badly its features explain the release, the
    mismatch: the negative log likelihood, or a squared distance. Small is not always good: of two
    guesses the smooth one is often nearer to the image and the sharp one to the release. And most
    of it is the noise of the message, the same for all guesses. So each member is compared with
    the best one, image by image: how much more it errs is regressed on how much worse it explains
    the release, over held-out auxiliary images, by a rising step function (isotonic regression).
    The member with the least that follows is shown.

    The choice is used only where it clearly beats the best member, by one standard error, when it
    is made for every fifth of the held-out images after the rest. Otherwise the member with the
    least mean error is shown for all images.

    Threat model:
        The client's weights, auxiliary images and queries, and what the members need.

    Cost: That of the members on some hundreds of held-out images and on the targets, and one pass
    of the client for each guess.

    Args:
        members: Name to attack, at least one. The smallest `max_targets` among them is that of
            the choice.

    Deviations from the paper:
        There is none to deviate from; that a learnt quality decides, and not the likelihood
        itself, follows the selection problem of Rice.

    References:
        Rice. "The algorithm selection problem". Advances in Computers 1976.
        doi:10.1016/S0065-2458(08)60520-3
        Barlow, Brunk. "The isotonic regression problem and its dual". Journal of the American
        Statistical Association 1972. doi:10.1080/01621459.1972.10481216
    """

    own_needs: ClassVar[frozenset[Access]] = frozenset(
        {Access.AUXILIARY, Access.QUERY, Access.CLIENT}
    )

    _mismatches: Tensor
    _errors: Tensor
    _favourite: Tensor

    def learn(self, surface: Surface, *, generator: torch.Generator) -> Iterator[Progress]:
        """Guess held-out images, and learn what each member's mismatch says about its error."""
        images, release = surface.validation_pairs(HELD_OUT)
        # Without held-out images there is nothing to choose by: the first member is shown.
        found = [torch.zeros(2, len(self.members), 0)]
        batches = images.split(BATCH) if len(images) else ()
        for step, batch in enumerate(batches, 1):
            part = release[slice((step - 1) * BATCH, step * BATCH)]
            guesses = self.guesses(part, surface, generator=generator).transpose(0, 1)
            squares = (guesses - batch).square().flatten(2).mean(2)
            found.append(torch.stack([_mismatches(part, guesses, surface), squares]))
            yield Progress(step, len(batches), float(squares.mean(1).min()))
        self._mismatches, self._errors = torch.cat(found, dim=2)
        self._favourite = _favourite(self._mismatches, self._errors)

    def export_state(self) -> Mapping[str, Tensor]:
        """What was seen of the members, the favourite, and the members' states."""
        return {
            "mismatches": self._mismatches,
            "errors": self._errors,
            "favourite": self._favourite,
            **super().export_state(),
        }

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Take everything back."""
        super().import_state(state, surface)
        self._mismatches, self._errors = state["mismatches"], state["errors"]
        self._favourite = state["favourite"]

    def recover(
        self, release: Release, surface: Surface, *, generator: torch.Generator
    ) -> Float[Tensor, "b c h w"]:
        """The favourite's guesses, or of each image the one with the least predicted error."""
        if self._favourite >= 0:
            favourite = list(self.members.values())[int(self._favourite)]
            return favourite(release, surface, generator=generator)
        guesses = self.guesses(release, surface, generator=generator).transpose(0, 1)
        seen = _mismatches(release, guesses, surface)
        chosen = _predicted(self._mismatches, self._errors, seen).argmin(0)
        return guesses[chosen, torch.arange(len(release))]


@torch.no_grad()
def _mismatches(
    release: Release, guesses: Float[Tensor, "m b c h w"], surface: Surface
) -> Float[Tensor, "m b"]:
    """How badly each guess explains the release."""
    return torch.stack([surface.mismatch(release, tuple(surface.client(g))) for g in guesses])


def _favourite(mismatches: Float[Tensor, "m n"], errors: Float[Tensor, "m n"]) -> Int[Tensor, ""]:
    """The member to show always, or -1 where choosing is clearly better."""
    if not errors.numel():
        return torch.tensor(0)
    best = errors.mean(1).argmin()
    if errors.shape[1] <= FOLDS:
        return best
    fold = torch.arange(errors.shape[1]) % FOLDS
    chosen = torch.empty_like(errors[0])
    for k in range(FOLDS):
        rest, part = fold != k, fold == k
        predicted = _predicted(mismatches[:, rest], errors[:, rest], mismatches[:, part])
        choice = predicted.argmin(0)
        chosen[part] = errors[:, part].gather(0, choice[None])[0]
    saved = errors[best] - chosen
    wanted = CLEARLY * saved.std() / len(saved) ** 0.5
    return torch.tensor(-1) if saved.mean() > wanted else best


def _predicted(
    mismatches: Float[Tensor, "m n"], errors: Float[Tensor, "m n"], seen: Float[Tensor, "m b"]
) -> Float[Tensor, "m b"]:
    """How much more each member errs than the one that is best on average, given mismatches."""
    best = errors.mean(1).argmin()
    extra, worse, now = (v.double() - v[best].double() for v in (errors, mismatches, seen))
    return torch.stack([_rising(*row) for row in zip(worse, extra, now, strict=True)])


def _rising(
    known: Float[Tensor, " n"], values: Float[Tensor, " n"], new: Float[Tensor, " b"]
) -> Float[Tensor, " b"]:
    """The rising step function that is closest to the values, at new places."""
    order = known.argsort(stable=True)
    places, counts = known[order].unique_consecutive(return_counts=True)
    means = torch.stack([part.mean() for part in values[order].split(counts.tolist())])
    steps = isotonic_regression(means.cpu().numpy(), weights=counts.double().cpu().numpy()).x
    # Between two places that were seen: the lower one's value; below all of them: the lowest.
    at = torch.searchsorted(places, new.contiguous(), right=True) - 1
    return torch.from_numpy(steps).to(at.device)[at.clamp(min=0)]
