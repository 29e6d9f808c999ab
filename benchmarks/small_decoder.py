"""What the residual decoder finds beyond two transposed convolutions, at the cuts of two networks.

Both learn from the same images, as many steps. Printed is the leakage on auxiliary images that
neither learnt from, the difference on these images, with its 95 % interval over seeds of the attack
and images, and the seconds of learning. Half an hour on two cores.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attacks.inverse_network import InverseNetwork
from attacks.transposed_network import TransposedNetwork
from benchmarks.choices import DEEP, LITE, SIZES, World, classifier, worlds
from splitbench.attack import Attack
from splitbench.data.fashion_mnist_sample import FashionMnistSample
from splitbench.models.lenet5 import LeNet5
from splitbench.models.six_conv import SixConv
from splitbench.rng import stream
from splitbench.statistics import Resampler, paired_difference

SEEDS = (1, 2)  # of the attack
NETWORKS: tuple[tuple[type[LeNet5 | SixConv], Mapping[str, Any], tuple[str, ...]], ...] = (
    (LeNet5, {}, ("relu1", "pool1", "relu2", "pool2", "relu3", "relu4")),
    (SixConv, DEEP, ("relu12", "pool1", "relu22", "pool2", "relu32", "pool3", "sigmoid")),
)
SMALL: Mapping[str, Any] = {
    "standardise": True,
    "steps": LITE["steps"],
    "batch_size": LITE["batch_size"],
    "learning_rate": 0.01,
}


def measure() -> Iterator[str]:
    """Both decoders at every cut."""
    roles = FashionMnistSample(sizes=SIZES).load()
    for network, training, cuts in NETWORKS:
        model = classifier(roles.train, training, network)
        for world in worlds(model, roles, cuts=cuts, noises=(0.0,)):
            yield f"{network.__name__} {_line(world)}"


def _line(world: World) -> str:
    residual, its_seconds = _leaks(world, InverseNetwork(**LITE))
    small, seconds = _leaks(world, TransposedNetwork(**SMALL))
    gain = paired_difference(residual, small, resampler=Resampler())
    return (
        f"{world.name}: residual {np.mean(residual):.3f} in {its_seconds:.0f} s, transposed "
        f"{np.mean(small):.3f} in {seconds:.0f} s, difference {gain.mean:+.3f} "
        f"({gain.low:+.3f} to {gain.high:+.3f})"
    )


def _leaks(world: World, attack: Attack) -> tuple[list[NDArray[np.float64]], float]:
    """Leakage of every image, for each seed, and the mean seconds of learning."""
    found, spent = [], 0.0
    for seed in SEEDS:
        began = time.perf_counter()
        attack.fit(world.of(attack), generator=stream(seed, "fit"))
        spent += time.perf_counter() - began
        found.append(world.leaks(attack).double().numpy())
    return found, spent / len(SEEDS)
