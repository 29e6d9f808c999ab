"""Attacks that learn side by side."""

import torch

from splitbench.checks.attack_world import toy_world
from splitbench.fitting import fit_together
from splitbench.progress import Progress
from splitbench.rng import stream
from splitbench.threat import ThreatModel


def counting(steps, diary, name):
    for step in range(1, steps + 1):
        diary.append((name, step))
        yield Progress(step, steps, 0.0)


def failing(after, diary, name):
    yield from counting(after, diary, name)
    raise ValueError(f"{name} gave up")


def test_fittings_advance_in_turn():
    diary = []
    fits = {name: counting(steps, diary, name) for name, steps in (("a", 3), ("b", 1), ("c", 2))}
    fit_together(fits, lambda name, progress: None)
    assert diary == [("a", 1), ("b", 1), ("c", 1), ("a", 2), ("c", 2), ("a", 3)]


def test_every_step_is_reported_with_its_name():
    diary, seen = [], []
    fits = {name: counting(2, diary, name) for name in "ab"}
    fit_together(fits, lambda name, progress: seen.append((name, progress.step)))
    assert seen == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def test_one_that_raises_stops_alone():
    diary = []
    ended = fit_together(
        {"bad": failing(1, diary, "bad"), "good": counting(3, diary, "good")},
        lambda name, progress: None,
    )
    assert isinstance(ended["bad"].error, ValueError)
    assert str(ended["bad"].error) == "bad gave up"
    assert ended["good"].error is None
    assert diary == [("bad", 1), ("good", 1), ("good", 2), ("good", 3)]


def test_one_that_learns_nothing_ends_at_once():
    ended = fit_together({"a": iter(())}, lambda name, progress: None)
    assert ended["a"].error is None
    assert ended["a"].seconds >= 0


def test_nobody_fits_nothing():
    assert fit_together({}, lambda name, progress: None) == {}


def test_an_interrupt_is_not_taken_for_a_failed_fit():
    def interrupted():
        yield Progress(1, 2, 0.0)
        raise KeyboardInterrupt

    try:
        fit_together({"a": interrupted()}, lambda name, progress: None)
    except KeyboardInterrupt:
        return
    raise AssertionError("the interrupt was swallowed")


def last_features(attacks, world):
    """What each of several learners saw, batch by batch, when fitted together."""
    seen = {name: [] for name in attacks}

    def learn(name):
        surface = world.surface(name, ThreatModel())
        for step, (images, release) in enumerate(surface.examples(16, 4), 1):
            noise = torch.rand(1, generator=generators[name])
            seen[name].append((images.clone(), release.tensors[0] + noise))
            yield Progress(step, 4, 0.0)

    generators = {name: stream(0, "attack", name) for name in attacks}
    fit_together({name: learn(name) for name in attacks}, lambda name, progress: None)
    return seen


def test_what_one_learns_does_not_depend_on_the_others():
    alone = last_features(["a"], toy_world())["a"]
    among = last_features(["b", "a", "c"], toy_world())["a"]
    for (images, features), (same_images, same_features) in zip(alone, among, strict=True):
        assert torch.equal(images, same_images)
        assert torch.equal(features, same_features)
