"""What defenses have in common that train both sides against a penalty: a piece, not a defense."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from defenses.fine_tuning import check_schedule, fine_tune
from splitbench.data.images import LabeledImages
from splitbench.defense import Defense, OnStep, silent
from splitbench.release import Tensors
from splitbench.split import Split


class PenalizedTraining(Defense, ABC):
    """Trains client and server on ``CE(labels) + weight * penalty(images, release)``.

    Both start from the undefended model. What is released is the retrained client's output.
    """

    stochastic: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    off: ClassVar[dict[str, object] | None] = {"weight": 0.0}
    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = ("weight", "up")

    def __init__(
        self, *, weight: float, finetune_epochs: int, learning_rate: float, batch_size: int
    ) -> None:
        super().__init__()
        if not 0 <= weight < float("inf"):
            raise ValueError(f"weight={weight}: must be finite and not negative; 0 is off")
        check_schedule(
            finetune_epochs=finetune_epochs, learning_rate=learning_rate, batch_size=batch_size
        )
        self.weight = weight
        self.finetune_epochs = finetune_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size

    @property
    def changes_client(self) -> bool:
        """Unless it is off."""
        return self.weight > 0 and self.finetune_epochs > 0

    @abstractmethod
    def penalty(
        self, images: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"], released: Tensors
    ) -> Float[Tensor, ""]:
        """How much the release tells, differentiable in what is released."""

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Train both sides; nothing at weight 0."""
        if not self.changes_client:
            return

        def loss(images: Tensor, labels: Tensor) -> Tensor:
            features = tuple(split.client(images))
            released = self.protect(features, generator=generator)
            task = functional.cross_entropy(split.server(self.restore(released)), labels)
            return task + self.weight * self.penalty(images, labels, released)

        fine_tune(
            [split.client, split.server],
            loss,
            train,
            epochs=self.finetune_epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            generator=generator,
            on_step=on_step,
        )

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Return the features: it is the client that was trained."""
        del generator
        return features
