"""One bit per released value."""

from typing import Literal

import torch
from torch import Tensor, nn

from defenses.learnt_buffers import LearntBuffers
from defenses.straight_through import StraightThrough
from splitbench.codecs.sign import Sign
from splitbench.data.images import LabeledImages
from splitbench.guarantee import Guarantee
from splitbench.release import channel_axis
from splitbench.split import Split


class Binarization(StraightThrough):
    """Releases on which side of its mean each value lies, as one bit.

    The server reads ``mean +- scale``. The means are those of the train role, known to both sides;
    the scale is the mean distance from them. Rounding is left to the codec that this defense
    brings, so that the adversary is told which half of the line each value lies in.

    It is no setting of `Quantization`, whose one bit has the smallest and the largest value of the
    message for levels and halfway between them for a threshold: features that are mostly small,
    as behind a ReLU, then nearly all get the same bit. With ``per="tensor"`` and a fixed scale
    the two agree if `Quantization` is given ``clip=(mean - 2 scale, mean + 2 scale)``.

    Args:
        per: One mean and scale for each ``tensor`` of the cut or for each ``channel``.
        scale: That of the ``message``, which is then sent along as four bytes each, or ``fixed``,
            that of the train role: nothing but the bits is sent.
        finetune_epochs: Epochs of training by straight-through gradients; 0 is post-hoc.
        trains: What it trains: the ``server``, or ``both`` sides, where the client learns
            features that bear it (and can no longer be shared between cuts).
        learning_rate: First step size of the training (Adam, cosine decay), > 0.
        batch_size: Images per training step, > 0.

    Threat model:
        Whoever reads the messages, the server included, with the weights, the means and the
        scale. There is no randomness and no key: secret is how far each value lies from its
        mean.

    Guarantee:
        Empirical. n values tell n bits at most, which is more than an image needs unless the cut
        is narrow. Of a normal feature a bit leaves 36 % of the variance to whoever sees nothing
        else; but features come in many, and what one bit hides its neighbours tell.

    Known to fall to:
        A decoder trained on bits; repeating a message changes nothing.

    Deviations from the paper:
        Only the released features are binarised: no weights, no other activations. They are
        centred by constants where the paper normalises by batch, and scaled for each tensor or
        channel where it has a scale for each position. Gradients pass everywhere, not only where
        the magnitude is below 1. There is no setting at which it is off, so ``off`` is None, and
        no strength.

    References:
        Rastegari, Ordonez, Redmon, Farhadi. "XNOR-Net: ImageNet classification using binary
        convolutional neural networks". ECCV 2016. arXiv:1603.05279
        Courbariaux, Hubara, Soudry, El-Yaniv, Bengio. "Binarized neural networks: training deep
        neural networks with weights and activations constrained to +1 or -1". 2016.
        arXiv:1602.02830

    Example:
        >>> Binarization(scale="fixed", finetune_epochs=2, trains="both").changes_client
        True
    """

    def __init__(
        self,
        *,
        per: Literal["tensor", "channel"] = "channel",
        scale: Literal["message", "fixed"] = "fixed",
        finetune_epochs: int = 0,
        trains: Literal["server", "both"] = "server",
        learning_rate: float = 1e-3,
        batch_size: int = 64,
    ) -> None:
        super().__init__(
            finetune_epochs=finetune_epochs,
            trains=trains,
            learning_rate=learning_rate,
            batch_size=batch_size,
        )
        self._codec = Sign(per=per, scale=scale)  # refuses what it cannot do
        self.per = per
        self.scale = scale
        self.middle = Middle(per=per)

    @property
    def codec(self) -> Sign:
        """What takes the signs, around the means that were measured, and packs them."""
        return self._codec.fitted(self.middle.constants())

    def calibrate(self, split: Split, train: LabeledImages) -> None:
        """Measure mean and mean distance from it."""
        self.middle.calibrate(split.client, train)

    def guarantee(self) -> Guarantee:
        """Empirical."""
        return Guarantee("empirical", "1 bit per value; no formal guarantee")


class Middle(LearntBuffers):
    """Mean of the features over the train role, and their mean distance from it.

    Args:
        per: One of each for each ``tensor`` or for each ``channel``.
    """

    def __init__(self, *, per: Literal["tensor", "channel"]) -> None:
        super().__init__()
        self.per = per

    def calibrate(self, client: nn.Module, train: LabeledImages, *, batch_size: int = 256) -> None:
        """Measure, in two passes."""
        self._buffers.clear()
        device = next((p.device for p in client.parameters()), torch.device("cpu"))

        @torch.no_grad()
        def mean(centres: list[Tensor]) -> list[Tensor]:
            total: list[Tensor] = []
            for index in torch.arange(len(train)).split(batch_size):
                features = tuple(client(train.images(index).to(device)))
                rows = [self._rows(f).double() for f in features]
                if centres:
                    rows = [(r - c[:, None]).abs() for r, c in zip(rows, centres, strict=True)]
                parts = [r.mean(1) * len(index) / len(train) for r in rows]
                total = [a + b for a, b in zip(total, parts, strict=True)] if total else parts
            return total

        centres = [centre.float() for centre in mean([])]
        for i, pair in enumerate(zip(centres, mean(centres), strict=True)):
            self.register_buffer(f"centre_{i}", pair[0])
            self.register_buffer(f"scale_{i}", pair[1].float())

    def constants(self) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
        """Means and scales of each tensor, as `Sign` takes them; none before fitting."""
        state = self.state_dict()
        return [
            (tuple(state[f"centre_{i}"].tolist()), tuple(state[f"scale_{i}"].tolist()))
            for i in range(len(state) // 2)
        ]

    def _rows(self, values: Tensor) -> Tensor:
        """Values that share a mean along the last axis."""
        if self.per == "tensor":
            return values.reshape(1, -1)
        first = values.movedim(channel_axis(values), 0)
        return first.reshape(len(first), -1)
