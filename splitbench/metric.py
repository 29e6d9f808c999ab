"""What a guess is worth: one value per example, always."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor


class MetricUnavailableError(RuntimeError):
    """The metric cannot be computed here; the message says why and what would help."""


class Metric(ABC):
    """Compares guesses with the true images.

    Class attributes:
        key: Column name with its unit, e.g. ``psnr_db``.
        leaks: Direction in which the adversary knows more.
        perfect: Value of an exact recovery.
    """

    key: ClassVar[str]
    leaks: ClassVar[Literal["up", "down"]]
    perfect: ClassVar[float]

    @final
    def __call__(
        self, guess: Float[Tensor, "b c h w"], truth: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, " b"]:
        """Score each guess.

        Args:
            guess: Images in [0, 1].
            truth: Images in [0, 1], same shape.

        Returns:
            Float64 scores, one per example.

        Raises:
            ValueError: Values outside [0, 1], not finite, or shapes that differ.
            MetricUnavailableError: Weights that the metric needs are not installed.
        """
        if guess.shape != truth.shape:
            raise ValueError(f"guess {tuple(guess.shape)} and truth {tuple(truth.shape)} differ")
        for name, images in (("guess", guess), ("truth", truth)):
            if not bool(torch.isfinite(images).all()):
                raise ValueError(f"{name} holds NaN or infinite pixels")
            if float(images.min()) < 0 or float(images.max()) > 1:
                low, high = float(images.min()), float(images.max())
                raise ValueError(f"{name} must be in [0, 1], got [{low:.3g}, {high:.3g}]")
        with torch.no_grad():
            return self.score(guess, truth).double().cpu()

    @abstractmethod
    def score(
        self, guess: Float[Tensor, "b c h w"], truth: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, " b"]:
        """Compute the scores; inputs are checked."""

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({arguments})"
