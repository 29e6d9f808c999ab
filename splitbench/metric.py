"""What a guess is worth: one value per example, always."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from splitbench.described import Described


class MetricUnavailableError(RuntimeError):
    """The metric cannot be computed here; the message says why and what would help."""


class Metric(Described, ABC):
    """Compares guessed images with the truth.

    Class attributes:
        key: Column name with its unit, e.g. ``psnr_db``.
        leaks: Direction in which the adversary knows more.
        compares_with: What the truth is: the true ``images``, their class ``labels``, or the
            ``identities`` of the persons in them.
        needs_evaluator: Must be bound (`bind`) to an independent classifier before it scores.
        needs_gallery: Must be given photographs of the persons (`enroll`) before it scores.
    """

    key: ClassVar[str]
    leaks: ClassVar[Literal["up", "down"]]
    compares_with: ClassVar[Literal["images", "labels", "identities"]] = "images"
    needs_evaluator: ClassVar[bool] = False
    needs_gallery: ClassVar[bool] = False

    @property
    @abstractmethod
    def perfect(self) -> float:
        """Value of an exact recovery; usually a plain class attribute."""

    def bind(self, evaluator: nn.Module) -> "Metric":
        """Use this independent classifier, images in [0, 1] to logits; returns self.

        It is in eval mode, on the device of the guesses, and was trained on the calibration role
        alone. Metrics that need none ignore it.
        """
        del evaluator
        return self

    def enroll(
        self, photographs: Float[Tensor, "b c h w"], identities: Int[Tensor, " b"]
    ) -> "Metric":
        """Use these photographs of known persons, none of which is a target; returns self.

        Metrics that need none ignore them.
        """
        del photographs, identities
        return self

    @final
    def __call__(
        self, guess: Float[Tensor, "b c h w"], truth: Float[Tensor, "b c h w"] | Int[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Score each guess.

        Args:
            guess: Images in [0, 1].
            truth: Images in [0, 1] of the same shape, class labels, or identities (see
                `compares_with`).

        Returns:
            Float64 scores on the CPU, one per example.

        Raises:
            ValueError: No images, values outside [0, 1], not finite, or shapes that differ.
            MetricUnavailableError: Weights, an evaluator or a gallery that the metric needs are
                missing.
        """
        guess, truth = guess.detach(), truth.detach()
        _check_images("guess", guess)
        if self.compares_with == "images":
            _check_images("truth", truth)
            if guess.shape != truth.shape:
                raise ValueError(
                    f"guess {tuple(guess.shape)} and truth {tuple(truth.shape)} differ in shape"
                )
        elif truth.shape != guess.shape[:1] or truth.is_floating_point():
            raise ValueError(
                f"{self.key} compares with one integer label per guess, got truth of shape "
                f"{tuple(truth.shape)} and type {truth.dtype} for {len(guess)} guesses"
            )
        with torch.no_grad():
            return self.score(guess, truth).double().cpu()

    @abstractmethod
    def score(
        self, guess: Float[Tensor, "b c h w"], truth: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, " b"]:
        """Compute the scores; inputs are checked, and left untouched."""


def _check_images(name: str, images: Tensor) -> None:
    if images.ndim != 4 or images.numel() == 0 or not images.is_floating_point():
        raise ValueError(
            f"{name} must be float images (b, c, h, w), got shape {tuple(images.shape)} of type "
            f"{images.dtype}"
        )
    if not bool(torch.isfinite(images).all()):
        raise ValueError(f"{name} holds NaN or infinite pixels")
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise ValueError(
            f"{name} must be in [0, 1], got [{low:.3g}, {high:.3g}]: undo the normalisation, "
            "divide by 255 or clamp"
        )
