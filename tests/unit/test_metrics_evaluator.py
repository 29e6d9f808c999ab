"""The independent classifier and the accuracy that it gives."""

import pytest
import torch
from torch import nn

from splitbench.metric import MetricUnavailableError
from splitbench.metrics.evaluator import EvaluatorNet
from splitbench.metrics.independent_accuracy import IndependentAccuracy
from splitbench.rng import isolated, stream


def network(shape=(1, 12, 12), classes=2):
    with isolated(stream(0, "unit", "evaluator")):
        return EvaluatorNet(image_shape=shape, classes=classes)


def stripes(n, name):
    """Horizontal (class 0) and vertical (class 1) stripes under noise."""
    generator = stream(0, "unit", name)
    labels = torch.arange(n) % 2
    rows = (torch.arange(12) // 2 % 2).float().view(1, 12, 1).expand(1, 12, 12)
    clean = torch.stack([rows, rows.mT])[labels]
    return (0.5 * clean + 0.5 * torch.rand(clean.shape, generator=generator)), labels


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 9, 70)])
def test_the_evaluator_takes_any_size_with_about_a_hundred_thousand_parameters(shape):
    net = network(shape, 10)
    assert net(torch.rand(2, *shape)).shape == (2, 10)
    assert 80_000 < sum(p.numel() for p in net.parameters()) < 120_000


def test_the_evaluator_refuses_images_that_are_too_small():
    with pytest.raises(ValueError, match="at least 8 x 8 pixels, got 7 x 9"):
        EvaluatorNet(image_shape=(1, 7, 9), classes=2)


def test_the_evaluator_judges_each_image_on_its_own_in_training_mode_too():
    net = network().train()
    images, _ = stripes(6, "alone")
    assert torch.allclose(net(images)[:2], net(images[:2]), atol=1e-5)


def test_the_evaluator_learns_what_can_be_seen_and_top1_tells():
    net = network()
    images, labels = stripes(32, "train")
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(12):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        optimiser.step()
    fresh, truth = stripes(20, "test")
    metric = IndependentAccuracy().bind(net.eval())
    assert float(metric(fresh, truth).mean()) == 1
    assert float(metric(fresh.mT, truth).mean()) == 0
    assert set(metric(torch.rand_like(fresh), truth).tolist()) <= {0.0, 1.0}


def test_top1_without_a_classifier_says_what_is_missing():
    with pytest.raises(MetricUnavailableError, match="bind one that was trained"):
        IndependentAccuracy()(torch.rand(2, 1, 8, 8), torch.zeros(2, dtype=torch.int64))
