"""A number that says where it is from."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Basis = Literal["measured", "predicted", "assumed"]
_STRENGTH: tuple[Basis, ...] = get_args(Basis)  # from the strongest to the weakest


@dataclass(frozen=True)
class Figure:
    """A number, what it rests on, and its source in a few words.

    Attributes:
        value: The number; its unit is in the name of whatever holds the figure.
        basis: ``measured`` (here, or in a record), ``predicted`` (computed from measurements by a
            model) or ``assumed`` (at least one constant behind it was not measured).
        source: Where it is from, for a reader.
        low, high: Its 95 % interval, where the source has one.
    """

    value: float
    basis: Basis
    source: str = ""
    low: float | None = None
    high: float | None = None


def weakest(bases: Iterable[Basis]) -> Basis:
    """What a number rests on that was computed from numbers that rest on these.

    A sum of measurements is a prediction: nobody measured the sum.

    Example:
        >>> weakest(["measured", "assumed", "predicted"])
        'assumed'
    """
    found = list(bases)
    worst = max((_STRENGTH.index(basis) for basis in found), default=0)
    return _STRENGTH[max(worst, min(len(found) - 1, 1))]
