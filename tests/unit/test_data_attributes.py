"""Attributes stay with their images, and a coarse task leaves the fine class as one."""

import dataclasses

import pytest
import torch

from splitbench.data.coarse import Coarse
from splitbench.data.images import LabeledImages, join
from splitbench.data.likeness import alike
from splitbench.data.roles import assign_roles
from splitbench.data.source import Source
from splitbench.rng import stream

SIZES = {"train": 40, "auxiliary": 30, "calibration": 20, "target": 20}
BEFORE_THERE_WERE_ATTRIBUTES = "c959005fabd9c52dca1662b281f4117c35e62c9037b3db78f98cd2504ef1a663"
CLASSES = ("shirt", "coat", "boot", "bag")


def images(count=120, *, attributes=True, seed=0):
    """Noise, with the number of the image as its attribute."""
    generator = stream(seed, "attributes")
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    names = {"number": torch.arange(count)} if attributes else {}
    return LabeledImages(pixels, torch.arange(count) % 4, CLASSES, attributes=names)


def test_attributes_stay_with_their_images_through_subsets_joins_and_roles():
    whole = images()
    parts = [whole.subset(slice(50, 60)), whole.subset(torch.tensor([3, 1]))]
    assert join(parts).attributes["number"].tolist() == [*range(50, 60), 3, 1]
    roles = assign_roles(whole, sizes=SIZES, seed=0, similarity=0.99)
    for role in SIZES:
        part = getattr(roles, role)
        assert torch.equal(part.pixels, whole.pixels[part.attributes["number"]])
    assert alike(whole, (3, 4, 4)).attributes["number"].tolist() == list(range(120))


def test_what_one_part_does_not_know_is_lost_in_the_whole():
    whole = join([images(4), images(4, attributes=False, seed=1)])
    assert len(whole) == 8
    assert not whole.attributes


def test_attributes_are_part_of_a_fingerprint_only_where_there_are_any():
    plain, known = images(attributes=False), images()
    other = dataclasses.replace(known, attributes={"number": torch.arange(120).flip(0)})
    renamed = dataclasses.replace(known, attributes={"place": torch.arange(120)})
    prints = {one.fingerprint() for one in (plain, known, other, renamed)}
    assert len(prints) == 4
    assert plain.fingerprint() == BEFORE_THERE_WERE_ATTRIBUTES


def test_attributes_of_other_images_are_refused():
    with pytest.raises(ValueError, match=r"120 images but attribute 'number' is \(3,\)"):
        dataclasses.replace(images(), attributes={"number": torch.arange(3)})


class Wardrobe(Source):
    """Noise under the names of clothes."""

    def __init__(self, *, sizes, seed=0):
        self.sizes = sizes
        self.seed = seed

    def read(self):
        return images(attributes=False), None


GROUPS = {"clothes": ("shirt", "coat"), "others": ("boot", "bag")}


def coarse(**changes):
    chosen = {"groups": GROUPS, "sizes": SIZES, **changes}
    return Coarse(source=Wardrobe(sizes={}), **chosen)


def test_a_coarse_task_has_the_images_of_the_fine_one_with_the_fine_class_as_an_attribute():
    fine, roles = Wardrobe(sizes=SIZES).load(), coarse().load()
    for role in SIZES:
        before, after = getattr(fine, role), getattr(roles, role)
        assert torch.equal(before.pixels, after.pixels)
        assert torch.equal(before.labels, after.attributes["fine"])
        assert torch.equal(after.labels, before.labels // 2)
        assert after.classes == ("clothes", "others")
    assert roles.fingerprints() != fine.fingerprints()


@pytest.mark.parametrize(
    "groups",
    [
        {"clothes": ("shirt", "coat"), "others": ("boot",)},
        {"clothes": ("shirt", "coat", "bag"), "others": ("boot", "bag")},
        {"clothes": ("shirt", "coat"), "others": ("boot", "bag", "hat")},
    ],
    ids=["too few", "twice", "unknown"],
)
def test_groups_that_do_not_hold_each_class_once_are_refused(groups):
    with pytest.raises(ValueError, match="want each of bag, boot, coat, shirt once"):
        coarse(groups=groups).load()


@pytest.mark.parametrize("groups", [{"all": CLASSES}, {"some": CLASSES, "none": ()}])
def test_a_task_without_a_choice_is_refused(groups):
    with pytest.raises(ValueError, match="want at least two, none of them empty"):
        coarse(groups=groups)
