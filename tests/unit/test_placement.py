"""Where tensors are made; `tests/device` has the same for everything that is built on it."""

import pytest
import torch
from torch import nn

from splitbench.placement import computing_on, found, here, name_of, on_the_cpu
from splitbench.rng import isolated, stream


def test_on_the_cpu_nothing_changes():
    with computing_on("cpu"):
        assert here() == torch.device("cpu")
        assert torch.overrides._get_current_function_mode() is None


def test_new_tensors_are_made_on_the_device():
    with computing_on("meta"):
        assert torch.zeros(2).device == here() == torch.device("meta")
        assert torch.ones(2, device="cpu").device == torch.device("cpu")
    assert torch.zeros(2).device == torch.device("cpu")


@pytest.mark.parametrize(
    "draw",
    [
        lambda g: torch.rand(3, generator=g),
        lambda g: torch.randn(3, generator=g),
        lambda g: torch.randint(5, (3,), generator=g),
        lambda g: torch.randperm(3, generator=g),
        lambda g: torch.empty(3).uniform_(generator=g),
        lambda g: torch.empty(3).normal_(std=2.0, generator=g),
    ],
)
def test_a_stream_of_the_cpu_serves_every_device(draw):
    generator, other = stream(0, "draws"), stream(0, "draws")
    with computing_on("meta"):
        drawn = draw(generator)
    draw(other)
    assert drawn.device.type == "meta"
    assert torch.equal(generator.get_state(), other.get_state())


def test_modules_are_initialised_alike_on_the_cpu_and_stay_there_until_moved():
    with isolated(stream(0, "module")):
        wanted = nn.Linear(3, 2)
    with computing_on("meta"), isolated(stream(0, "module")):
        layer = nn.Linear(3, 2)
    assert torch.equal(layer.weight, wanted.weight)


def test_the_cpu_is_the_cpu_within_another_device():
    with computing_on("meta"), on_the_cpu():
        assert here() == torch.zeros(1).device == torch.device("cpu")


@pytest.mark.parametrize("name", ["quantum", "cpu:x", ""])
def test_a_device_that_is_not_here_is_one_sentence_with_a_remedy(name):
    with pytest.raises(ValueError, match="use device=cpu") as error:
        found(name)
    assert "\n" not in str(error.value)


def test_a_device_has_a_name():
    assert name_of(found("cpu")) == "cpu"
