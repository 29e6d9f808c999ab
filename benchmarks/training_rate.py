"""A decoder's training step against the rate of matrix products that this machine attains."""

import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attacks.inverse_network import InverseNetwork
from attacks.patch_decoder import PatchDecoder
from benchmarks.worlds import deployments, images, network, surface
from splitbench.feed import Feed
from splitbench.rng import isolated, stream

NET, CUTS = "demo's LeNet-5", ("relu1", "relu2", "relu3")
LITE: Mapping[str, Any] = {"width": 64, "blocks": 2, "heads": 0, "patch": 4}
BATCH, STEPS, SIZE, ROUNDS = 32, 30, 1024, 5


def attainable() -> float:
    """Floating point operations per second of a large matrix product."""
    a, b = (torch.rand(SIZE, SIZE, generator=stream(0, name)) for name in "ab")
    times = []
    for _ in range(10):
        began = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - began)
    return 2 * SIZE**3 / statistics.median(times)


def measure() -> Iterator[str]:
    """Operations per second while the lite decoder learns, as a share of the attainable rate."""
    model, shape = network(NET)
    aux = images(512, shape)
    for cut in CUTS:
        deployment = deployments(model, aux.images(slice(0, 1)), [cut])[cut]
        with isolated(stream(0, "decoder")):
            decoder = PatchDecoder(deployment.specs, shape, **LITE)
        batch = aux.images(slice(0, BATCH))
        release = deployment.release(batch, generator=stream(0, "release"))
        with FlopCounterMode(display=False) as counter:
            nn.functional.mse_loss(decoder(release.tensors), batch).backward()
        flops, shares = counter.get_total_flops(), []
        for _ in range(ROUNDS):
            attack = InverseNetwork(**LITE, steps=STEPS, batch_size=BATCH)
            face = surface(deployment, Feed(aux, seed=0), shape)
            steps = attack.fitting(face, generator=stream(0, "fit"))
            next(steps)  # preparation
            began = time.perf_counter()
            count = sum(1 for _ in steps)
            shares.append(flops * count / (time.perf_counter() - began) / attainable())
        yield (
            f"{cut}: {flops / 1e9:.2f} GFLOP per step, {statistics.median(shares):.0%} of what a "
            f"{SIZE} x {SIZE} matrix product reaches (optimiser, averaging and data included)"
        )
