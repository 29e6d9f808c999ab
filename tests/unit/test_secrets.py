"""What a data set knows about its images, numbered for inferences."""

import dataclasses

import pytest
import torch

from experiments.secrets import Question, Secret, questions_of
from splitbench.data.images import LabeledImages, Roles
from splitbench.feed import Feed
from splitbench.rng import stream


def part(name, *, persons=None, **attributes):
    count = 12
    pixels = torch.rand(count, 1, 4, 4, generator=stream(0, name))
    labels = torch.zeros(count, dtype=torch.int64)
    values = {k: torch.arange(count) % v for k, v in attributes.items()}
    known = None if persons is None else torch.tensor(persons)[torch.arange(count) % len(persons)]
    return LabeledImages(pixels, labels, ("a", "b"), known, values)


def roles(**changes):
    usual = {"fine": 3, "flat": 1}
    parts = {
        "train": part("train", persons=[7, 30, 9], **usual),
        "auxiliary": part("auxiliary", persons=[100, 200], **usual),
        "calibration": part("calibration", persons=[9, 30], **usual),
        "target": part("target", persons=[30, 8], **usual),
    }
    return Roles(**{**parts, **changes})


def test_secrets_are_attributes_of_more_than_one_value_and_persons_on_file():
    found = questions_of(roles())
    assert [(q.secret.name, q.secret.measure, q.count) for q in found] == [
        ("attribute fine", "balanced_accuracy", 3),
        ("identity", "rank1", 3),
    ]


def test_persons_of_whom_nothing_is_on_file_are_no_secret_to_ask_for():
    names = [q.secret.name for q in questions_of(roles(target=part("t", persons=[1, 2], fine=2)))]
    assert names == ["attribute fine"]


def test_persons_are_numbered_by_the_file_and_others_are_nobody():
    question = Question(Secret("identity"), roles())
    assert question.persons.tolist() == [7, 9, 30]
    assert question.numbers(roles().target)[:4].tolist() == [2, -1, 2, -1]
    known = question.known(Feed(roles().auxiliary, seed=0))
    assert set(known.train.tolist()) <= {100, 200}
    assert known.on_file[:3].tolist() == [0, 2, 1]
    assert len(known.gallery) == 12


def test_a_target_is_not_on_file_itself():
    whole = roles()
    among = dataclasses.replace(whole, target=whole.train.subset(slice(0, 4)))
    known = Question(Secret("identity"), among).known(Feed(whole.auxiliary, seed=0))
    assert torch.equal(known.gallery, whole.train.images()[4:])
    assert known.on_file.tolist() == [2, 1, 0, 2, 1, 0, 2, 1]


def test_the_adversary_knows_the_values_of_its_own_images_in_the_feeds_order():
    data = dataclasses.replace(roles().auxiliary, attributes={"number": torch.arange(12)})
    feed = Feed(data, seed=0, validation_fraction=0.25)
    whole = roles(
        auxiliary=data,
        target=dataclasses.replace(roles().target, attributes={"number": torch.arange(12)}),
    )
    known = Question(Secret("attribute", "number"), whole).known(feed)
    for values, images in ((known.train, feed.train), (known.validation, feed.validation)):
        assert torch.equal(data.pixels[values], images.pixels)
    assert known.values == 12


def test_images_that_do_not_say_teach_nothing():
    whole = roles()
    silent = dataclasses.replace(whole.auxiliary, attributes={}, identities=None)
    for secret in (Secret("attribute", "fine"), Secret("identity")):
        question = Question(secret, whole)
        assert question.known(Feed(silent, seed=0)) is None
        with pytest.raises(ValueError, match="do not say their"):
            question.numbers(silent)
