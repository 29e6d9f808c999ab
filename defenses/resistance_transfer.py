"""A client that learnt to resist decoders on some classes, handed on to the task of all."""

import copy
import math
from functools import partial

import torch

from defenses.adversarial_training import AdversarialTraining
from defenses.fine_tuning import fine_tune_server
from splitbench.data.images import LabeledImages
from splitbench.defense import OnStep, silent
from splitbench.guarantee import Guarantee
from splitbench.split import Split

SLOWER = 0.1  # step size of the last stage, as a share of that of the others


class ResistanceTransfer(AdversarialTraining):
    """Learns to resist decoders on a source task, and keeps the client for the whole task.

    In three stages, from the undefended model:

    1. the *expert*: both sides are trained as by `AdversarialTraining`, on the images of the
       source classes alone, and so are the decoders;
    2. the *transfer*: the expert's server is thrown away, and the undefended one learns to read
       the expert's client on all classes, by cross-entropy; the client stays as it is;
    3. the *tuning*, if asked for: both sides are trained once more as by `AdversarialTraining`, on
       all classes, with new decoders and a tenth of the step size.

    Without the third stage no decoder has ever seen an image of the other classes, nor has the
    client been trained on one for resistance: what it keeps back of them was learnt elsewhere.
    With all classes as the source it is adversarial training whose server learns twice.

    Args:
        weight: Of the explained share, in the first and third stage, >= 0; 0 is off.
        source: Share of the classes that are the source task, the first ones, in (0, 1]; rounded
            up, and two at least.
        decoders: Decoders trained side by side, >= 1.
        lives: Times that each decoder is started anew during a stage, >= 0.
        width: Channels of the decoders, >= 1.
        finetune_epochs: Epochs of the first stage over the source images, >= 0; 0 is off.
        transfer_epochs: Epochs of the second stage, >= 1.
        tuning_epochs: Epochs of the third stage, >= 0; 0 leaves the client as it was handed on.
        learning_rate: First step size of the first two stages (Adam, cosine decay), > 0.
        batch_size: Images per step, > 0.

    Threat model:
        Whoever reads the messages, the server included, with the weights of both trained sides,
        which of the classes were the source, and images of the others. Nothing is random and
        there is no key; all three stages of the training are trusted.

    Guarantee:
        Empirical: against these decoders, on the source.

    Known to fall to:
        A stronger decoder, trained after the client has stopped moving, and on all classes. In a
        `Chain` its stages are run in its turn: no neighbour's penalty is part of them.

    Deviations from the paper:
        The source is a part of the classes of the same data rather than another data set, so that
        a defense sees nothing but the train role; the expert starts from the undefended model,
        which has seen all classes, rather than from nothing. Decoders, loss and hinge are those
        of `AdversarialTraining` in both stages that have them, where the paper hinges structural
        similarity and tunes against a smaller decoder than the expert's. One client, no federation;
        no bottleneck of its own. Batch normalisation keeps the undefended model's statistics.

    References:
        Li, Rakin, Chen, He, Fan, Chakrabarti. "ResSFL: a resistance transfer framework for
        defending model inversion attack in split federated learning". CVPR 2022. arXiv:2205.04007

    Example:
        >>> ResistanceTransfer(weight=4.0).source
        0.5
    """

    def __init__(
        self,
        *,
        weight: float,
        source: float = 0.5,
        decoders: int = 3,
        lives: int = 2,
        width: int = 32,
        finetune_epochs: int = 8,
        transfer_epochs: int = 4,
        tuning_epochs: int = 0,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
    ) -> None:
        super().__init__(
            weight=weight,
            decoders=decoders,
            lives=lives,
            width=width,
            finetune_epochs=finetune_epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
        )
        if not 0 < source <= 1:
            raise ValueError(f"source={source}: must be in (0, 1]")
        for name, value, least in (
            ("transfer_epochs", transfer_epochs, 1),
            ("tuning_epochs", tuning_epochs, 0),
        ):
            if value < least:
                raise ValueError(f"{name}={value}: must be at least {least}")
        self.source = source
        self.transfer_epochs = transfer_epochs
        self.tuning_epochs = tuning_epochs

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Train the expert, hand its client on, and tune both sides; nothing at weight 0."""
        if not self.changes_client:
            return
        undefended = copy.deepcopy(split.server.state_dict())
        super().fit(split, self.source_of(train), generator=generator, on_step=on_step)
        split.server.load_state_dict(undefended)
        fine_tune_server(
            split,
            train,
            receive=partial(self.protect, generator=generator),
            epochs=self.transfer_epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            generator=generator,
            on_step=on_step,
        )
        self._tuning().fit(split, train, generator=generator, on_step=on_step)

    def source_of(self, train: LabeledImages) -> LabeledImages:
        """Images of the source classes."""
        count = max(2, math.ceil(self.source * len(train.classes)))
        return train.subset(train.labels < count)

    def guarantee(self) -> Guarantee:
        """Empirical."""
        return Guarantee(
            "empirical",
            f"trained against {self.decoders} decoders at weight {self.weight:g} on "
            f"{100 * self.source:.3g} % of the classes; no formal guarantee",
        )

    def _tuning(self) -> AdversarialTraining:
        return AdversarialTraining(
            weight=self.weight,
            decoders=self.decoders,
            lives=self.lives,
            width=self.width,
            finetune_epochs=self.tuning_epochs,
            learning_rate=SLOWER * self.learning_rate,
            batch_size=self.batch_size,
        )
