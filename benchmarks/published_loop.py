"""Time to the quality that the published image-by-image loop reaches.

The loop of He, Zhang, Lee (ACSAC 2019) as released: mean squared feature error, Adam (AMSGrad,
eps 1e-3, step 1e-2), 5,000 iterations from a black image, one image at a time.
"""

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from attacks.likelihood_maximization import LikelihoodMaximization
from benchmarks.worlds import deployments, images, network, surface
from splitbench.feed import Feed
from splitbench.metrics.peak_signal_to_noise import PeakSignalToNoise
from splitbench.rng import stream

NET, CUT = "demo's LeNet-5", "relu2"
ITERATIONS, LOOPED, BATCH = 5000, 2, 64
BUDGETS = (10, 20, 40, 80, 160, 320, 640, 1280, 2560)


def loop(client: nn.Module, release: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The published loop on one image."""
    guess = torch.zeros(1, *shape, requires_grad=True)
    optimizer = torch.optim.Adam([guess], lr=1e-2, eps=1e-3, amsgrad=True)
    for _ in range(ITERATIONS):
        optimizer.zero_grad()
        (client(guess)[0] - release).square().mean().backward()
        optimizer.step()
    return guess.detach().clamp(0, 1)


def measure() -> Iterator[str]:
    """Run the loop on a few images, then find the smallest budget that is as good."""
    model, shape = network(NET)
    aux = images(512, shape)
    deployment = deployments(model, aux.images(slice(0, 1)), [CUT])[CUT]
    truth = aux.images(slice(0, BATCH))
    release = deployment.release(truth, generator=stream(0, "release"))
    psnr = PeakSignalToNoise()
    began = time.perf_counter()
    guesses = [
        loop(deployment.split.client, release.tensors[0][i : i + 1], shape) for i in range(LOOPED)
    ]
    per_image = (time.perf_counter() - began) / LOOPED
    reached = float(psnr(torch.cat(guesses), truth[:LOOPED]).mean())
    yield f"published loop: {reached:.1f} dB after {per_image:.1f} s per image"
    face = surface(deployment, Feed(aux, seed=0), shape)
    for steps in BUDGETS:
        attack = LikelihoodMaximization(steps=steps, warm_start=None)
        attack.fit(face, generator=stream(0, "fit"))
        began = time.perf_counter()
        guess = attack(release, face, generator=stream(0, "recover"))
        ours = (time.perf_counter() - began) / BATCH
        quality = float(psnr(guess[:LOOPED], truth[:LOOPED]).mean())
        if quality >= reached:
            yield (
                f"likelihood maximisation: {quality:.1f} dB on these images after {steps} steps, "
                f"{ours:.3f} s per image in a batch of {BATCH}: {per_image / ours:.0f} x less time"
            )
            return
    yield f"likelihood maximisation does not reach that within {BUDGETS[-1]} steps"
