"""The adversary's own judge of likeness, and the decoder that it teaches."""

import pytest
import torch

from attacks.inverse_network import InverseNetwork
from attacks.perceptual_features import PerceptualFeatures
from attacks.perceptual_loss import perceptual_loss
from attacks.perceptual_network import PerceptualNetwork
from splitbench.checks.attack_trial import attempt
from splitbench.checks.attack_world import toy_images, toy_world
from splitbench.metrics.evaluator import EvaluatorNet
from splitbench.rng import isolated, stream

SMALL = {"width": 16, "blocks": 1, "heads": 0, "patch": 4, "steps": 12, "batch_size": 16}


def drawn(channels=1):
    with isolated(stream(0, "features")):
        return PerceptualFeatures(channels).requires_grad_(False)


def test_the_distance_is_zero_for_equal_images_and_grows_with_what_differs():
    net, images = drawn(), toy_images(16, "images").images()
    noise = torch.randn(images.shape, generator=stream(0, "noise"))
    distances = [float(net.distance(images + std * noise, images)) for std in (0, 0.01, 0.1)]
    assert distances[0] == 0
    assert distances[0] < distances[1] < distances[2] <= 4
    assert float(net.distance(images, images + noise)) == pytest.approx(
        float(net.distance(images + noise, images))
    )


def test_it_judges_by_another_architecture_than_the_one_that_scores():
    judge = EvaluatorNet(image_shape=(1, 28, 28), classes=4)
    shapes = [{tuple(p.shape) for p in net.parameters() if p.ndim == 4} for net in (judge, drawn())]
    assert all(shapes)
    assert not shapes[0] & shapes[1]


def test_its_loss_is_the_perceptual_one_and_the_weighted_distance():
    truth = toy_images(8, "images").images()
    guess = truth.flip(0)
    attack = PerceptualNetwork(**SMALL, feature_weight=3.0)
    attack._features = drawn()
    wanted = perceptual_loss(guess, truth) + 3 * attack._features.distance(guess, truth)
    torch.testing.assert_close(attack._compare(guess, truth), wanted)
    assert float(wanted) > 1.01 * float(perceptual_loss(guess, truth))


def test_without_a_weight_it_is_the_decoder_that_it_builds_on():
    guesses = [
        attempt(attack, toy_world()).guess
        for attack in (
            PerceptualNetwork(**SMALL, feature_weight=0.0),
            InverseNetwork(**SMALL, loss="perceptual"),
        )
    ]
    assert torch.equal(*guesses)


def test_it_keeps_nothing_of_its_features():
    fitted = attempt(PerceptualNetwork(**SMALL), toy_world()).attack
    plain = attempt(InverseNetwork(**SMALL), toy_world()).attack
    assert fitted.export_state().keys() == plain.export_state().keys()
    assert fitted._features is None


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 9), (3, 32, 32)])
def test_images_of_any_size_have_a_distance(shape):
    images = torch.rand(8, *shape, generator=stream(0, "images"))
    assert 0 < float(drawn(shape[0]).distance(images, images.flip(0))) <= 4


def test_a_negative_weight_is_refused_by_name():
    with pytest.raises(ValueError, match="feature_weight=-1"):
        PerceptualNetwork(feature_weight=-1.0)
