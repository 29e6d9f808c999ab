"""Whether the parts of a plan answer as the whole model does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from offloading.measuring.processes import MeasureError
from offloading.measuring.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The answers to the timed requests of one plan, held against those of the whole model.

    Attributes:
        equal: How many are the same bit for bit; None where none was compared. Those that a device
            gave because no other answer came are not counted.
        not_compared: Why not; None where they were.
    """

    equal: int | None
    not_compared: str | None


def compared(told: Sequence[Mapping[str, Any]], subject: Subject) -> Answers:
    """Hold the answers of a plan against those that it should give.

    Args:
        told: What the device said of each request.
        subject: The plan.

    Raises:
        MeasureError: An answer is another one.
    """
    if subject.expected is None:
        return Answers(equal=None, not_compared=subject.not_compared)
    given = [each for each in told if not each.get("failure")]
    apart = [_apart(each["logits"], subject.expected[each["image"]]) for each in given]
    wrong = [distance for distance in apart if distance is not None]
    if wrong:
        raise MeasureError(
            f"{subject.name}: {len(wrong)} of {len(given)} answers are not the whole model's, with "
            f"logits up to {max(wrong):.3g} off: its parts do not compute what the model does"
        )
    return Answers(equal=len(given), not_compared=None)


def _apart(logits: Sequence[float], expected: Tensor) -> float | None:
    """The largest difference; None where there is none in any bit."""
    found = torch.tensor(logits, dtype=expected.dtype)
    if torch.equal(found, expected):
        return None
    return float((found - expected).abs().max())
