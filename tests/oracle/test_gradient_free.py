"""The search without gradients reaches what theory allows, and hidden gradients do not fool it."""

import pytest
import torch
from worlds import GREY, STD, Static, build, gaussian_matrix, linear

from attacks.gradient_free_search import GradientFreeSearch
from attacks.likelihood_maximization import LikelihoodMaximization
from defenses.gaussian_noise import GaussianNoise

ALL = GradientFreeSearch(components=16, generations=250)


def steps(x):
    """Features in steps of a quarter of a deviation: their gradient is 0 wherever there is one."""
    return (4 * x).round() / 4


def test_an_undefended_image_of_a_linear_client_is_found():
    world = build(linear(gaussian_matrix(20)), auxiliary=2000, targets=10)
    assert world.attacked_by(ALL).error < 1e-3


def test_under_gaussian_noise_it_finds_the_wiener_estimate():
    matrix = gaussian_matrix(12)
    world = build(linear(matrix), defense=GaussianNoise(noise_std=0.6), targets=10)
    features = world.deployment.features(world.targets[:1])
    noise = float(world.deployment.defense.stds(features)[0].flatten()[0])
    total = matrix @ matrix.T + noise**2 * torch.eye(12)
    release = world.release().tensors[0].double()
    wiener = GREY + STD * release @ torch.linalg.solve(total, matrix)
    guess = world.guess(ALL).flatten(1).double()
    # The prior is that of 10,000 images, not that of their distribution.
    torch.testing.assert_close(guess, wiener, atol=0.1 * STD, rtol=0)


def test_hidden_gradients_stop_the_search_that_follows_them_and_not_this_one():
    world = build(steps, auxiliary=2000, targets=10)
    blinded = LikelihoodMaximization(steps=200, weights=(0.0,), learning_rate=0.02)
    assert world.attacked_by(blinded).error > 0.9
    assert world.attacked_by(ALL).error < 0.1


def test_from_noise_it_learns_nothing():
    world = build(linear(gaussian_matrix(12)), defense=Static(), auxiliary=2000, targets=30)
    assert world.attacked_by(GradientFreeSearch(components=16, generations=50)).respects(1.0)


@pytest.mark.parametrize("components", [2, 8])
def test_nothing_outside_its_components_is_painted(components):
    world = build(linear(gaussian_matrix(20)), auxiliary=2000, targets=10)
    attack = GradientFreeSearch(components=components, generations=20)
    guess = world.guess(attack).flatten(1)
    pictures = guess - attack.export_state()["mean"].flatten()
    rank = int(torch.linalg.matrix_rank(pictures, rtol=1e-4))
    assert rank <= components


def test_more_rounds_explain_the_release_no_worse():
    world = build(linear(gaussian_matrix(20)), auxiliary=2000, targets=10)
    few, many = (
        world.attacked_by(GradientFreeSearch(components=16, generations=g)).error for g in (10, 60)
    )
    assert many < few


def test_every_setting_out_of_range_is_named():
    for bad in (
        {"components": 1},
        {"generations": 0},
        {"population": 3},
        {"spread": 0.0},
        {"max_targets": 0},
    ):
        (name,) = bad
        with pytest.raises(ValueError, match=f"{name}="):
            GradientFreeSearch(**bad)
