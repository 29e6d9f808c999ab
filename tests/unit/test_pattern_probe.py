"""The probe that reads which values are zero: it needs no more than that, and uses no more."""

import torch

from attacks.linear_probe import LinearProbe
from attacks.pattern_probe import PatternProbe
from splitbench.checks.attack_world import toy_world
from splitbench.checks.inference_trial import as_easy_as_can_be, attempt, infer
from splitbench.release import Release

SETTINGS = {"penalties": (0.01, 0.0001), "iterations": 10, "draws": 1}


def disguised(release):
    """Other values at the same places, signs included."""
    (values,) = release.tensors
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(0))
    return Release((torch.where(values != 0, noise, 0.0),), payload_bytes=release.payload_bytes)


def scores_before_and_after_disguise(cls):
    probe = cls(**SETTINGS)
    world = as_easy_as_can_be(PatternProbe(), toy_world())
    fitted, release = attempt(probe, world).inference, world.release()
    assert (release.tensors[0] == 0).any()
    return tuple(infer(fitted, world, release=r)[0] for r in (release, disguised(release)))


def test_what_values_are_does_not_matter():
    before, after = scores_before_and_after_disguise(PatternProbe)
    assert torch.equal(before, after)
    assert float((before - before[0]).abs().max()) > 0.1


def test_to_a_probe_of_the_values_it_does():
    before, after = scores_before_and_after_disguise(LinearProbe)
    assert not torch.allclose(before, after, atol=0.1)


def test_releases_that_are_zero_at_the_same_places_tell_nothing():
    probe = PatternProbe(**SETTINGS)
    values = torch.rand(5, 3, 2, 2) + 1
    assert (
        probe.says_nothing_about(Release((values,))) == "the same values are zero in all messages"
    )
    values[:, 1] = 0
    assert probe.says_nothing_about(Release((values,)))
    values[2, 0, 0, 0] = 0
    assert not probe.says_nothing_about(Release((values,)))
