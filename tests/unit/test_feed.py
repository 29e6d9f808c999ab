"""The adversary's batches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splitbench.data.images import LabeledImages
from splitbench.feed import Feed


def images(n=40):
    """Image k is k / 256 on the left and 0 on the right, so that each is known by its pixels."""
    pixels = torch.zeros(n, 1, 2, 2)
    pixels[..., 0] = (torch.arange(n) + 1).view(n, 1, 1) / 256
    return LabeledImages(pixels, torch.zeros(n, dtype=torch.int64), ("one",))


def numbers(batch):
    """Which images a batch holds, mirrored or not."""
    return (batch.amax((1, 2, 3)) * 256 - 1).long().tolist()


@given(st.permutations(range(8)), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_a_batch_does_not_depend_on_which_were_asked_before(order, seed):
    straight, shuffled = Feed(images(), seed=seed), Feed(images(), seed=seed)
    wanted = {t: straight.batch(12, t) for t in range(8)}
    for t in order:
        assert torch.equal(shuffled.batch(12, t), wanted[t])


def test_another_batch_size_in_between_changes_nothing():
    alone, disturbed = Feed(images(), seed=0), Feed(images(), seed=0)
    disturbed.batch(5, 3)
    assert torch.equal(alone.batch(12, 1), disturbed.batch(12, 1))


def test_other_seeds_give_other_batches():
    assert not torch.equal(Feed(images(), seed=0).batch(12, 0), Feed(images(), seed=1).batch(12, 0))


def test_asking_again_hands_out_the_very_same_tensor():
    feed = Feed(images(), seed=0)
    assert feed.batch(12, 0) is feed.batch(12, 0)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5])
def test_validation_and_training_are_disjoint_and_complete(fraction):
    feed = Feed(images(), seed=0, validation_fraction=fraction)
    held_out, trained = (numbers(part.images()) for part in (feed.validation, feed.train))
    assert len(held_out) == int(40 * fraction)
    assert sorted(held_out + trained) == list(range(40))


def test_no_batch_holds_a_validation_image():
    feed = Feed(images(), seed=0, validation_fraction=0.5)
    served = {number for t in range(20) for number in numbers(feed.batch(6, t))}
    assert served == set(numbers(feed.train.images()))


@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_each_epoch_shows_every_image_once(epoch):
    feed = Feed(images(), seed=0, validation_fraction=0.0)
    served = [n for t in range(epoch * 5, epoch * 5 + 5) for n in numbers(feed.batch(8, t))]
    assert sorted(served) == list(range(40))


def test_epochs_are_shuffled_anew():
    feed = Feed(images(), seed=0, validation_fraction=0.0)
    first, second = ([numbers(feed.batch(8, 5 * e + t)) for t in range(5)] for e in range(2))
    assert first != second


def test_a_batch_is_never_larger_than_the_data():
    assert len(Feed(images(10), seed=0, validation_fraction=0.0).batch(64, 3)) == 10


def test_images_are_mirrored_half_of_the_time():
    feed = Feed(images(), seed=0)
    batches = torch.cat([feed.batch(36, t) for t in range(50)])
    mirrored = (batches[..., 1] > 0).any(-1).float().mean()
    assert abs(mirrored - 0.5) < 4 * 0.5 / len(batches) ** 0.5


def test_nothing_is_mirrored_where_that_is_off():
    feed = Feed(images(), seed=0, flip=False)
    assert not any(feed.batch(12, t)[..., 1].any() for t in range(10))


def test_numbered_images_go_on_mirrored_and_start_again():
    feed = Feed(images(10), seed=0, validation_fraction=0.0)
    first, second, third = (feed.numbered(torch.arange(10) + 10 * k) for k in range(3))
    assert torch.equal(first, feed.train.images())
    assert torch.equal(second, first.flip(-1))
    assert torch.equal(third, first)


def test_numbered_images_are_never_mirrored_where_that_is_off():
    feed = Feed(images(10), seed=0, validation_fraction=0.0, flip=False)
    assert torch.equal(feed.numbered(torch.arange(10, 20)), feed.train.images())


def test_few_things_are_shuffled_in_epochs_of_their_own():
    feed = Feed(images(), seed=0)
    feed.batch(12, 0)
    assert sorted(torch.cat([feed.shuffled(6, 3, t) for t in range(4, 6)]).tolist()) == [*range(6)]
