"""How far a long computation has come."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """One step of something that takes many.

    Attributes:
        step: Steps done, from 1.
        steps: Steps in all, an upper bound where training may stop early.
        loss: Current value of what is minimised.
    """

    step: int
    steps: int
    loss: float
