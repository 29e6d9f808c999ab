"""Training against decoders that try to rebuild the image meanwhile."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from defenses.decoders import Rivals
from defenses.fine_tuning import steps_of
from defenses.penalized_training import PenalizedTraining
from splitbench.data.images import LabeledImages
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors
from splitbench.split import Split


class AdversarialTraining(PenalizedTraining):
    """Trains both sides for the task and against decoders, which are trained against them.

    Client and server start from the undefended model. In every step the decoders learn from the
    release, while both sides descend on::

        CE(labels) + weight * max(0, 1 - least squared error of the decoders / variance)

    where the variance is that of the training images around their mean: the second term is the
    share of it that the best decoder explains, and nothing is gained by pushing a decoder below a
    blind guess. Decoders are started anew in turn, so that the client cannot come to rely on the
    weakness of one.

    Args:
        weight: Of the explained share, >= 0; 0 is off.
        decoders: Decoders trained side by side, >= 1.
        lives: Times that each decoder is started anew during the training, >= 0.
        width: Channels of the decoders, >= 1.
        finetune_epochs: Epochs of training, >= 0; 0 is off.
        learning_rate: First step size of both sides (Adam, cosine decay), > 0.
        batch_size: Images per step, > 0.

    Threat model:
        Whoever reads the messages, the server included, with the weights of both trained sides
        and decoders of their own. Nothing is random and there is no key: features are trained
        to resist, and whoever trains them is trusted.

    Guarantee:
        Empirical: against these decoders, at these steps.

    Known to fall to:
        A stronger decoder, or the same one trained for longer after the client has stopped
        moving; that is what every attack of the benchmark is.

    Deviations from the paper:
        The hinge is at the blind guess, for squared error, rather than at a similarity of 0.5;
        several decoders with restarts instead of one; decoders and model step together, as with
        a reversed gradient, rather than in turn; the model is fine-tuned; batch normalisation
        keeps the undefended model's statistics.

    References:
        Xiao, Tsai, Sohn, Chandraker, Yang. "Adversarial learning of privacy-preserving and
        task-oriented representations". AAAI 2020. arXiv:1911.10143
        Li, Rakin, Chen, He, Fan, Chakrabarti. "ResSFL: a resistance transfer framework for
        defending model inversion attack in split federated learning". CVPR 2022. arXiv:2205.04007

    Example:
        >>> AdversarialTraining(weight=0.0).changes_client
        False
    """

    def __init__(
        self,
        *,
        weight: float,
        decoders: int = 3,
        lives: int = 2,
        width: int = 32,
        finetune_epochs: int = 8,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
    ) -> None:
        super().__init__(
            weight=weight,
            finetune_epochs=finetune_epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
        )
        for name, value, least in (
            ("decoders", decoders, 1),
            ("lives", lives, 0),
            ("width", width, 1),
        ):
            if value < least:
                raise ValueError(f"{name}={value}: must be at least {least}")
        self.decoders = decoders
        self.lives = lives
        self.width = width

    def begin(self, split: Split, train: LabeledImages, *, generator: torch.Generator) -> None:
        """Make the decoders, for what this split releases."""
        if not self.changes_client:
            return
        self._rivals = Rivals(
            split.client,
            train,
            count=self.decoders,
            lives=self.lives,
            width=self.width,
            steps=steps_of(train, epochs=self.finetune_epochs, batch_size=self.batch_size),
            generator=generator,
        )

    def penalty(
        self, images: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"], released: Tensors
    ) -> Float[Tensor, ""]:
        """Share of the variance that the best decoder explains, and a step of all decoders."""
        del labels
        return self._rivals.explained(released, images)

    def end(self) -> None:
        """Forget the decoders."""
        if self.changes_client:
            del self._rivals

    def guarantee(self) -> Guarantee:
        """Empirical."""
        return Guarantee(
            "empirical",
            f"trained against {self.decoders} decoders at weight {self.weight:g}; "
            "no formal guarantee",
        )
