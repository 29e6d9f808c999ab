"""How the lite suite's stand-in for the client was chosen: on held-out images, for two networks.

Prints, for every candidate, the leakage that it reaches on auxiliary images that it did not train
on, at one shallow and one deep cut of a small and of a deeper network, and its seconds: on one core
minutes for a run on the deeper network, half a minute on the small one.
"""

import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any

from attacks.inverse_network import InverseNetwork
from attacks.shadow_client import ShadowClient
from benchmarks.choices import DEEP, LITE, SIZES, World, classifier, worlds
from splitbench.data.fashion_mnist_sample import FashionMnistSample
from splitbench.models.lenet5 import LeNet5
from splitbench.models.six_conv import SixConv
from splitbench.rng import stream

SEEDS = (1, 2, 3)  # of the attack
CANDIDATES: tuple[Mapping[str, Any], ...] = (
    {},
    {"alignment": "moments"},
    {"alignment": "mmd"},
    {"weight": 0.0},
    {"noise": 0.0},
    {"noise": 0.2},
    {"noise": 0.8},
    {"steps": 1000},
    {"learning_rate": 3e-3},
    # lite-5's:
    {"noise": 0.0, "learning_rate": 3e-3, "steps": 1000, "batch_size": 64, "alignment": "moments"},
)
NETWORKS: tuple[tuple[type[LeNet5 | SixConv], Mapping[str, Any], tuple[str, ...]], ...] = (
    (LeNet5, {}, ("pool2", "relu3")),
    (SixConv, DEEP, ("relu22", "pool3")),
)


def candidate(settings: Mapping[str, Any]) -> ShadowClient:
    """The lite shadow client, changed."""
    lite = {
        "steps": 2000,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "alignment": "discriminator",
        "observed": 1000,
        "noise": 0.4,
    }
    return ShadowClient(decoder=InverseNetwork(**LITE), **{**lite, **settings})


def measure() -> Iterator[str]:
    """Score every candidate at every cut."""
    roles = FashionMnistSample(sizes=SIZES).load()
    for network, training, cuts in NETWORKS:
        model = classifier(roles.train, training, network)
        for world in worlds(model, roles, cuts=cuts, noises=(0.0,)):
            for settings in CANDIDATES:
                yield _line(network.__name__, world, settings)


def _line(network: str, world: World, settings: Mapping[str, Any]) -> str:
    began, leaks = time.perf_counter(), []
    for seed in SEEDS:
        attack = candidate(settings)
        attack.fit(world.of(attack), generator=stream(seed, "fit"))
        leaks.append(world.score(attack))
    seconds = (time.perf_counter() - began) / len(SEEDS)
    shown = " ".join(f"{leak:.3f}" for leak in leaks)
    name = f"{network} {world.name}, {dict(settings) or 'as it is'}"
    return f"{name}: mean {statistics.mean(leaks):.3f}, each {shown}, {seconds:.0f} s"
