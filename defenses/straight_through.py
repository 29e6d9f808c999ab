"""What defenses have in common whose codec rounds and that train through it: a piece."""

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from defenses.fine_tuning import check_schedule, fine_tune
from splitbench.codec import Codec
from splitbench.data.images import LabeledImages
from splitbench.defense import Defense, OnStep, silent
from splitbench.release import Tensors
from splitbench.split import Split


class StraightThrough(Defense):
    """Leaves the features alone; the codec rounds them, and training sends gradients past that."""

    stochastic: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        finetune_epochs: int,
        trains: Literal["server", "both"],
        learning_rate: float,
        batch_size: int,
    ) -> None:
        super().__init__()
        if trains not in ("server", "both"):
            raise ValueError(f"trains={trains!r}: choose 'server' or 'both'")
        check_schedule(
            finetune_epochs=finetune_epochs, learning_rate=learning_rate, batch_size=batch_size
        )
        self.finetune_epochs = finetune_epochs
        self.trains = trains
        self.learning_rate = learning_rate
        self.batch_size = batch_size

    @property
    @abstractmethod
    def codec(self) -> Codec:
        """What rounds."""

    @property
    def changes_client(self) -> bool:
        """Whether training reaches the client."""
        return self.trains == "both" and self.finetune_epochs > 0

    def calibrate(self, split: Split, train: LabeledImages) -> None:
        """Measure on the train role what the codec relies on; nothing by default."""
        del split, train

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Calibrate; train one or both sides, by cross-entropy, through the codec."""
        self.calibrate(split, train)

        def loss(images: Tensor, labels: Tensor) -> Tensor:
            with torch.set_grad_enabled(self.changes_client):
                features = tuple(split.client(images))
            return functional.cross_entropy(split.server(self.straight_through(features)), labels)

        fine_tune(
            [split.client, split.server] if self.changes_client else [split.server],
            loss,
            train,
            epochs=self.finetune_epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            generator=generator,
            on_step=on_step,
        )

    def straight_through(self, features: Tensors) -> Tensors:
        """The rounded features, with the gradient of the features themselves."""
        return straight_through(features, self.codec)

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Return the features: it is the codec that rounds them."""
        del generator
        return features


def straight_through(features: Tensors, codec: Codec) -> Tensors:
    """What a codec makes of the features, with the gradient of the features themselves."""
    with torch.no_grad():
        rounded = codec.transform(features)
    return tuple(f + (r - f).detach() for f, r in zip(features, rounded, strict=True))
