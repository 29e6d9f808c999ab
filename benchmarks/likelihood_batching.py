"""Likelihood maximisation on a batch of 64 images against one image at a time."""

import statistics
import time
from collections.abc import Iterator

from attacks.likelihood_maximization import LikelihoodMaximization
from benchmarks.worlds import NETS, deployments, images, network, surface
from splitbench.feed import Feed
from splitbench.rng import stream

CUTS = {"demo's LeNet-5": "relu2", "six convolutions": "relu22"}
STEPS = {"demo's LeNet-5": 60, "six convolutions": 10}
BATCH, SINGLES, ROUNDS = 64, 4, 3


def rate(name: str, count: int) -> float:
    """Images times iterations per second."""
    model, shape = network(name)
    aux = images(128, shape)
    deployment = deployments(model, aux.images(slice(0, 1)), [CUTS[name]])[CUTS[name]]
    face = surface(deployment, Feed(aux, seed=0), shape)
    steps = STEPS[name]
    attack = LikelihoodMaximization(steps=steps, warm_start=None)
    attack.fit(face, generator=stream(0, "fit"))
    release = deployment.release(aux.images(slice(0, count)), generator=stream(0, "release"))
    began = time.perf_counter()
    attack(release, face, generator=stream(0, "recover"))
    return count * steps / (time.perf_counter() - began)


def measure() -> Iterator[str]:
    """Compare, interleaved, medians."""
    for name in NETS:
        rate(name, 1)  # warm up
        pairs = [
            (rate(name, BATCH), statistics.median(rate(name, 1) for _ in range(SINGLES)))
            for _ in range(ROUNDS)
        ]
        batched, single = (statistics.median(column) for column in zip(*pairs, strict=True))
        yield (
            f"{name}: {batched:.0f} image-iterations/s in a batch of {BATCH}, {single:.0f} one by "
            f"one: {statistics.median(b / s for b, s in pairs):.1f} x"
        )
