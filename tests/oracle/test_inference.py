"""Inferences reach the success that is known to be possible, and never exceed it."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from torch import Tensor

from attacks.linear_probe import LinearProbe
from attacks.mlp_probe import MlpProbe
from attacks.release_matching import ReleaseMatching
from splitbench.codecs.float32 import Float32
from splitbench.data.images import LabeledImages
from splitbench.deployment import Deployment
from splitbench.feed import Feed
from splitbench.inference import Known
from splitbench.release import TensorSpec
from splitbench.rng import stream
from splitbench.split import Cut, Split
from splitbench.threat import Surface, ThreatModel
from tests.oracle.worlds import GREY, PIXELS, SIDE, STD, Client, Plain, Server, Static

TARGETS = 4000


class Blur(Plain):
    """Adds normal noise to every message."""

    stochastic = True

    def __init__(self, *, std: float) -> None:
        super().__init__()
        self.std = std

    def protect(self, features, *, generator):
        return tuple(f + self.std * torch.randn(f.shape, generator=generator) for f in features)

    def pool(self, observations):
        return tuple(torch.stack(parts).mean(0) for parts in zip(*observations, strict=True))


class RandomisedResponse(Plain):
    """Tells one of the choices at random, the true one e^epsilon times as often as another."""

    stochastic = True

    def __init__(self, *, epsilon: float, choices: int) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.choices = choices

    def protect(self, features, *, generator):
        truth = features[0].flatten(1).argmax(1)
        honest = math.exp(self.epsilon) / (math.exp(self.epsilon) + self.choices - 1)
        shift = torch.randint(1, self.choices, truth.shape, generator=generator)
        lies = torch.rand(truth.shape, generator=generator) >= honest
        told = torch.where(lies, (truth + shift) % self.choices, truth)
        return (torch.nn.functional.one_hot(told, self.choices).float(),)


@dataclass(frozen=True)
class Channel:
    """A deployment, labelled images of the adversary, and targets of known value."""

    deployment: Deployment
    feed: Feed
    targets: LabeledImages
    values: int

    def surface(self, purpose: str, observations: int) -> Surface:
        return Surface(
            self.deployment,
            ThreatModel(observations=observations),
            feed=self.feed,
            classes=2,
            image_shape=(1, SIDE, SIDE),
            seed=0,
            purpose=purpose,
        )

    def right(self, inference, *, observations: int = 1, gallery: LabeledImages | None = None):
        """Whether it is right about each target."""
        on_file = (None, None) if gallery is None else (gallery.images(), gallery.labels)
        known = Known(self.feed.train.labels, self.feed.validation.labels, self.values, *on_file)
        inference.fit(self.surface("fit", observations), known, generator=stream(0, "fit"))
        release = self.deployment.release(
            self.targets.images(), generator=stream(0, "victim"), observations=observations
        )
        scores = inference(release, self.surface("infer", observations))
        return (scores.argmax(1) == self.targets.labels).double()


def channel(images, rule, defense, *, values, auxiliary=6000) -> Channel:
    client, server = Client(rule).eval(), Server().eval()
    blank = torch.full((1, 1, SIDE, SIDE), GREY)
    released = defense.protect(client(blank), generator=stream(0, "shapes"))
    specs = tuple(TensorSpec(f"z{i}", tuple(f.shape[1:])) for i, f in enumerate(released))
    cut = Cut("z", 1, specs, head_flops=0, tail_flops=0, head_params=0, tail_params=0)
    plain = Plain(), Float32()
    return Channel(
        Deployment(Split(cut, client, server), defense.eval(), Float32(), specs=specs, plain=plain),
        Feed(images(auxiliary, "auxiliary"), seed=0, flip=False),
        images(TARGETS, "targets"),
        values,
    )


def hills(distance: float, values: int):
    """Images of white noise with a hill of some standard deviations at one pixel per value."""

    def draw(count: int, name: str) -> LabeledImages:
        generator = stream(0, "hills", name)
        labels = torch.arange(count) % values
        white = torch.randn(count, PIXELS, generator=generator)
        white[torch.arange(count), labels] += distance
        pixels = (GREY + STD * white).view(count, 1, SIDE, SIDE)
        return LabeledImages(pixels, labels, tuple(map(str, range(values))))

    return draw


def bayes(distance: float, values: int) -> float:
    """Success of the best guess among equally likely, equally distant normal classes."""
    return float(
        quad(lambda t: stats.norm.pdf(t) * stats.norm.cdf(t + distance) ** (values - 1), -9, 9)[0]
    )


def standard_error(right: Tensor) -> float:
    return float(right.std() / len(right) ** 0.5)


LINEAR = LinearProbe(penalties=(0.01, 0.001, 0.0001), iterations=30, draws=2)
SMALL = MlpProbe(width=32, steps=400, batch_size=128, learning_rate=0.003, mirrored=False)


@pytest.mark.parametrize("inference", [LINEAR, SMALL], ids=["linear", "mlp"])
@pytest.mark.parametrize(
    ("noise", "observations"), [(0.0, 1), (1.0, 1), (1.0, 4)], ids=["plain", "noise", "four draws"]
)
def test_normal_classes_are_told_apart_as_well_as_bayes_can(inference, noise, observations):
    world = channel(hills(2.0, 4), lambda x: x.flatten(1), Blur(std=noise), values=4)
    right = world.right(type(inference)(**inference.arguments()), observations=observations)
    best = bayes(2.0 / math.sqrt(1 + noise**2 / observations), 4)
    slack = 4 * standard_error(right)
    assert best - 0.015 - slack <= float(right.mean()) <= best + slack


@pytest.mark.parametrize("epsilon", [1.0, 3.0])
def test_randomised_response_is_seen_through_as_often_as_it_is_honest(epsilon):
    def one_hot(features: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(features.flatten(1)[:, :10].argmax(1), 10).float()

    world = channel(
        hills(20.0, 10), one_hot, RandomisedResponse(epsilon=epsilon, choices=10), values=10
    )
    right = world.right(type(LINEAR)(**LINEAR.arguments()))
    honest = math.exp(epsilon) / (math.exp(epsilon) + 9)
    assert float(right.mean()) == pytest.approx(honest, abs=4 * standard_error(right))


@pytest.mark.parametrize("inference", [LINEAR, SMALL], ids=["linear", "mlp"])
def test_a_release_of_mere_noise_tells_no_more_than_chance(inference):
    world = channel(hills(2.0, 4), lambda x: x.flatten(1), Static(), values=4)
    right = world.right(type(inference)(**inference.arguments()))
    assert abs(float(right.mean()) - 0.25) <= 4 * standard_error(right)


def test_persons_are_found_by_chance_in_noise_and_as_bayes_can_in_pictures_of_them():
    draw = hills(6.0, 8)
    matching = ReleaseMatching(
        components=16, width=16, steps=60, batch_size=64, learning_rate=0.003, draws=1
    )
    rates = {}
    for name, defense in (("noise", Static()), ("plain", Plain())):
        world = channel(draw, lambda x: x.flatten(1), defense, values=8, auxiliary=600)
        fresh = type(matching)(**matching.arguments())
        rates[name] = world.right(fresh, gallery=draw(80, "gallery"))
    assert abs(float(rates["noise"].mean()) - 1 / 8) <= 4 * standard_error(rates["noise"])
    best = bayes(6.0, 8)
    slack = 4 * np.sqrt(best * (1 - best) / TARGETS)
    assert best - 0.06 <= float(rates["plain"].mean()) <= best + slack
