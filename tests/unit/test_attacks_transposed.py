"""The weak decoder: shapes fit at every cut, no pixel is left out, and it learns what it can."""

import pytest
import torch

from attacks.transposed_decoder import TransposedDecoder, _step, _stride
from attacks.transposed_network import TransposedNetwork
from splitbench.checks.attack_trial import attempt
from splitbench.checks.attack_world import toy_world
from splitbench.release import TensorSpec
from splitbench.rng import isolated, stream

SMALL = {"width": 16, "batch_size": 16, "learning_rate": 0.01}


def decoder(*shapes, image_shape=(1, 28, 28), width=8, standardise=False):
    specs = [TensorSpec(str(i), shape) for i, shape in enumerate(shapes)]
    with isolated(stream(0, "modules")):
        return TransposedDecoder(specs, image_shape, width=width, standardise=standardise)


def drawn(*shape):
    return torch.randn(shape, generator=stream(0, "values"))


@pytest.mark.parametrize("side", [1, 4, 9, 28, 32, 224])
def test_a_layer_gives_exactly_the_side_that_is_wanted_and_leaves_no_gap(side):
    for size in range(1, side + 1):
        stride, kernel, padding = _step(size, side, _stride(size, side))
        assert (size - 1) * stride - 2 * padding + kernel == side
        assert kernel > stride
        assert kernel >= 3


def test_a_valid_convolution_and_pooling_are_met_by_their_own_transposes():
    seen = decoder((16, 10, 10))
    assert seen.middle == [14, 14]
    assert seen.ways_in[0].layer.kernel_size == (5, 5)
    assert seen.ways_in[0].layer.stride == (1, 1)
    assert seen.paint.stride == (2, 2)


@pytest.mark.parametrize(
    "shapes",
    [
        [(6, 28, 28)],
        [(6, 14, 14)],
        [(16, 5, 5)],
        [(120,)],
        [(16, 4)],
        [(6, 28, 28), (16, 5, 5), (7,)],
    ],
    ids=str,
)
def test_every_released_value_is_seen_and_every_pixel_is_painted(shapes):
    net = decoder(*shapes, width=64)
    values = tuple(drawn(1, *shape).requires_grad_() for shape in shapes)
    painted = net(values)
    assert painted.shape == (1, 1, 28, 28)
    gradients = torch.autograd.grad((painted * drawn(28, 28)).sum(), values)
    assert all(bool((gradient != 0).all()) for gradient in gradients)
    other = net(tuple(value + drawn(*value.shape) for value in values))
    assert bool((other != painted).all())


def test_standardised_features_are_painted_alike_in_any_unit():
    shapes, values = [(3, 7, 7), (5,)], (drawn(4, 3, 7, 7), drawn(4, 5))
    scaled = (100 * values[0] - 7, values[1] / 100)
    for standardise in (True, False):
        net, other = (decoder(*shapes, standardise=standardise) for _ in range(2))
        net.prepare(values)
        other.prepare(scaled)
        same = torch.allclose(net(values), other(scaled), atol=1e-4)
        assert same == standardise


def test_it_finds_most_of_what_a_linear_client_hides_given_time():
    world = toy_world()
    trial = attempt(TransposedNetwork(**SMALL, steps=400), world)
    assert world.leak(trial.guess) > 0.9


def test_its_learning_rate_is_halved_after_each_fifth_of_the_steps(monkeypatch):
    rates = []
    step = torch.optim.Adam.step

    def noted(self, *arguments, **keywords):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **keywords)

    monkeypatch.setattr(torch.optim.Adam, "step", noted)
    attempt(TransposedNetwork(**SMALL, steps=10), toy_world())
    assert rates == [0.01 / 2**k for k in range(5) for _ in range(2)]


@pytest.mark.parametrize(
    "wrong", [{"width": 0}, {"steps": 0}, {"batch_size": 0}, {"learning_rate": 0.0}]
)
def test_impossible_settings_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TransposedNetwork(**wrong)


def test_it_is_in_no_suite(pytestconfig):
    suites = (pytestconfig.rootpath / "configs" / "suite").glob("*.yaml")
    assert not [s.name for s in suites if "transposed_network" in s.read_text()]
