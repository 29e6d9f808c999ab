"""Search for the image that explains the release best."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from attacks.pixel_descent import descend
from attacks.priors.prior import Prior
from attacks.readings import (
    EXACT,
    GREY,
    PRECISION,
    Reading,
    grey_images,
    likely_readings,
    nats_per_unit,
    unexplained,
)
from attacks.search_diagnostics import search_diagnostics
from splitbench.attack import Attack
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.threat import Access, Surface

BATCH = 128  # images searched for at once
CHOOSING = 32  # held-out images on which the weight of the prior is chosen
HELD_OUT = 256  # held-out images on which the warm start's error is measured
PROBES = 8  # grey images sent through the channel to see whether it is deterministic
ALONE = math.inf  # weight of a prior that leaves the warm start as it is


class LikelihoodMaximization(Attack):
    """Minimises ``mismatch(z, f(x)) + weight * prior(x)`` over x in [0, 1], by Adam.

    The mismatch is the exact negative log likelihood where the defense has one. Otherwise it is a
    squared distance (for a quantiser: to the cell that was released), taken for Gaussian noise: as
    large as the channel was seen to make it; or, where it is deterministic, so small that an error
    of 1 % of what a grey image makes costs half a nat per pixel. Images are independent problems,
    solved side by side; each keeps the iterate with the least objective, which the adversary can
    compute.

    Within a quantiser's cell every value is as likely, so the prior alone decides there, and
    pushes the features to the cell's border, where the squared error is largest. Where there are
    held-out images to choose by, the search is also tried with the decoded values as centres, with
    the squared rounding error of held-out images as variance, and with the decoded values taken at
    their word, as who does not know of the rounding would; the best is kept. Above some two bits
    that is one of the latter.

    With `warm_start` the search starts at that attack's guess, and the guess is the centre of a
    normal prior whose variance is the attack's squared error on held-out auxiliary images: where
    the release says little, the guess stays; where it says all, it is refined. Where the search
    makes held-out images worse whatever the weight, the guess is kept as it is: the most probable
    image is not the best one in squared error.

    Threat model:
        The client's weights, and a few queries that show whether the channel is deterministic.
        With several `weights` or a `warm_start` also auxiliary images, and what that needs.

    Cost: `steps` passes of the client, forward and backward, per image and start.

    Args:
        steps: Adam steps, > 0.
        learning_rate: First step size in pixel units (the range of an image is 1); falls to zero
            along a cosine.
        weights: Candidates for the weight of the prior, >= 0. One is taken as it is; of several
            (and the readings of a quantiser, and the warm start left alone) the one with the
            least squared error on held-out auxiliary images is.
        refinements: How often the weights half-way (in logarithm) between the best one and its
            neighbours are tried, too, >= 0. A release whose likelihood is known is otherwise
            served better by few weights than one whose noise is only guessed.
        prior: Belief about images, or None.
        warm_start: Attack whose guess is refined, or None to start from grey.
        restart: With a `warm_start`: search from grey too, and keep the better objective.
        max_targets: Attack the first so many targets; None attacks all.

    Deviations from the paper:
        Exact likelihoods, clamped pixels and a cosine schedule instead of plain feature distance;
        the weight of the prior and the reading of a quantiser are chosen on held-out auxiliary
        images; warm start.

    References:
        He, Zhang, Lee. "Model inversion attacks against collaborative inference". ACSAC 2019.
        doi:10.1145/3359789.3359824

    Example:
        >>> sorted(LikelihoodMaximization(weights=(1.0,)).needs)
        [<Access.CLIENT: 'client'>, <Access.QUERY: 'query'>]
    """

    _weight: Tensor
    _reading: Tensor
    _rounding: Tensor
    _variance: Tensor
    _noise: Tensor

    def __init__(
        self,
        *,
        steps: int = 500,
        learning_rate: float = 0.05,
        weights: Sequence[float] = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5),
        refinements: int = 1,
        prior: Prior | None = None,
        warm_start: Attack | None = None,
        restart: bool = False,
        max_targets: int | None = None,
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps={steps}: must be at least 1")
        if not learning_rate > 0:
            raise ValueError(f"learning_rate={learning_rate}: must be positive")
        if not weights or min(weights) < 0:
            raise ValueError(f"weights={weights}: want at least one, none negative")
        if refinements < 0:
            raise ValueError(f"refinements={refinements}: must be at least 0")
        if restart and warm_start is None:
            raise ValueError("restart=True: there is only the grey start without a warm_start")
        if max_targets is not None and max_targets < 1:
            raise ValueError(f"max_targets={max_targets}: at least 1, or None for all")
        self.steps = steps
        self.learning_rate = learning_rate
        self.weights = tuple(float(w) for w in weights)
        self.refinements = refinements
        self.prior = prior
        self.warm_start = warm_start
        self.restart = restart
        self.max_targets = max_targets

    @property
    def needs(self) -> frozenset[Access]:  # type: ignore[override]  # depends on the settings
        """What it asks of the surface."""
        needs = {Access.CLIENT, Access.QUERY}
        if len(self.weights) > 1:
            needs.add(Access.AUXILIARY)
        if self.warm_start is not None:
            needs |= {Access.AUXILIARY, *self.warm_start.needs}
        return frozenset(needs)

    def parts(self) -> tuple[Attack, ...]:
        """The warm start."""
        return () if self.warm_start is None else (self.warm_start,)

    def with_parts(self, parts: tuple[Attack, ...]) -> "LikelihoodMaximization":
        """A copy that starts from another (fitted) attack."""
        other = copy.copy(self)
        (other.warm_start,) = parts
        return other

    def learn(self, surface: Surface, *, generator: torch.Generator) -> Iterator[Progress]:
        """Measure the channel and the warm start; choose the weight on held-out images.

        The reading of a quantiser is chosen with it.
        """
        grey = torch.full((PROBES, *surface.image_shape), GREY)
        features = surface.client(grey)
        self._noise = surface.mismatch(surface.query(grey), tuple(features)).mean().detach()
        self._variance = torch.tensor(1.0)
        self._weight, self._reading = torch.tensor(self.weights[0]), torch.tensor(Reading.CELLS)
        self._rounding = torch.tensor(0.0)
        if self.warm_start is not None:
            images, release = _held_out(surface, HELD_OUT)
            error = self._start(release, surface, generator) - images
            self._variance = error.square().mean().clamp(min=PRECISION**4)
        if len(self.weights) > 1:
            yield Progress(1, 1, self._choose(surface, generator))

    def export_state(self) -> Mapping[str, Tensor]:
        """The chosen weight and reading, and what was measured of the channel."""
        return {
            "weight": self._weight,
            "reading": self._reading,
            "rounding": self._rounding,
            "variance": self._variance,
            "noise": self._noise,
        }

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Take them back."""
        super().import_state(state, surface)
        self._weight, self._reading = state["weight"], state["reading"]
        self._rounding, self._variance = state["rounding"], state["variance"]
        self._noise = state["noise"]

    def recover(
        self, release: Release, surface: Surface, *, generator: torch.Generator
    ) -> Float[Tensor, "b c h w"]:
        """Search for each image."""
        if bool(self._weight == ALONE):
            return self._start(release, surface, generator)
        weights = self._weight.repeat(len(release))
        return self._search(release, weights, Reading(int(self._reading)), surface, generator)

    def diagnostics(
        self, guess: Float[Tensor, "b c h w"], release: Release, surface: Surface
    ) -> Mapping[str, float]:
        """Whether the guesses explain the release; see `search_diagnostics`."""
        grey = grey_images(release, surface)
        wrong = surface.mismatch(release, tuple(surface.client(grey)))
        noisy = bool(self._noise > EXACT * wrong.mean())
        return search_diagnostics(guess, release, surface, self._noise if noisy else None)

    def _choose(self, surface: Surface, generator: torch.Generator) -> float:
        """Keep the weight and the reading that err least on held-out images; by how much."""
        images, release = _held_out(surface, CHOOSING)
        features = tuple(f.detach() for f in surface.client(images))
        readings, self._rounding = likely_readings(release, features, surface)
        tried: dict[tuple[float, Reading], float] = {}
        for reading in readings:
            tried |= self._tried(self.weights, images, release, reading, surface, generator)
        for _ in range(self.refinements):
            weight, reading = min(tried, key=lambda choice: tried[choice])
            known = [other for other, read in tried if read == reading]
            if between := _between_neighbors(weight, known):
                tried |= self._tried(between, images, release, reading, surface, generator)
        if self.warm_start is not None:
            start = self._start(release, surface, generator)
            tried[ALONE, Reading.CELLS] = float(_squared_error(start, images).mean())
        weight, reading = min(tried, key=lambda choice: tried[choice])
        self._weight, self._reading = torch.tensor(weight), torch.tensor(reading)
        return tried[weight, reading]

    def _tried(
        self,
        weights: Sequence[float],
        images: Tensor,
        release: Release,
        reading: Reading,
        surface: Surface,
        generator: torch.Generator,
    ) -> dict[tuple[float, Reading], float]:
        """Squared error of each weight on the same releases."""
        index = torch.arange(len(images)).repeat(len(weights))
        each = torch.tensor(weights).repeat_interleave(len(images))
        guess = self._search(release[index], each, reading, surface, generator)
        errors = _squared_error(guess, images[index]).view(-1, len(images)).mean(1).tolist()
        return {(w, reading): error for w, error in zip(weights, errors, strict=True)}

    def _search(
        self,
        release: Release,
        weights: Tensor,
        reading: Reading,
        surface: Surface,
        generator: torch.Generator,
    ) -> Tensor:
        found = []
        for part, weight in zip(_batches(release), weights.split(BATCH), strict=True):
            centre = self._start(part, surface, generator)
            objective = self._objective(part, weight, centre, reading, surface)
            best, least = self._descended(objective, centre)
            if self.restart:
                other, value = self._descended(objective, torch.full_like(centre, GREY))
                best = torch.where((value < least)[:, None, None, None], other, best)
            found.append(best)
        return torch.cat(found)

    def _descended(
        self, objective: Callable[[Tensor], Tensor], start: Tensor
    ) -> tuple[Tensor, Tensor]:
        return descend(objective, start, steps=self.steps, learning_rate=self.learning_rate)

    def _start(self, release: Release, surface: Surface, generator: torch.Generator) -> Tensor:
        if self.warm_start is not None:
            return self.warm_start(release, surface, generator=generator)
        return grey_images(release, surface)

    def _objective(
        self,
        release: Release,
        weight: Tensor,
        centre: Tensor,
        reading: Reading,
        surface: Surface,
    ) -> Callable[[Tensor], Tensor]:
        """Negative log posterior of each image, up to a constant, ``(b,)``."""
        unit = nats_per_unit(release, reading, surface, noise=self._noise, rounding=self._rounding)
        weight = weight.to(centre.device)

        def objective(images: Tensor) -> Tensor:
            total = torch.zeros(len(images), device=images.device)
            if self.prior is not None:
                total = total + self.prior(images)
            if self.warm_start is not None:
                distance = (images - centre).flatten(1).square().sum(1)
                total = total + distance / (2 * self._variance)
            features = tuple(surface.client(images))
            return unit * unexplained(release, features, reading, surface) + weight * total

        return objective


def _held_out(surface: Surface, count: int) -> tuple[Tensor, Release]:
    """Pairs that no warm start was trained on; of the others where none are held out."""
    images, release = surface.validation_pairs(count)
    return (images, release) if len(images) else next(surface.pairs(count))


def _between_neighbors(weight: float, known: Sequence[float]) -> list[float]:
    """The geometric means of a weight and the next smaller and larger known ones."""
    neighbors = [
        *sorted(other for other in known if other < weight)[-1:],
        *sorted(other for other in known if other > weight)[:1],
    ]
    return [math.sqrt(weight * other) for other in neighbors if weight * other > 0]


def _squared_error(guess: Tensor, images: Tensor) -> Tensor:
    return (guess - images).square().flatten(1).mean(1)


def _batches(release: Release) -> list[Release]:
    return [release[slice(i, i + BATCH)] for i in range(0, len(release), BATCH)]
