"""Targets are released in parts, the same at every call, and no more of them is kept."""

import pytest
import torch

from attacks.mean_image import MeanImage
from experiments import target as module
from experiments.target import Target
from splitbench.attack import Attack
from tests.unit.test_budget_jobs import CUT, opened


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    return opened(tmp_path_factory.mktemp("runs"), observations=2)


@pytest.fixture
def target(job):
    found = job.target(job.cuttable.find(CUT))
    return Target(found.key, found.deployment, found.images[:11], 0, ("test",), 2)


def joined(parts):
    return torch.cat([part.tensors[0] for part in parts])


class Echo(Attack):
    """Guesses how many it was shown at once, in hundredths."""

    needs = frozenset()

    def __init__(self, *, max_targets=None):
        self.max_targets = max_targets

    def recover(self, release, surface, *, generator):
        return torch.full((len(release), *surface.image_shape), len(release) / 100)


def test_parts_of_many_targets_are_bounded_and_hold_each_target_once(target, monkeypatch):
    whole = joined(target.parts())
    monkeypatch.setattr(module, "PART", 4)
    target._last.clear()
    parts = list(target.parts())
    assert [len(part) for part in parts] == [4, 4, 3]
    torch.testing.assert_close(joined(parts), whole)
    assert torch.equal(joined(target.parts()), joined(parts))
    assert torch.equal(joined(target.parts(6)), joined(parts)[:6])
    assert [len(part) for _, part in target._last.values()] == [4]


def test_a_second_look_at_few_targets_releases_nothing(target, monkeypatch):
    first = joined(target.parts())
    monkeypatch.setattr(target.deployment.codec.__class__, "encode", None)
    assert torch.equal(joined(target.parts(5)), first[:5])


def test_an_attack_sees_a_part_at_a_time_and_no_more_targets_than_it_takes_on(
    target, job, monkeypatch
):
    monkeypatch.setattr(module, "PART", 4)
    for limit, shown in ((None, [4] * 8 + [3] * 3), (6, [4] * 4 + [2] * 2)):
        attack = Echo(max_targets=limit)
        surface = job.surface(target, attack, "recover")
        attack.fit(surface, generator=torch.Generator())
        guess = target.guessed_by(attack, surface, generator=torch.Generator())
        assert (guess[:, 0, 0, 0] * 100).round().int().tolist() == shown


def test_what_the_server_sees_and_weighs_is_of_every_target(target, monkeypatch):
    whole = target.logits(), target.payload_bytes()
    monkeypatch.setattr(module, "PART", 4)
    target._last.clear()
    assert len(target.logits()) == len(target.payload_bytes()) == len(target.images)
    torch.testing.assert_close(target.logits(), whole[0])
    assert torch.equal(target.payload_bytes(), whole[1])


def test_a_floor_needs_no_part_of_its_own(target, job):
    floor = MeanImage()
    surface = job.judges_surface(target, floor)
    floor.fit(surface, generator=torch.Generator())
    assert len(target.guessed_by(floor, surface, generator=torch.Generator())) == 11
