"""Distance correlation against closed forms, and what the estimators see of it."""

import math

import pytest
import torch

from splitbench.dependence import LEAST, distance_correlation
from splitbench.rng import stream

PAIRS = 4000


def normal(*shape, name="x"):
    return torch.randn(*shape, generator=stream(0, "dependence", name), dtype=torch.float64)


def bivariate(rho):
    """The distance correlation of a bivariate normal distribution."""
    above = rho * math.asin(rho) + math.sqrt(1 - rho**2)
    above -= rho * math.asin(rho / 2) + math.sqrt(4 - rho**2) - 1
    return math.sqrt(above / (1 + math.pi / 3 - math.sqrt(3)))


@pytest.mark.parametrize(("rho", "known"), [(0.25, 0.2237), (0.5, 0.45413), (0.9, 0.86818)])
@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_a_bivariate_normal_distribution_has_a_closed_form(rho, known, estimator):
    """O47; the spread of 4,000 pairs is below 0.015."""
    assert bivariate(rho) == pytest.approx(known, abs=1e-4)
    x, other = normal(PAIRS, 2).split(1, dim=1)
    y = rho * x + math.sqrt(1 - rho**2) * other
    found = float(distance_correlation(x, y, estimator=estimator).sqrt())
    assert found == pytest.approx(known, abs=0.03)


@pytest.mark.parametrize("estimator", LEAST)
def test_what_is_rotated_scaled_and_shifted_depends_fully(estimator):
    """O47."""
    x = normal(50, 6)
    rotation, _ = torch.linalg.qr(normal(6, 6, name="rotation"))
    found = distance_correlation(x, 3 * x @ rotation + 2, estimator=estimator)
    assert float(found) == pytest.approx(1, abs=1e-9)


def test_a_few_samples_of_many_dimensions_look_dependent_only_to_the_plain_statistic():
    """O48: independent, 128 samples of 3,072 dimensions."""
    x, y = normal(128, 3, 32, 32), normal(128, 3072, name="y")
    assert float(distance_correlation(x, y, estimator="biased").sqrt()) > 0.98
    assert abs(float(distance_correlation(x, y))) < 0.03


def test_squared_distances_do_not_see_a_parabola():
    """O48."""
    x = normal(PAIRS, 1)
    assert float(distance_correlation(x, x**2).sqrt()) == pytest.approx(0.54, abs=0.02)
    flat = distance_correlation(x, x**2, estimator="squared_distance")
    assert float(flat.sqrt()) < 0.1


def test_the_unbiased_statistic_is_zero_on_average_where_nothing_depends():
    found = [
        float(distance_correlation(normal(16, 2, name=f"a{i}"), normal(16, 2, name=f"b{i}")))
        for i in range(400)
    ]
    mean = sum(found) / len(found)
    error = torch.tensor(found).std() / math.sqrt(len(found))
    assert min(found) < 0
    assert abs(mean) < 4 * error


def test_what_does_not_vary_depends_on_nothing():
    assert float(distance_correlation(normal(8, 2), torch.ones(8, 3).double())) == 0


def test_gradients_are_finite_where_samples_coincide():
    x = normal(8, 2).requires_grad_()
    distance_correlation(torch.cat([x, x]), normal(16, 3, name="y")).backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("x", "y", "keywords", "complaint"),
    [
        (torch.ones(3, 1), torch.ones(3, 1), {}, "3 and 3"),
        (torch.ones(5, 1), torch.ones(4, 1), {}, "5 and 4"),
        (torch.ones(5, 1), torch.ones(5, 1), {"estimator": "robust"}, "robust"),
    ],
)
def test_what_cannot_be_estimated_is_refused(x, y, keywords, complaint):
    with pytest.raises(ValueError, match=complaint):
        distance_correlation(x, y, **keywords)
