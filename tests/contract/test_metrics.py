"""Every metric of the package keeps every promise, and every promise can be broken."""

import importlib
import inspect
import pkgutil

import pytest
import torch
from villains_metric import VILLAINS

import splitbench.metrics
from splitbench.checks.metric import METRIC_CHECKS
from splitbench.metric import Metric, MetricUnavailableError
from splitbench.metrics.lpips import Lpips
from splitbench.metrics.multi_scale_similarity import MultiScaleSimilarity
from splitbench.metrics.peak_signal_to_noise import PeakSignalToNoise
from splitbench.rng import stream

SETTINGS = {Lpips: [{"download": False}], PeakSignalToNoise: [{}, {"cap_db": 100.0}]}
SHAPES = ((5, 1, 16, 16), (4, 3, 23, 14))
LARGE = (3, 1, 177, 180)  # for what small images are refused by


def discovered():
    for module in pkgutil.iter_modules(splitbench.metrics.__path__, "splitbench.metrics."):
        for cls in vars(importlib.import_module(module.name)).values():
            own = isinstance(cls, type) and cls.__module__ == module.name
            if own and issubclass(cls, Metric) and not inspect.isabstract(cls):
                yield cls


METRICS = [cls(**kwargs) for cls in discovered() for kwargs in SETTINGS.get(cls, [{}])]


def batch(shape):
    return torch.rand(shape, generator=stream(0, "contract", "metric"))


@pytest.mark.parametrize("check", METRIC_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("metric", METRICS, ids=repr)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_metric_keeps_every_promise(metric, check, shape):
    try:
        check(metric, batch(LARGE if isinstance(metric, MultiScaleSimilarity) else shape))
    except MetricUnavailableError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("villain", VILLAINS, ids=lambda villain: villain.__name__)
def test_a_villain_breaks_exactly_its_promise(villain):
    broken = []
    for check in METRIC_CHECKS:
        try:
            check(villain(), batch(SHAPES[0]))
        except AssertionError:
            broken.append(check)
    assert broken == [VILLAINS[villain]]


def test_every_check_has_a_villain():
    assert set(VILLAINS.values()) == set(METRIC_CHECKS)


def test_no_two_metrics_share_a_column():
    keys = [cls.key for cls in discovered()]
    assert len(keys) == len(set(keys)) == 8


def test_every_setting_belongs_to_a_metric_of_the_package():
    assert set(SETTINGS) <= set(discovered())
