"""How the lite suite's stand-in for the client was chosen: on held-out images, for two networks.

Prints, for every candidate, the leakage that it reaches on auxiliary images that it did not train
on, at one shallow and one deep cut of a small and of a deeper network, and its seconds: on one core
minutes for a run on the deeper network, half a minute on the small one.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

from attacks.inverse_network import InverseNetwork
from attacks.shadow_client import ShadowClient
from benchmarks.choices import LITE, SEED, SHAPE, SIZES, World, classifier, worlds
from splitbench.data.fashion_mnist_sample import FashionMnistSample
from splitbench.data.images import LabeledImages
from splitbench.models.six_conv import SixConv
from splitbench.rng import isolated, stream
from splitbench.training import Training

SEEDS = (1, 2, 3)  # of the attack
CANDIDATES: tuple[Mapping[str, Any], ...] = (
    {},
    {"alignment": "moments"},
    {"alignment": "mmd"},
    {"weight": 0.0},
    {"steps": 1000},
    {"learning_rate": 3e-3},
    {"learning_rate": 3e-3, "steps": 1000, "batch_size": 64, "alignment": "moments"},  # lite-5's
)


def candidate(settings: Mapping[str, Any]) -> ShadowClient:
    """The lite shadow client, changed."""
    lite = {
        "steps": 2000,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "alignment": "discriminator",
        "observed": 1000,
    }
    return ShadowClient(decoder=InverseNetwork(**LITE), **{**lite, **settings})


def deep(train: LabeledImages) -> nn.Module:
    """Six convolutions trained on these images."""
    with isolated(stream(SEED, "model")):
        model = SixConv(image_shape=SHAPE, classes=len(train.classes))
    training = Training(epochs=15, learning_rate=1e-3)
    training.fit(model, train, generator=stream(SEED, "training"))
    return model.eval().requires_grad_(False)


def small(train: LabeledImages) -> nn.Module:
    """LeNet-5 trained on these images."""
    return classifier(train, {})


NETWORKS: tuple[tuple[Callable[[LabeledImages], nn.Module], tuple[str, ...]], ...] = (
    (small, ("pool2", "relu3")),
    (deep, ("relu22", "pool3")),
)


def measure() -> Iterator[str]:
    """Score every candidate at every cut."""
    roles = FashionMnistSample(sizes=SIZES).load()
    for network, cuts in NETWORKS:
        for world in worlds(network(roles.train), roles, cuts=cuts, noises=(0.0,)):
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
