"""Retrieval by a metric that was learned for it."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from attacks.principal_axes import principal_axes
from attacks.retrieval import BATCH, Retrieval, Weighting, check_retrieval, standardisation
from splitbench.progress import Progress
from splitbench.threat import Surface

PAINTED = 64  # principal components of the images: distances between those stand for images'
ASKED = 4  # releases of each auxiliary image that ask while the metric is learned
NEAR, SHARE = 32, 0.3  # the first kernel: as wide as this share of the way to that neighbour
CHECKS = 3  # looks at held-out images
SHOWN = 1024  # auxiliary images that are asked for in one step


class LearnedRetrieval(Retrieval):
    """Returns a weighted mean of the auxiliary images that are nearest in a learned metric.

    Plain distances count every direction of the features alike, whether it tells images apart or
    not. Here a linear map of the features is learned so that distances between releases predict
    distances between images: each auxiliary image is guessed as the mean of the *others*,
    weighted by ``exp(-||A z - A z_j||^2)``, and A descends on the squared error of that guess.
    Under a random defense, noisy releases ask a gallery of averaged ones, as they will when it
    counts, so that directions are weighed by their noise as well. It starts at the plain metric,
    and of the maps on the way the one with the least error on held-out auxiliary images is kept.

    Threat model:
        Auxiliary images and queries.

    Cost: Queries of `NearestNeighbor`, three more of each image where releases are random, one
    principal component analysis, and `steps` comparisons of `batch_size` images with 1024.
    Seconds on a CPU for some thousand images.

    Args:
        components: Principal components of the standardised features that are mapped, > 0. What
            lies outside of them is lost.
        steps: Adam steps, > 0.
        batch_size: Images that ask per step, > 0.
        learning_rate: First step size, > 0, in units of the root mean square entry of the first
            map; falls to zero along a cosine.
        neighbors: How many may vote, >= 1; None lets held-out auxiliary images choose (64 with a
            kernel).
        draws: Releases of each auxiliary image that are averaged, >= 1; fewer where each release
            is pooled from several observations.
        weighting: Of the votes, as for `NearestNeighbor`.

    Deviations from the paper:
        Vector-valued regression, onto principal components of the images; noisy questions to an
        averaged gallery; stochastic descent with early stopping; the final vote is among few
        neighbours, with a kernel as wide as the way to the furthest.

    References:
        Weinberger, Tesauro. "Metric learning for kernel regression". AISTATS 2007.
        Bellet, Habrard, Sebban. "A survey on metric learning for feature vectors and structured
        data". 2013. arXiv:1306.6709
    """

    def __init__(
        self,
        *,
        components: int = 128,
        steps: int = 300,
        batch_size: int = 128,
        learning_rate: float = 0.03,
        neighbors: int | None = None,
        draws: int = 64,
        weighting: Weighting = "kernel",
    ) -> None:
        check_retrieval(neighbors, draws, weighting)
        if min(components, steps, batch_size) < 1:
            raise ValueError(
                f"components={components}, steps={steps}, batch_size={batch_size}: at least 1 each"
            )
        if not learning_rate > 0:
            raise ValueError(f"learning_rate={learning_rate}: must be positive")
        self.components = components
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.neighbors = neighbors
        self.draws = draws
        self.weighting = weighting

    def _measure(
        self, features: Tensor, denoised: Tensor, surface: Surface, generator: torch.Generator
    ) -> Iterator[Progress]:
        self._mean = features.mean(0)
        scale = standardisation(features)
        axes, _ = principal_axes((denoised - self._mean) * scale, self.components, generator)
        self._map = scale[:, None] * axes
        files, asked = self._key(denoised), [self._key(features)]
        # Under a query budget, files are not averaged and nothing can be asked again.
        if not torch.equal(features, denoised):
            asked += self._again(surface, ASKED - 1)
        held_out, answers = surface.validation_pairs()
        questions = self._key(answers.flat()) if len(held_out) else None
        colours = self._images.flatten(1)
        painted = colours @ principal_axes(colours - colours.mean(0), PAINTED, generator)[0]
        best, kept = math.inf, torch.eye(files.shape[1], device=files.device)
        every = max(1, self.steps // CHECKS)
        for step, (metric, loss) in enumerate(self._descend(files, asked, painted, generator)):
            if step % every == 0 or step == self.steps:
                error = -float(step)  # without held-out images, the last one
                if questions is not None:
                    similarity = _similarity(questions @ metric, files @ metric)
                    error, _ = self._choose(similarity, held_out)
                if error < best:
                    best, kept = error, metric.clone()
            if step:
                yield Progress(step, self.steps, loss)
        self._map = self._map @ kept

    def _descend(
        self, files: Tensor, asked: list[Tensor], painted: Tensor, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, float]]:
        """The first metric ``(components, components)`` and that after each step, with the loss."""
        if not files.shape[1]:
            return
        metric = torch.eye(files.shape[1], device=files.device) / _width(asked[0], files)
        metric.requires_grad_()
        unit = self.learning_rate * float(metric.detach().square().mean().sqrt())
        optimizer = torch.optim.Adam([metric], lr=unit)
        variance = (painted - painted.mean(0)).square().sum(1).mean().clamp(min=1e-12)
        loss = 1.0
        for step in range(self.steps + 1):
            yield metric.detach(), loss
            share = (1 + math.cos(math.pi * step / self.steps)) / 2
            optimizer.param_groups[0]["lr"] = unit * share
            shown = torch.randperm(len(files), generator=generator)[:SHOWN].to(files.device)
            askers = shown[: self.batch_size]
            with torch.enable_grad():
                weights = _others(asked[step % len(asked)][askers] @ metric, files[shown] @ metric)
                error = weights @ painted[shown] - painted[askers]
                value = error.square().sum(1).mean() / variance
                metric.grad = torch.autograd.grad(value, metric)[0]
            optimizer.step()
            loss = float(value.detach())

    def _again(self, surface: Surface, times: int) -> list[Tensor]:
        """Keys of other releases of each auxiliary image; batch by batch, for the client's sake."""
        keys = [
            [self._key(surface.query(batch).flat()) for _ in range(times)]
            for batch in self._images.split(BATCH)
        ]
        return [torch.cat(parts) for parts in zip(*keys, strict=True)]

    def _key(self, features: Tensor) -> Tensor:
        return (features - self._mean) @ self._map

    def _compare(self, features: Tensor) -> Tensor:
        return _similarity(self._key(features), self._keys)


def _similarity(questions: Float[Tensor, "b d"], keys: Float[Tensor, "n d"]) -> Tensor:
    """Negative squared distances, up to a constant for each question."""
    return 2 * questions @ keys.T - keys.square().sum(1)


def _others(questions: Float[Tensor, "b d"], keys: Float[Tensor, "n d"]) -> Tensor:
    """Weights ``(b, n)`` of all but the one that asks; the first b keys ask, in their order."""
    own = torch.eye(len(questions), len(keys), dtype=torch.bool, device=keys.device)
    return torch.softmax(_similarity(questions, keys).masked_fill(own, -math.inf), dim=1)


def _width(questions: Tensor, files: Tensor) -> float:
    """The length that makes squared distances fit for a kernel."""
    sample = slice(0, BATCH)
    nearest = _similarity(questions[sample], files).sort(dim=1, descending=True).values
    last = min(NEAR, len(files) - 1)  # the first is most often the image itself
    width = math.sqrt(SHARE * float((nearest[:, min(1, last)] - nearest[:, last]).mean()))
    return width if width > 0 else 1.0
