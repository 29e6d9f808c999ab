"""Training of the task model."""

import dataclasses
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import nn

from splitbench.data.images import LabeledImages
from splitbench.models import LeNet5
from splitbench.rng import isolated, stream
from splitbench.training import Training, accuracy, augmented

QUICK = {"epochs": 3, "batch_size": 16, "learning_rate": 0.01}


def stripes(count, seed=0, noise=0.3):
    """Images of the class of their bright row: learnable, but not at once."""
    generator = stream(seed, "stripes")
    labels = torch.randint(4, (count,), generator=generator)
    pixels = torch.rand(count, 1, 12, 12, generator=generator) * noise
    pixels[torch.arange(count), 0, 3 * labels] += 1 - noise
    return LabeledImages(pixels, labels, ("a", "b", "c", "d"))


def fresh(dropout=0.0):
    with isolated(stream(0, "initialisation")):
        head = [nn.Flatten(), nn.Linear(144, 16), nn.ReLU(), nn.Dropout(dropout)]
        return nn.Sequential(*head, nn.Linear(16, 4))


def weights(model):
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def test_a_classifier_learns_what_can_be_learnt():
    with isolated(stream(0, "initialisation")):
        model = LeNet5(image_shape=(1, 12, 12), classes=4)
    before = accuracy(model, stripes(200, seed=1)).mean
    report = Training(epochs=8, batch_size=16, augment="none").fit(
        model, stripes(256), generator=stream(0, "training")
    )
    assert before < 0.5 < 0.95 < accuracy(model, stripes(200, seed=1)).mean
    assert not model.training
    assert (report.epochs, report.best_epoch, report.validation) == (8, 8, None)


@pytest.mark.parametrize("augment", ["none", "flip", "flip+crop"])
def test_equal_seeds_give_equal_weights_bit_for_bit(augment):
    def train(seed):
        model = fresh(dropout=0.5)
        training = Training(**QUICK, augment=augment, validation_fraction=0.2)
        report = training.fit(model, stripes(64), generator=stream(seed, "training"))
        return weights(model), report

    rng = torch.random.get_rng_state()
    first, second, other = train(0), train(0), train(1)
    assert torch.equal(first[0], second[0])
    assert first[1] == second[1]
    assert not torch.equal(first[0], other[0])
    assert torch.equal(torch.random.get_rng_state(), rng)


def test_what_is_held_out_is_not_trained_on():
    train = stripes(60)
    order = torch.randperm(60, generator=stream(0, "training"))
    held_out = train.subset(order[:30])
    pixels = train.pixels.clone()
    pixels[order[:30]] = torch.nan  # one step on any of these and the weights are NaN
    poisoned = LabeledImages(pixels, train.labels, train.classes)
    training = Training(**QUICK, augment="none", validation_fraction=0.5)
    model, clean = fresh(), fresh()
    report = training.fit(clean, train, generator=stream(0, "training"))
    training.fit(model, poisoned, generator=stream(0, "training"))
    assert bool(torch.isfinite(weights(model)).all())
    assert report.validation.n == 30
    assert report.validation.mean == accuracy(clean, held_out).mean


def test_the_epoch_with_the_lowest_held_out_cross_entropy_is_kept():
    train = stripes(90, noise=0.9)
    train = dataclasses.replace(train, labels=torch.randint(4, (90,), generator=stream(0, "noise")))
    held_out = train.subset(torch.randperm(90, generator=stream(0, "training"))[:45])
    model, seen = fresh(), []

    def nats():
        return F.cross_entropy(model(held_out.images()), held_out.labels).item()

    def on_step(progress):
        if progress.step % 2 == 0:  # 45 images: two batches of 16 an epoch
            seen.append(nats())

    training = Training(
        epochs=12, batch_size=16, learning_rate=0.03, validation_fraction=0.5, patience=4
    )
    report = training.fit(model, train, generator=stream(0, "training"), on_step=on_step)
    assert nats() == pytest.approx(min(seen))
    assert seen.index(min(seen)) == report.best_epoch - 1
    assert report.best_epoch < report.epochs == len(seen) < 12  # labels are noise: it stops early
    assert report.epochs == report.best_epoch + 4


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5, 6])
def test_a_training_of_very_few_steps_moves_the_weights(epochs):
    model = fresh()
    before = weights(model)
    Training(epochs=epochs, batch_size=16).fit(model, stripes(16), generator=stream(0, "training"))
    assert weights(model).isfinite().all()
    assert not torch.equal(weights(model), before)


def test_progress_counts_the_steps():
    seen = []
    Training(**QUICK).fit(
        fresh(), stripes(70), generator=stream(0, "training"), on_step=seen.append
    )
    assert [p.step for p in seen] == list(range(1, 13))  # 70 images: four batches an epoch
    assert {p.steps for p in seen} == {12}
    assert seen[0].loss == pytest.approx(1.4, abs=0.3)  # ln 4, before it has learnt


def test_mirrored_images_are_the_image_or_its_mirror_image_both_often():
    images = torch.rand(64, 2, 5, 4, generator=stream(0, "images"))
    result = augmented(images, "flip", stream(0, "augment"))
    same = (result == images).flatten(1).all(1)
    mirrored = (result == images.flip(-1)).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 16 < int(mirrored.sum()) < 48


def test_shifted_images_are_windows_of_the_image_in_a_black_frame():
    image = torch.rand(1, 2, 16, 16, generator=stream(0, "images")) + 0.1
    result = augmented(image.expand(40, -1, -1, -1), "flip+crop", stream(0, "augment"))
    framed = [F.pad(one, (2,) * 4) for one in (image[0], image[0].flip(-1))]
    windows = {
        (flipped, y, x): framed[flipped][:, y : y + 16, x : x + 16]
        for flipped, y, x in itertools.product((0, 1), range(5), range(5))
    }
    found = [
        next(key for key, window in windows.items() if torch.equal(window, one)) for one in result
    ]
    assert len(set(found)) > 20


def test_accuracy_counts_in_eval_mode_and_puts_the_mode_back():
    class Even(nn.Module):
        def forward(self, images):
            assert not self.training
            return F.one_hot((images[:, 0, 0, 0] * 255).long() % 2, 2).float()

    pixels = torch.arange(10, dtype=torch.uint8).reshape(10, 1, 1, 1)
    labels = torch.tensor([0, 1] * 4 + [1, 1])  # the ninth is wrong
    model = Even().train()
    result = accuracy(model, LabeledImages(pixels, labels, ("even", "odd")), batch_size=3)
    assert (result.mean, result.n) == (0.9, 10)
    assert result.low == pytest.approx(0.5958, abs=1e-4)  # Wilson, 9 of 10
    assert result.high == pytest.approx(0.9821, abs=1e-4)
    assert model.training


def test_smoothed_labels_keep_the_loss_above_their_entropy():
    def loss(smoothing):
        settings = {**QUICK, "epochs": 10, "augment": "none", "label_smoothing": smoothing}
        training = Training(**settings)
        return training.fit(fresh(), stripes(128), generator=stream(0, "training")).loss

    entropy = -0.85 * math.log(0.85) - 3 * 0.05 * math.log(0.05)  # 0.2 spread over four classes
    assert loss(0.0) < 0.5 * entropy < entropy < loss(0.2)


def test_weight_decay_shrinks_the_weights():
    def norm(decay):
        model = fresh()
        training = Training(**QUICK, weight_decay=decay)
        training.fit(model, stripes(64), generator=stream(0, "training"))
        return float(weights(model).norm())

    assert norm(5.0) < 0.9 * norm(0.0)


def test_a_loss_that_is_not_finite_stops_the_training():
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        Training(epochs=5, batch_size=16, learning_rate=1e30).fit(
            fresh(), stripes(64), generator=stream(0, "training")
        )


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="smaller batch_size"):
        Training(batch_size=64).fit(fresh(), stripes(63), generator=stream(0, "training"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"learning_rate": 0.0},
        {"weight_decay": -0.1},
        {"label_smoothing": 1.0},
        {"augment": "mirror"},
        {"validation_fraction": 1.0},
        {"patience": 0, "validation_fraction": 0.5},
        {"patience": 3},  # nothing is held out
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Training(**wrong)


def test_the_repr_rebuilds_the_settings():
    training = Training(epochs=7, augment="none")
    assert eval(repr(training)) == training


def test_the_committed_configuration_shows_every_setting_with_its_default():
    node = OmegaConf.to_container(OmegaConf.load("configs/training/default.yaml"))
    assert node.pop("_target_") == "splitbench.training.Training"
    assert node == dataclasses.asdict(Training())
