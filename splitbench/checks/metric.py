"""What every metric must do, as functions that raise AssertionError and name the remedy.

An author of a metric runs all of them::

    for check in METRIC_CHECKS:
        check(metric, images)

where `images` is a float tensor ``(b, c, h, w)`` in [0, 1], with at least four images that differ
from each other. A metric that needs an evaluator is bound to one that recognises these images.
"""

import re
from collections.abc import Callable
from math import isfinite

import torch
from torch import Tensor, nn

from splitbench.metric import Metric

Check = Callable[[Metric, Tensor], None]

TOLERANCE = 1e-6


def check_constructor_only_stores(metric: Metric, images: Tensor) -> None:
    """Building the metric again from its own arguments gives the same metric."""
    del images
    again = type(metric)(**metric.arguments())
    assert repr(again) == repr(metric), (
        f"{metric!r} built again is {again!r}: store constructor keywords under their own names, "
        "unchanged"
    )


def check_declares_itself(metric: Metric, images: Tensor) -> None:
    """Key, direction and value of an exact recovery can be used in a table."""
    del images
    assert re.fullmatch("[a-z][a-z0-9_]*", metric.key), (
        f"key {metric.key!r}: a column name in lower case, with its unit, such as psnr_db"
    )
    assert metric.leaks in ("up", "down"), f"leaks={metric.leaks!r}: say 'up' or 'down'"
    assert metric.compares_with in ("images", "labels", "identities"), (
        f"compares_with={metric.compares_with!r}: say 'images', 'labels' or 'identities'"
    )
    assert isfinite(metric.perfect), f"perfect={metric.perfect}: cap the scale at a finite value"


def check_gives_one_finite_number_per_example(metric: Metric, images: Tensor) -> None:
    """A batch of n, also of one, gives n finite float64 scores."""
    for n in (1, len(images)):
        scores = _score(metric, images, images[:n].flip(3))
        assert tuple(scores.shape) == (n,), (
            f"{n} examples gave shape {tuple(scores.shape)}: never squeeze, never average over "
            "the batch"
        )
        assert scores.dtype == torch.float64, f"scores are {scores.dtype}, want float64"
        assert bool(torch.isfinite(scores).all()), "a score is NaN or infinite: cap the scale"


def check_perfect_on_identity(metric: Metric, images: Tensor) -> None:
    """The truth itself scores `perfect`."""
    scores = _score(metric, images, images)
    worst = float((scores - metric.perfect).abs().max())
    assert worst <= TOLERANCE, (
        f"the truth scores {scores.tolist()}, not perfect={metric.perfect}: correct one of them"
    )


def check_direction(metric: Metric, images: Tensor) -> None:
    """The further the guess from the truth, the further the mean score from `perfect`."""
    other = images.roll(1, 0)
    means = [
        float(_score(metric, images, torch.lerp(images, other, share)).mean())
        for share in (0.0, 0.3, 1.0)
    ]
    falling = means if metric.leaks == "up" else means[::-1]
    monotone = falling[0] > falling[2] and falling[0] >= falling[1] >= falling[2]
    assert monotone, (
        f"towards another image the score goes {means}: leaks={metric.leaks!r} says otherwise"
    )


def check_examples_do_not_mix(metric: Metric, images: Tensor) -> None:
    """The scores of a part of a batch are that part of the scores of the batch."""
    guess, half = images.flip(3), len(images) // 2
    whole = _score(metric, images, guess)
    parts = [_score(metric, images, guess[:half]), _score(metric, images, guess[half:], start=half)]
    worst = float((torch.cat(parts) - whole).abs().max())
    assert worst <= TOLERANCE, (
        f"scores change by {worst:.3g} with the batch: reduce over each example's own axes only"
    )


def check_refuses_what_is_out_of_range(metric: Metric, images: Tensor) -> None:
    """Pixels in [0, 255], and normalised pixels, raise ValueError."""
    for bad in (images * 255, (images - 0.5) / 0.25):
        _assert_refused(metric, images, bad, "are outside [0, 1]")


def check_refuses_what_is_not_finite(metric: Metric, images: Tensor) -> None:
    """NaN pixels raise ValueError."""
    bad = images.clone()
    bad[-1, -1, -1, -1] = torch.nan
    _assert_refused(metric, images, bad, "hold NaN")


def check_refuses_other_shapes(metric: Metric, images: Tensor) -> None:
    """Fewer truths than guesses raise ValueError: nothing is broadcast."""
    ready, truth = _ready(metric, images)
    try:
        ready(images.clone(), truth[:1].clone())
    except ValueError:
        return
    raise AssertionError("one truth served several guesses: raise ValueError where counts differ")


def check_leaves_inputs_alone(metric: Metric, images: Tensor) -> None:
    """Neither guess nor truth is changed."""
    ready, truth = _ready(metric, images)
    given, known = images.flip(3), truth.clone()
    ready(given, known)
    same = torch.equal(given, images.flip(3)) and torch.equal(known, truth)
    assert same, "the metric changed its input: work on a copy, without in-place operations"


def check_leaves_global_rng_alone(metric: Metric, images: Tensor) -> None:
    """Scoring draws nothing from torch's global generator, also where it builds a network first."""
    fresh = type(metric)(**metric.arguments())
    before = torch.get_rng_state()
    _score(fresh, images, images.flip(3))
    assert torch.equal(before, torch.get_rng_state()), (
        "the metric drew from the global generator: wrap what does in splitbench.rng.isolated"
    )


METRIC_CHECKS: tuple[Check, ...] = (
    check_constructor_only_stores,
    check_declares_itself,
    check_gives_one_finite_number_per_example,
    check_perfect_on_identity,
    check_direction,
    check_examples_do_not_mix,
    check_refuses_what_is_out_of_range,
    check_refuses_what_is_not_finite,
    check_refuses_other_shapes,
    check_leaves_inputs_alone,
    check_leaves_global_rng_alone,
)


class _Recognises(nn.Module):
    """A classifier with one class for each of some images: the one that is nearest."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = images.clone()

    def forward(self, guess: Tensor) -> Tensor:
        return -torch.cdist(guess.flatten(1), self.images.flatten(1))


def _ready(metric: Metric, images: Tensor) -> tuple[Metric, Tensor]:
    """The metric, able to score, and the truth that it compares with."""
    if metric.needs_evaluator:
        metric.bind(_Recognises(images))
    if metric.needs_gallery:
        metric.enroll(images.clone(), torch.arange(len(images)))
    truth = images if metric.compares_with == "images" else torch.arange(len(images))
    return metric, truth


def _score(metric: Metric, images: Tensor, guess: Tensor, *, start: int = 0) -> Tensor:
    """Score guesses of the images from number `start` on; no check hands damage to the next."""
    ready, truth = _ready(metric, images)
    return ready(guess.clone(), truth[start : start + len(guess)].clone())


def _assert_refused(metric: Metric, images: Tensor, bad: Tensor, what: str) -> None:
    ready, truth = _ready(metric, images)
    pairs = [("guesses", bad, truth)]
    if ready.compares_with == "images":
        pairs.append(("truths", images, bad))
    for name, guess, known in pairs:
        try:
            ready(guess.clone(), known.clone())
        except ValueError:
            continue
        raise AssertionError(f"{name} that {what} were scored: leave __call__ to the base class")
