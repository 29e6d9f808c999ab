"""What defenses have in common that leave the client alone: a piece, not a defense."""

from abc import ABC
from functools import partial

import torch

from defenses.fine_tuning import check_schedule, fine_tune_server
from splitbench.data.images import LabeledImages
from splitbench.defense import Defense, OnStep, silent
from splitbench.release import Tensors
from splitbench.split import Split


class FineTunedServer(Defense, ABC):
    """Protects the features of the client as it is; the server may be trained to bear it.

    As the client is frozen, the features of several cuts can still be shared.
    """

    def __init__(self, *, finetune_epochs: int, learning_rate: float, batch_size: int) -> None:
        super().__init__()
        check_schedule(
            finetune_epochs=finetune_epochs, learning_rate=learning_rate, batch_size=batch_size
        )
        self.finetune_epochs = finetune_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size

    def calibrate(self, split: Split, train: LabeledImages) -> None:
        """Measure on the train role what `protect` relies on; nothing by default."""
        del split, train

    def receive(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """What arrives at the server in training, drawn afresh; by default what `protect` sends."""
        return self.protect(features, generator=generator)

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Calibrate; train the server on what it receives, where `finetune_epochs` says so."""
        self.calibrate(split, train)
        fine_tune_server(
            split,
            train,
            receive=partial(self.receive, generator=generator),
            epochs=self.finetune_epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            generator=generator,
            on_step=on_step,
        )
