"""How the settings of the lite suite were chosen: on held-out auxiliary images, never on targets.

Prints, for every candidate, the leakage it reaches on auxiliary images that it did not train on,
and its seconds; and for the task model, the accuracy on held-out training images. The targets are
not even loaded into these functions.
"""

import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attacks.inverse_network import InverseNetwork
from attacks.learned_retrieval import LearnedRetrieval
from attacks.likelihood_maximization import LikelihoodMaximization
from attacks.nearest_neighbor import NearestNeighbor
from attacks.priors.total_variation import TotalVariation
from defenses.gaussian_noise import GaussianNoise
from defenses.no_defense import NoDefense
from splitbench.attack import Attack
from splitbench.codecs.float32 import Float32
from splitbench.data.fashion_mnist_sample import FashionMnistSample
from splitbench.data.images import LabeledImages, Roles
from splitbench.defense import Defense
from splitbench.deployment import Deployment
from splitbench.feed import Feed
from splitbench.models.lenet5 import LeNet5
from splitbench.models.six_conv import SixConv
from splitbench.rng import isolated, stream
from splitbench.shadow import Traffic
from splitbench.split import Cuttable
from splitbench.threat import Access, Surface, ThreatModel
from splitbench.training import Training

CUTS = ("relu1", "pool2", "relu3")
NOISES = (0.0, 2.0)
SIZES = {"train": 5000, "auxiliary": 3000, "calibration": 1000, "target": 1000}
SEED = 1  # another one than the demo's
SHAPE = (1, 28, 28)
DEEP: Mapping[str, Any] = {"epochs": 15, "learning_rate": 1e-3}  # trains six convolutions
LITE: Mapping[str, Any] = {
    "width": 48,
    "blocks": 2,
    "heads": 0,
    "patch": 4,
    "steps": 400,
    "batch_size": 32,
    "learning_rate": 0.03,
}
DECODERS: tuple[Mapping[str, Any], ...] = (
    {},
    {"width": 64, "steps": 300},
    {"width": 64, "steps": 150, "batch_size": 64},
    {"width": 64, "steps": 600, "batch_size": 16},
    {"width": 96, "steps": 150},
    {"width": 32, "steps": 600},
    {"steps": 500, "batch_size": 24},
    {"blocks": 1, "steps": 500},
    {"width": 64, "blocks": 3, "steps": 220},
    {"width": 32, "patch": 2, "steps": 150},
    {"width": 64, "patch": 7, "steps": 450},
    {"learning_rate": 0.02},
    {"learning_rate": 0.06},
)
SEARCHES: tuple[Mapping[str, Any], ...] = (
    {},
    {"steps": 50},
    {"steps": 200},
    {"learning_rate": 0.1},
    {"prior": None},
    {"prior": TotalVariation(weight=1.0, beta=1.0)},
    {"weights": (0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5)},
)
GALLERIES: tuple[Mapping[str, Any], ...] = (
    *({"draws": n} for n in (1, 4, 16, 64)),
    {"weighting": "kernel"},
    {"standardise": False},
    {"whiten": 32},
    *({"whiten": n, "weighting": "kernel"} for n in (32, 64, 128)),
    {"standardise": False, "whiten": 64, "weighting": "kernel"},
)
METRICS: tuple[Mapping[str, Any], ...] = (
    {},
    {"steps": 100},
    {"steps": 300},
    {"draws": 8},
    {"batch_size": 64, "learning_rate": 0.05},
    {"weighting": "uniform"},
)
TRAININGS: tuple[Mapping[str, Any], ...] = (
    {},
    {"epochs": 20},
    {"epochs": 40},
    {"learning_rate": 2.5e-3},
    {"learning_rate": 1e-2},
    {"weight_decay": 0.01},
    {"label_smoothing": 0.0},
)
SEARCHED = 64  # held-out images that a search takes on


@dataclass(frozen=True)
class World:
    """One cut and noise level: what the adversary may touch, and its held-out images."""

    name: str
    surface: Surface
    outside: Surface
    fresh: Surface
    images: LabeledImages
    floor: float

    def of(self, attack: Attack) -> Surface:
        """What an attack may touch: who never asks the device has the traffic of others."""
        return self.outside if Access.ARCHITECTURE in attack.needs else self.surface

    def leaks(self, attack: Attack) -> Float[Tensor, " images"]:
        """Leakage of every held-out auxiliary image, with noise that no fit has seen."""
        chosen = slice(None) if attack.max_targets is None else slice(-attack.max_targets, None)
        images = self.images.images(chosen)
        release = self.fresh.query(images)
        guess = attack(release, self.of(attack), generator=stream(SEED, "recover"))
        return 1 - (guess - images).square().flatten(1).mean(1) / self.floor

    def score(self, attack: Attack) -> float:
        """Leakage on held-out auxiliary images."""
        return float(self.leaks(attack).mean())


def classifier(
    train: LabeledImages, settings: Mapping[str, Any], network: type[LeNet5 | SixConv] = LeNet5
) -> nn.Module:
    """A network trained on these images."""
    with isolated(stream(SEED, "model")):
        model = network(image_shape=SHAPE, classes=len(train.classes))
    Training(**settings).fit(model, train, generator=stream(SEED, "training"))
    return model.eval().requires_grad_(False)


def worlds(
    model: nn.Module,
    roles: Roles,
    *,
    cuts: tuple[str, ...] = CUTS,
    noises: tuple[float, ...] = NOISES,
) -> Iterator[World]:
    """Every cut of a trained classifier, undefended and under noise."""
    train, auxiliary = roles.train, roles.auxiliary
    plain = NoDefense(), Float32()
    cuttable = Cuttable(model, torch.zeros(1, *SHAPE))
    for cut in cuts:
        for noise in noises:
            defense: Defense = GaussianNoise(noise_std=noise) if noise else NoDefense()
            parts = defense.adapt(cuttable.split(cut))
            defense.fit(parts, train, generator=stream(SEED, "defense"))
            defense.eval().requires_grad_(False)
            deployment = Deployment(parts, defense, Float32(), cuttable.find(cut).tensors, plain)
            feed = Feed(auxiliary, seed=SEED)
            others = Traffic(deployment, roles.calibration, observations=1, seed=SEED)
            fit, outside, fresh = (
                Surface(
                    deployment,
                    threat,
                    feed=feed,
                    classes=len(train.classes),
                    image_shape=SHAPE,
                    seed=SEED,
                    purpose=purpose,
                    traffic=others,
                )
                for purpose, threat in (
                    ("fit", ThreatModel()),
                    ("outside", ThreatModel(client="architecture")),
                    ("fresh", ThreatModel()),
                )
            )
            held_out = feed.validation.images()
            floor = float((held_out - feed.train.images().mean(0)).square().mean())
            yield World(f"{cut} noise {noise:g}", fit, outside, fresh, feed.validation, floor)


def decoder(**settings: Any) -> Attack:
    """The lite decoder, changed."""
    return InverseNetwork(**{**LITE, **settings})


def metric(**settings: Any) -> Attack:
    """The lite learned retrieval, changed."""
    return LearnedRetrieval(**{"steps": 150, "draws": 16, **settings})


def search(**settings: Any) -> Attack:
    """The lite search, changed; it chooses its weight on other images than it is scored on."""
    lite = {
        "steps": 100,
        "learning_rate": 0.05,
        "weights": (1.0, 10.0, 100.0, 1e4),
        "prior": TotalVariation(weight=3.0, beta=1.0),
    }
    warm_start = InverseNetwork(**LITE)
    return LikelihoodMaximization(
        **{**lite, **settings}, warm_start=warm_start, max_targets=SEARCHED
    )


def measure() -> Iterator[str]:
    """Score every candidate in every world."""
    roles = FashionMnistSample(sizes=SIZES).load()
    for settings in TRAININGS:
        yield _training(roles.train, settings)
    places = list(worlds(classifier(roles.train, {}), roles))
    yield "leakage on held-out auxiliary images: " + ", ".join(w.name for w in places)
    for kind, candidates in (
        (decoder, DECODERS),
        (NearestNeighbor, GALLERIES),
        (metric, METRICS),
        (search, SEARCHES),
    ):
        for settings in candidates:
            yield _line(kind, settings, places)


def _training(train: LabeledImages, settings: Mapping[str, Any]) -> str:
    """Accuracy on three parts of the training images, each held out in turn."""
    accuracies = []
    for part in range(3):
        held_out = torch.zeros(len(train), dtype=torch.bool)
        held_out[part * 1000 : (part + 1) * 1000] = True
        model = classifier(train.subset(~held_out), settings)
        rest = train.subset(held_out)
        right = model(rest.images()).argmax(1) == rest.labels
        accuracies.append(float(right.float().mean()))
    return f"training {settings or 'as it is'}: {statistics.mean(accuracies):.4f}"


def _line(kind: Any, settings: Mapping[str, Any], places: list[World]) -> str:
    began, leaks = time.perf_counter(), []
    for world in places:
        attack = _with_known_parts(kind(**settings), world)
        attack.fit(world.of(attack), generator=stream(SEED, "fit"))
        leaks.append(world.score(attack))
    seconds = (time.perf_counter() - began) / len(places)
    shown = " ".join(f"{leak:.4f}" for leak in leaks)
    name = f"{kind.__name__.lower()} {settings or 'as it is'}"
    return f"{name}: mean {statistics.mean(leaks):.4f}, each {shown}, {seconds:.1f} s"


_PARTS: dict[tuple[str, str], Attack] = {}


def _with_known_parts(attack: Attack, world: World) -> Attack:
    """The candidates of a search share their warm start."""
    parts = []
    for part in attack.parts():
        key = world.name, repr(part)
        if key not in _PARTS:
            _PARTS[key] = part.fit(world.of(part), generator=stream(SEED, "fit"))
        parts.append(_PARTS[key])
    return attack.with_parts(tuple(parts)) if parts else attack
