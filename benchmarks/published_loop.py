"""Time to the quality that the published image-by-image loop reaches.

The loop of He, Zhang, Lee (ACSAC 2019) as released: mean squared feature error, Adam (AMSGrad,
step 1e-2, eps 1e-3), 5,000 iterations from a black image, one image at a time. Its eps holds back
coordinates with small gradients, so it runs with Adam's usual eps too, and the better one counts.
Both sides are timed to the same quality, not to the end of their budgets. Our search, without any
prior, runs from grey and from the guess of the lite suite's decoder, after as many steps as there
and after fewer; its learning counts as time of the search.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks.inverse_network import InverseNetwork
from attacks.likelihood_maximization import LikelihoodMaximization
from benchmarks.choices import LITE
from benchmarks.worlds import deployments, surface, trained
from splitbench.attack import Attack
from splitbench.feed import Feed
from splitbench.metrics.peak_signal_to_noise import PeakSignalToNoise
from splitbench.release import Release
from splitbench.rng import stream
from splitbench.threat import Surface

CUTS = ("relu1", "relu2")
EPSILONS = (1e-3, 1e-8)
ITERATIONS, LOOK, LOOPED, BATCH = 5000, 50, 3, 64
LEARNT = (25, 100, 400)  # steps of the decoder; the last is the lite suite's
NEARLY = 0.1  # dB below the end of the loop at which it counts as having arrived
BUDGETS = (10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120)
PSNR = PeakSignalToNoise()


@dataclass(frozen=True)
class Course:
    """PSNR and seconds of the loop at every look, means over images."""

    eps: float
    quality: list[float]
    seconds: list[float]

    @property
    def reached(self) -> float:
        """PSNR nearly as good as at the end, in dB."""
        return self.quality[-1] - NEARLY

    @property
    def arrival(self) -> int:
        """The first look that is so good."""
        return next(i for i, q in enumerate(self.quality) if q >= self.reached)


def course(client: nn.Module, release: Tensor, truth: Tensor, eps: float) -> Course:
    """The published loop, one image at a time; looking at the guess is not timed."""
    quality, seconds = [], []
    for target, image in zip(release.split(1), truth.split(1), strict=True):
        guess = torch.zeros_like(image, requires_grad=True)
        optimizer = torch.optim.Adam([guess], lr=1e-2, eps=eps, amsgrad=True)
        spent, seen, times = 0.0, [], []
        for _ in range(0, ITERATIONS, LOOK):
            began = time.perf_counter()
            for _ in range(LOOK):
                optimizer.zero_grad()
                (client(guess)[0] - target).square().mean().backward()
                optimizer.step()
            spent += time.perf_counter() - began
            seen.append(float(PSNR(guess.detach().clamp(0, 1), image).mean()))
            times.append(spent)
        quality.append(seen)
        seconds.append(times)
    return Course(eps, *(torch.tensor(rows).mean(0).tolist() for rows in (quality, seconds)))


def measure() -> Iterator[str]:
    """Run the loop on a few images, then find the smallest budgets that are as good."""
    model, auxiliary, targets = trained()
    truth = targets.images(slice(0, BATCH))
    _, channels, height, width = truth.shape
    for cut, deployment in deployments(model, truth[:1], list(CUTS)).items():
        release = deployment.release(truth, generator=stream(0, "release"))
        client = deployment.split.client
        courses = [
            course(client, release.tensors[0][:LOOPED], truth[:LOOPED], eps) for eps in EPSILONS
        ]
        for one in courses:
            yield (
                f"{cut}, published loop, eps {one.eps:g}: {one.quality[-1]:.1f} dB, "
                f"{one.seconds[-1]:.1f} s per image; {one.reached:.1f} dB after "
                f"{(one.arrival + 1) * LOOK} iterations, {one.seconds[one.arrival]:.2f} s"
            )
        best = max(courses, key=lambda one: one.reached)
        face = surface(deployment, Feed(auxiliary, seed=0), (channels, height, width))
        yield f"{cut}, search from grey: {_budget(Search(), face, release, truth, best)}"
        for steps in LEARNT:
            yield f"{cut}, {_warm(steps, face, release, truth, best)}"


@dataclass(frozen=True)
class Search:
    """Our search, without any prior: what it starts from, and what that took to learn."""

    start: Attack | None = None
    learning: float = 0.0  # seconds

    def guess(self, steps: int, face: Surface, release: Release) -> tuple[Tensor, float]:
        """All images, and the seconds of measuring the channel and of the search."""
        attack = LikelihoodMaximization(steps=steps, weights=(0.0,), warm_start=self.start)
        began = time.perf_counter()
        attack.fit(face, generator=stream(0, "fit"))
        guess = attack(release, face, generator=stream(0, "recover"))
        return guess, time.perf_counter() - began


def _warm(steps: int, face: Surface, release: Release, truth: Tensor, best: Course) -> str:
    """The search from a decoder's guess; the decoder learns once, for all images."""
    decoder = InverseNetwork(**{**LITE, "steps": steps})
    began = time.perf_counter()
    decoder.fit(face, generator=stream(0, "decoder"))
    warm = Search(decoder, time.perf_counter() - began)
    guess = decoder(release, face, generator=stream(0, "start"))
    alone = float(PSNR(guess[:LOOPED], truth[:LOOPED]).mean())
    return (
        f"search from a decoder's guess ({steps} steps of learning in {warm.learning:.1f} s: "
        f"{alone:.1f} dB): {_budget(warm, face, release, truth, best)}"
    )


def _budget(search: Search, face: Surface, release: Release, truth: Tensor, best: Course) -> str:
    """The smallest budget of our search that is as good."""
    quality = 0.0
    for steps in BUDGETS:
        guess, seconds = search.guess(steps, face, release)
        quality = float(PSNR(guess[:LOOPED], truth[:LOOPED]).mean())
        if quality >= best.reached:
            theirs = best.seconds[best.arrival]
            ours = (search.learning + seconds) / BATCH
            learnt = f", {theirs * BATCH / seconds:.0f} x once it has learnt"
            return (
                f"{quality:.1f} dB on these images after {steps} steps, {ours:.4f} s per image in "
                f"a batch of {BATCH}: {theirs / ours:.0f} x less time"
                f"{learnt if search.learning else ''}"
            )
    return f"does not reach that within {BUDGETS[-1]} steps: {quality:.1f} dB"
