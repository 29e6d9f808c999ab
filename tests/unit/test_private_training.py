"""DP-SGD of the task model: what it promises, to whom, and what it refuses."""

import copy

import pytest
import torch
from opacus.accountants import RDPAccountant
from torch import nn

from defenses.no_defense import NoDefense
from splitbench.data.images import LabeledImages
from splitbench.private_training import PrivateTraining
from splitbench.training import accuracy

TINY = {"epochs": 2, "batch_size": 40, "learning_rate": 0.02, "delta": 1e-4}


@pytest.fixture(scope="module")
def images() -> LabeledImages:
    """Two classes: light on the left, or on the right."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    pixels = torch.randint(60, (200, 1, 6, 6), generator=generator, dtype=torch.uint8)
    pixels[labels == 0, :, :, :3] += 150
    pixels[labels == 1, :, :, 3:] += 150
    return LabeledImages(pixels, labels, ("left", "right"))


def fresh() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 2))


def trained(images: LabeledImages, seed: int = 0, **changes: float) -> nn.Module:
    model = fresh()
    settings = PrivateTraining(**{**TINY, **changes})
    settings.fit(model, images, generator=torch.Generator().manual_seed(seed))
    return model


def same(left: nn.Module, right: nn.Module) -> bool:
    pairs = zip(left.parameters(), right.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_the_noise_spends_the_budget_and_no_more(epsilon: float) -> None:
    training = PrivateTraining(epsilon=epsilon, epochs=3, batch_size=50, delta=1e-5)
    accountant = RDPAccountant()
    noise = training.noise_multiplier(1000)
    for _ in range(3 * 20):
        accountant.step(noise_multiplier=noise, sample_rate=0.05)
    spent = accountant.get_epsilon(delta=1e-5)
    assert 0.95 * epsilon < spent <= epsilon


def test_more_privacy_takes_more_noise() -> None:
    noise = [PrivateTraining(epsilon=e).noise_multiplier(5000) for e in (1.0, 4.0, 16.0)]
    assert noise == sorted(noise, reverse=True)


def test_it_learns_where_epsilon_is_generous_and_not_where_it_is_tiny(
    images: LabeledImages,
) -> None:
    generous = accuracy(trained(images, epsilon=50.0, epochs=6), images)
    tiny = accuracy(trained(images, epsilon=0.1, epochs=6), images)
    assert generous.low > 0.9
    assert tiny.mean < generous.low


def test_the_same_generator_trains_the_same_model_and_leaves_the_global_one_alone(
    images: LabeledImages,
) -> None:
    model = fresh()
    before = torch.random.get_rng_state()
    PrivateTraining(**TINY).fit(model, images, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert same(model, trained(images))
    assert not same(model, trained(images, seed=1))


def test_one_image_moves_a_step_by_no_more_than_the_clip(images: LabeledImages) -> None:
    """Before the noise: the images of the batch, with one and without it."""
    from opacus.grad_sample import GradSampleModule
    from opacus.optimizers import DPOptimizer

    def summed(count: int) -> torch.Tensor:
        model = fresh()
        model[-1].weight.data *= 100  # gradients far above the clip
        each = GradSampleModule(model)
        optimizer = DPOptimizer(
            torch.optim.SGD(model.parameters(), lr=1.0),
            noise_multiplier=0.0,
            max_grad_norm=0.3,
            expected_batch_size=1,
        )
        logits = each(images.images(slice(0, count)).requires_grad_())
        nn.functional.cross_entropy(logits, 1 - logits.argmax(1)).backward()
        optimizer.pre_step()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    moved = (summed(20) - summed(19)).norm()
    assert 0.29 < moved <= 0.3 + 1e-5


def test_the_trained_model_is_a_plain_one(images: LabeledImages) -> None:
    model = trained(images)
    assert not model.training
    assert not any(hasattr(p, "grad_sample") and p.grad_sample is not None
                   for p in model.parameters())  # fmt: skip
    assert same(copy.deepcopy(model), model)
    with torch.no_grad():
        assert model(images.images(slice(0, 3))).shape == (3, 2)


def test_batch_normalisation_is_refused_in_one_sentence(images: LabeledImages) -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 2))
    with pytest.raises(ValueError, match=r"BatchNorm2d: no promise about one image .*GroupNorm"):
        PrivateTraining(**TINY).fit(model, images, generator=torch.Generator())


def test_a_delta_that_would_allow_publishing_an_image_is_refused(images: LabeledImages) -> None:
    with pytest.raises(ValueError, match=r"with 200 images it must be below 0\.005"):
        trained(images, delta=0.01)


@pytest.mark.parametrize(
    "wrong",
    [{"epsilon": 0.0}, {"epsilon": -1.0}, {"delta": 0.0}, {"delta": 1.0}, {"clip": 0.0},
     {"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}],
)  # fmt: skip
def test_values_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PrivateTraining(**wrong)


def test_it_promises_nothing_about_what_is_sent_at_inference() -> None:
    assert PrivateTraining(epsilon=1.0).label == "DP-SGD epsilon=1 delta=1e-05"
    assert not NoDefense().guarantee().formal
    assert NoDefense().guarantee().epsilon == float("inf")
