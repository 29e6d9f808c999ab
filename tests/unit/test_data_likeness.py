"""Images of one data set in the form of another's."""

import pytest
import torch

from splitbench.data.images import LabeledImages
from splitbench.data.likeness import alike


def images(*shape):
    pixels = torch.randint(256, (4, *shape), dtype=torch.uint8, generator=torch.Generator())
    return LabeledImages(pixels, torch.tensor([0, 1, 0, 1]), ("a", "b"))


def test_what_fits_is_left_as_it_is():
    given = images(1, 8, 8)
    assert alike(given, (1, 8, 8)) is given


@pytest.mark.parametrize("given", [(1, 28, 28), (3, 32, 32), (3, 20, 50)])
@pytest.mark.parametrize("wanted", [(1, 28, 28), (3, 32, 32), (1, 64, 40)])
def test_the_shape_is_the_one_that_was_asked_for(given, wanted):
    found = alike(images(*given), wanted)
    assert found.shape == wanted
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert found.classes == ("a", "b")


def test_grey_becomes_equal_channels_and_comes_back():
    given = images(1, 9, 9)
    there = alike(given, (3, 9, 9))
    assert torch.equal(there.pixels, given.pixels.expand(-1, 3, -1, -1))
    back = alike(there, (1, 9, 9))
    assert int((back.pixels.int() - given.pixels.int()).abs().max()) <= 1


def test_a_plain_colour_stays_plain_at_any_size():
    plain = LabeledImages(
        torch.full((1, 3, 32, 32), 77, dtype=torch.uint8), torch.tensor([0]), ("a",)
    )
    assert set(alike(plain, (1, 28, 20)).pixels.unique().tolist()) == {77}


def test_other_channels_are_refused():
    with pytest.raises(ValueError, match="2 channels"):
        alike(images(2, 8, 8), (1, 8, 8))
