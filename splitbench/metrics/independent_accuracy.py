"""Accuracy of a classifier that has nothing to do with the attacked model."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from splitbench.metric import Metric, MetricUnavailableError

BATCH = 256


class IndependentAccuracy(Metric):
    """1 where an independent classifier sees the true class in the guess, else 0.

    The classifier has another architecture than the attacked model (`EvaluatorNet`) and is
    trained on true images of the calibration role; what it says about the true images is the
    ceiling of this metric, and chance (or the class-conditional mean image) its floor.

    References:
        None; a definition.
    """

    key: ClassVar[str] = "top1"
    leaks: ClassVar[Literal["up", "down"]] = "up"
    compares_with: ClassVar[Literal["images", "labels", "identities"]] = "labels"
    needs_evaluator: ClassVar[bool] = True
    perfect = 1.0

    _evaluator: nn.Module | None = None

    def bind(self, evaluator: nn.Module) -> "IndependentAccuracy":
        """Use this trained classifier, in eval mode; returns self."""
        self._evaluator = evaluator
        return self

    def score(
        self, guess: Float[Tensor, "b c h w"], truth: Int[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """1.0 or 0.0 for each guess.

        Raises:
            MetricUnavailableError: No classifier was bound.
        """
        if self._evaluator is None:
            raise MetricUnavailableError(
                "top1 needs an independent classifier: bind one that was trained on the "
                "calibration role"
            )
        logits = torch.cat([self._evaluator(part) for part in torch.split(guess, BATCH)])
        return (logits.argmax(1) == truth.to(logits.device)).double()
