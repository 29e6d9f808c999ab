"""Defenses that Fisher information drives: flat features, and noise for a wanted error."""

import math

import pytest
import torch
from torch import nn

from defenses.chain import Chain
from defenses.fisher_noise import FisherNoise
from defenses.fisher_regularization import LEAST, FisherRegularization, relative_information
from defenses.gaussian_noise import GaussianNoise
from splitbench.checks.defense_world import defense_world
from splitbench.data.images import LabeledImages
from splitbench.fisher import exact_fisher_trace
from splitbench.rng import isolated, stream

LABELS = torch.zeros(6, dtype=torch.int64)


@pytest.mark.parametrize(
    ("kind", "keywords", "complaint"),
    [
        (FisherRegularization, {"weight": -1.0}, "weight"),
        (FisherRegularization, {"weight": math.inf}, "weight"),
        (FisherRegularization, {"weight": 1.0, "probes": 0}, "probes"),
        (FisherRegularization, {"weight": 1.0, "batch_size": 0}, "batch_size"),
        (FisherNoise, {"target_mse": -0.1}, "target_mse"),
        (FisherNoise, {"target_mse": math.inf}, "target_mse"),
        (FisherNoise, {"target_mse": 0.1, "images": 0}, "images"),
        (FisherNoise, {"target_mse": 0.1, "probes": 1}, "probes"),
        (FisherNoise, {"target_mse": 0.1, "learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_a_bad_setting_is_refused(kind, keywords, complaint):
    with pytest.raises(ValueError, match=complaint):
        kind(**keywords)


class Affine(nn.Module):
    """Two tensors, one a matrix of the image and one some of its pixels, scaled and shifted."""

    def __init__(self, scale=1.0, shift=0.0):
        super().__init__()
        matrix = torch.randn(5, 16, generator=stream(0, "matrix"), dtype=torch.float64)
        self.matrix = nn.Parameter(matrix)
        self.scale = nn.Parameter(torch.tensor(scale, dtype=torch.float64))
        self.shift = shift

    def forward(self, images):
        flat = images.flatten(1)
        return self.scale * flat @ self.matrix.T + self.shift, self.scale * images[:, :, :1]


class Bent(nn.Module):
    """A smooth network in double precision."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3))

    def forward(self, images):
        return (self.layers(images),)


def images(count=6):
    return torch.rand(count, 1, 4, 4, generator=stream(0, "images"), dtype=torch.float64)


def information(client, *, probes=1, seed=0):
    return relative_information(client, images(), probes=probes, generator=stream(seed))


def test_a_linear_client_tells_the_squares_of_its_matrix_over_the_spread_of_each_tensor():
    """O43, relative: the norms of both Jacobians, each in units of its own tensor."""
    client = Affine()
    spread = [float(f.detach().var(0, correction=0).mean()) for f in client(images())]
    wanted = (float(client.matrix.detach().square().sum()) / spread[0] + 4 / spread[1]) / 16
    with torch.no_grad():
        found = information(client, probes=500)
    assert found.tolist() == pytest.approx([wanted] * 6, rel=0.03)


def test_neither_small_nor_shifted_features_lower_the_penalty_but_their_information_falls():
    plain, shrunk = Affine(), Affine(scale=0.01, shift=7.0)
    torch.testing.assert_close(information(shrunk), information(plain))
    noise = GaussianNoise(noise_std=0.5)  # of a fixed size, as if the scale had been measured once
    noise.scale.calibrate(plain, LabeledImages(images(), LABELS, ("a",)))
    told = [float(exact_fisher_trace(c, noise, images()).trace[0]) for c in (plain, shrunk)]
    assert told[1] == pytest.approx(1e-4 * told[0], rel=1e-3)


def test_the_penalty_does_not_pull_at_the_size_of_the_features():
    client = Affine(scale=0.3)
    information(client).log().sum().backward()
    assert abs(float(client.scale.grad)) < 1e-9
    assert float(client.matrix.grad.abs().max()) > 1e-3


def test_the_gradient_is_that_of_finite_differences():
    """Through the derivative by the image: a double backward that is right in every weight."""
    with isolated(stream(0, "bent")):
        client = Bent().double()
    (weight,) = [p for p in client.parameters() if p.ndim == 4]
    information(client).log().sum().backward()
    for place in ((0, 0, 0, 0), (1, 0, 1, 2)):
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                weight[place] += step
                ends.append(float(information(client).log().sum()))
                weight[place] -= step
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(float(weight.grad[place]), rel=1e-5)


def test_features_that_stand_still_are_told_apart_from_an_error():
    class Still(Affine):
        def forward(self, images):
            return (super().forward(images)[1] * 0,)

    found = (information(Still()) + LEAST).log()
    found.sum().backward()
    assert bool(found.isfinite().all())


def test_a_batch_of_one_is_trained_on_the_task_alone():
    penalty = FisherRegularization(weight=1.0).penalty(images(1), LABELS[:1], ())
    assert float(penalty) == 0


@pytest.mark.parametrize("cut", ["relu", "hidden"])
def test_training_lowers_the_information_under_noise_as_strong_as_the_features(cut):
    """Against what cross-entropy alone leaves after as many steps."""
    world = defense_world(cut)
    told = []
    for weight in (1e-9, 0.3):
        defense = FisherRegularization(weight=weight, finetune_epochs=3, learning_rate=0.01)
        client = world.deploy(defense).split.client
        noise = GaussianNoise(noise_std=1.0)
        noise.scale.calibrate(client, world.train)
        shown = world.train.images()[:60]
        told.append(float(exact_fisher_trace(client, noise, shown).trace.mean()))
    assert told[1] < 0.8 * told[0]


@pytest.mark.parametrize("cut", ["relu", "branch"])
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_the_calibrated_error_is_that_of_other_images_measured_otherwise(cut, per):
    """The world's images are alike: half of them calibrate, exact traces of the rest check."""
    world = defense_world(cut)
    client = world.split.client
    defense = FisherNoise(target_mse=0.2, per=per, probes=32)
    defense.fit(world.split, world.train.subset(slice(160)), generator=stream(0))
    found = exact_fisher_trace(client, defense, world.train.images()[160:])
    errors = 1 / found.dfil
    spread = 2 * float(errors.std()) * (1 / 80 + 1 / 160) ** 0.5
    assert float(errors.mean()) == pytest.approx(0.2, abs=spread)
    assert spread < 0.03


def test_twice_the_error_is_twice_the_variance_and_half_the_information():
    world = defense_world()
    weak, strong = FisherNoise(target_mse=0.1), FisherNoise(target_mse=0.2)
    features = world.features(world.targets)
    told = []
    for defense in (weak, strong):
        defense.fit(world.split, world.train, generator=stream(0))
        told.append(float(defense.information(features)[0]))
    assert told[0] == pytest.approx(2 * told[1], rel=1e-5)
    assert weak.snr_db - strong.snr_db == pytest.approx(10 * math.log10(2), rel=1e-5)
    (sent,) = strong.protect(features, generator=stream(0))
    power = float((sent - features[0]).square().mean() / features[0].square().mean())
    train = world.features(world.train.images())[0].square().mean()
    expected = 10 ** (-strong.snr_db / 10) * float(train / features[0].square().mean())
    assert power == pytest.approx(expected, rel=0.1)


def test_few_directions_do_not_make_the_noise_weaker():
    """The inverse of an estimate is too large on average, which is corrected."""
    world = defense_world("hidden")
    levels = []
    for probes in (4, 100):
        defense = FisherNoise(target_mse=0.1, probes=probes)
        defense.fit(world.split, world.train, generator=stream(0))
        levels.append(float(defense.level))
    assert levels[0] == pytest.approx(levels[1], rel=0.04)


def test_a_cut_that_no_image_reaches_is_refused():
    world = defense_world()

    class Constant(nn.Module):
        def forward(self, images):
            return (torch.ones(len(images), 3),)

    parts = type(world.split)(world.split.cut, Constant(), world.split.server)
    with pytest.raises(ValueError, match="choose another cut"):
        FisherNoise(target_mse=0.1).fit(parts, world.train, generator=stream(0))


def test_features_trained_to_be_flat_need_less_noise_for_the_same_error():
    """Relative to their size, which is what it costs the server."""
    levels = []
    for weight in (1e-9, 0.3):
        flat = FisherRegularization(weight=weight, finetune_epochs=3, learning_rate=0.01)
        members = {"flat": flat, "noise": FisherNoise(target_mse=0.1, probes=4)}
        deployed = defense_world("hidden").deploy(Chain(members=members))
        levels.append(deployed.defense.stages[1].snr_db)
    assert levels[1] > levels[0] + 1
