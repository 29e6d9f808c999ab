"""Every inference of the package keeps every promise, and every promise can be broken."""

import inspect

import pytest
from tiny_inferences import TINY
from villains_inference import VILLAINS, DrawsGlobally, LeastSquaresProbe, Underclaims

import attacks
from splitbench.checks.discovery import concrete
from splitbench.checks.inference import INFERENCE_CHECKS, check_inference
from splitbench.inference import Inference

DISCOVERED = concrete(attacks, Inference)
INFERENCES = [cls(**TINY.get(cls, {})) for cls in DISCOVERED]


def test_the_package_asks_for_attributes_and_for_persons():
    assert {inference.secret for inference in INFERENCES} == {"attribute", "identity"}


@pytest.mark.parametrize("check", INFERENCE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("inference", INFERENCES, ids=lambda one: type(one).__name__)
def test_every_inference_keeps_every_promise(inference, check):
    check(inference)


def test_a_good_citizen_passes_all_checks():
    check_inference(LeastSquaresProbe())


@pytest.mark.parametrize("villain", VILLAINS, ids=lambda villain: villain.__name__)
def test_a_villain_breaks_exactly_its_promise(villain):
    broken = []
    for check in INFERENCE_CHECKS:
        try:
            check(villain())
        except AssertionError:
            broken.append(check)
    assert broken == [VILLAINS[villain]]


def test_every_check_has_a_villain():
    assert set(VILLAINS.values()) == set(INFERENCE_CHECKS)


def test_all_failures_are_reported_at_once():
    class Careless(DrawsGlobally, Underclaims):
        pass

    with pytest.raises(AssertionError) as failure:
        check_inference(Careless())
    assert "check_leaves_global_rng_alone" in str(failure.value)
    assert "check_needs_is_exact" in str(failure.value)


def test_every_row_of_settings_belongs_to_an_inference_and_its_keywords():
    assert set(TINY) == set(DISCOVERED)
    for cls, row in TINY.items():
        assert set(row) <= set(inspect.signature(cls).parameters)
