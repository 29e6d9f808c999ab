"""Channels removed from each release, chosen for its image by a network that plays against one."""

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from defenses.channel_pruner import ChannelPruner, hard_mask, masked, soft_mask
from defenses.decoders import Rivals
from defenses.fine_tuning import check_schedule, fine_tune, steps_of
from splitbench.codecs.channel_subset import ChannelSubset
from splitbench.data.images import LabeledImages
from splitbench.defense import Defense, OnStep, silent
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors
from splitbench.split import Split


class ChannelPruning(Defense):
    """Removes a share of the channels of each release, for each image others, known as DISCO.

    A pruner on the device scores the channels of an image's features; those of the lowest scores
    are set to zero and not sent. Three players are trained, from the undefended model: a decoder
    that rebuilds images from what is left, client and server for the task alone, and the pruner
    on::

        (1 - alpha) CE(labels) + alpha max(0, 1 - error of the decoder / variance)

    where the variance is that of the training images around their mean. In training a channel is
    multiplied by ``sigmoid((score - s) / temperature)``, with s between the scores of the last
    kept and the first removed channel; what is released is cut hard, in every mode.

    Which channels are sent tells of the image too. It is part of the message, one bit per channel,
    is counted, and is shown to attackers beside the tensors. Values are sent in full precision.

    Args:
        share: Share of the channels of each tensor to remove, in [0, 1), rounded down to whole
            channels; 0 turns the defense off. Elements of vectors are channels.
        alpha: Of what the pruner wants, the part that is privacy, in [0, 1).
        temperature: Width of the step between kept and removed in training, in units of the
            scores, > 0.
        width: Hidden units of the pruner, and channels of the decoder, >= 1.
        finetune_epochs: Epochs of training, >= 0; 0 leaves an untrained pruner.
        learning_rate: First step size of pruner, client and server (Adam, cosine decay), > 0.
        batch_size: Images per step, > 0.

    Threat model:
        Whoever reads the messages, the server included, with the weights of client, server and
        pruner, and with the list of the channels that were sent. Nothing is random and there is
        no key: secret are the values of the removed channels.

    Guarantee:
        Empirical. The kept channels are released in clear, and what is removed may be known from
        what is kept.

    Known to fall to:
        A decoder trained on the pruned releases, which is what the training plays against with
        a smaller one.

    Deviations from the paper:
        The pruner is a small network on the mean and the size of each channel, where the paper's
        is as large as the rest of the model and runs on the device all the same; what it gains
        from the decoder is hinged at the blind guess; the mask is hard at inference; the model is
        fine-tuned, and batch normalisation keeps the undefended model's statistics.

    References:
        Singh, Chopra, Garza, Zhang, Vepakomma, Sharma, Raskar. "DISCO: dynamic and invariant
        sensitive channel obfuscation for deep neural networks". CVPR 2021. arXiv:2012.11025

    Example:
        >>> ChannelPruning(share=0.7).codec.kept(10)
        3
    """

    stochastic: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    off: ClassVar[dict[str, object] | None] = {"share": 0.0}
    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = ("share", "up")
    pruner: ChannelPruner

    def __init__(
        self,
        *,
        share: float,
        alpha: float = 0.5,
        temperature: float = 0.03,
        width: int = 32,
        finetune_epochs: int = 8,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
    ) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ValueError(f"share={share}: must be in [0, 1); 0 is off")
        if not 0 <= alpha < 1:
            raise ValueError(f"alpha={alpha}: must be in [0, 1)")
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: must be positive")
        if width < 1:
            raise ValueError(f"width={width}: must be at least 1")
        check_schedule(
            finetune_epochs=finetune_epochs, learning_rate=learning_rate, batch_size=batch_size
        )
        self.share = share
        self.alpha = alpha
        self.temperature = temperature
        self.width = width
        self.finetune_epochs = finetune_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size

    @property
    def changes_client(self) -> bool:
        """Unless it is off or untrained."""
        return self.share > 0 and self.finetune_epochs > 0

    @property
    def codec(self) -> ChannelSubset | None:
        """What makes bytes of the kept channels and says which they are; None where it is off."""
        return ChannelSubset(dropped=self.share) if self.share > 0 else None

    def adapt(self, split: Split) -> Split:
        """Make a pruner for the cut; the split stays as it is."""
        if self.share > 0:
            self.pruner = ChannelPruner(split.cut.tensors, width=self.width)
        return split

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Train pruner, client and server against a decoder; nothing where it is off."""
        if not self.changes_client:
            return
        rival = Rivals(
            split.client,
            train,
            count=1,
            lives=0,
            width=self.width,
            steps=steps_of(train, epochs=self.finetune_epochs, batch_size=self.batch_size),
            generator=generator,
        )

        def loss(images: Tensor, labels: Tensor) -> Tensor:
            features = tuple(split.client(images))
            known = tuple(f.detach() for f in features)  # the pruner's wishes stop short of it
            masks = self._soft_masks(known)
            task = functional.cross_entropy(split.server(masked(features, masks)), labels)
            shown = masked(known, masks)
            # Only the pruner has a part in the second term. For it this is the objective above,
            # divided by 1 - alpha, which Adam does not feel; the others see the task as it is.
            return task + self.alpha / (1 - self.alpha) * rival.explained(shown, images)

        fine_tune(
            [split.client, split.server, self.pruner],
            loss,
            train,
            epochs=self.finetune_epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            generator=generator,
            on_step=on_step,
        )

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Set the channels of the lowest scores to zero.

        Raises:
            ValueError: The features have other channels than those at the cut.
        """
        del generator
        if self.share == 0:
            return features
        with torch.no_grad():
            scores = self.pruner(features)
        return masked(features, tuple(hard_mask(s, self._kept(s)) for s in scores))

    def guarantee(self) -> Guarantee:
        """Empirical."""
        kept = f"{100 * (1 - self.share):.3g} % of the channels"
        return Guarantee("empirical", f"{kept} are released as they are; no formal guarantee")

    def _soft_masks(self, features: Tensors) -> Tensors:
        scores = self.pruner(features)
        return tuple(soft_mask(s, self._kept(s), self.temperature) for s in scores)

    def _kept(self, scores: Tensor) -> int:
        return ChannelSubset(dropped=self.share).kept(scores.shape[1])
