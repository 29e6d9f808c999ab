"""Features erased at random."""

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from defenses.fine_tuned_server import FineTunedServer
from defenses.noise_scale import NoiseScale
from splitbench.data.images import LabeledImages
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors, channel_axis
from splitbench.split import Split

# Survivors are sent as they are: their law has no density. The likelihood takes them for measured
# with this standard deviation, in units of the root mean square of the features.
TOLERANCE = 0.01


class Dropout(FineTunedServer):
    """Sets features to zero at random, with a new mask for every message, in eval mode too.

    What is erased arrives as zero, like the silent features of a ReLU. No mask is sent: a value
    that is not zero has survived for certain, and of a zero nobody can say.

    Args:
        rate: Probability of being erased, in [0, 1); 0 turns the defense off.
        per: Erase each ``element`` by itself or each ``channel`` as a whole (axis 1 of images,
            the last axis of tokens; the elements of vectors).
        rescale: Divide the survivors by ``1 - rate``, so that the mean of many releases is the
            features. The adversary, who knows the rate, does not mind.
        finetune_epochs: Epochs of fine-tuning the server under erasure; 0 is post-hoc.
        learning_rate: First step size of the fine-tuning (Adam, cosine decay), > 0.
        batch_size: Images per fine-tuning step, > 0.

    Threat model:
        Whoever reads the messages, the server included, with the weights and the rate. Secret
        is the mask of each message, as far as the zeros of the features hide it.

    Guarantee:
        Empirical. Each survivor is released in clear.

    Known to fall to:
        A decoder trained on erased releases; pooling k releases of one input, which leaves
        ``rate ** k`` of the features erased.

    Deviations from the paper:
        The server may be fine-tuned; erasure per channel is ours.

    References:
        He, Zhang, Lee. "Attacking and protecting data privacy in edge-cloud collaborative
        inference systems". IEEE Internet of Things Journal 8(12), 2021.
        doi:10.1109/JIOT.2020.3022358

    Example:
        >>> Dropout(rate=0.75).guarantee().statement
        '25 % of the features are released as they are; no formal guarantee'
    """

    stochastic: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    off: ClassVar[dict[str, object] | None] = {"rate": 0.0}
    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = ("rate", "up")
    nested: ClassVar[Literal["no", "all", "multiples"]] = "all"  # erase some of the survivors

    def __init__(
        self,
        *,
        rate: float,
        per: Literal["element", "channel"] = "element",
        rescale: bool = True,
        finetune_epochs: int = 0,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
    ) -> None:
        super().__init__(
            finetune_epochs=finetune_epochs, learning_rate=learning_rate, batch_size=batch_size
        )
        if not 0 <= rate < 1:
            raise ValueError(f"rate={rate}: must be in [0, 1); 0 is off")
        if per not in ("element", "channel"):
            raise ValueError(f"per={per!r}: choose 'element' or 'channel'")
        self.rate = rate
        self.per = per
        self.rescale = rescale
        self.scale = NoiseScale(per="tensor")

    @property
    def gain(self) -> float:
        """What survivors are multiplied by."""
        return 1 / (1 - self.rate) if self.rescale else 1.0

    def calibrate(self, split: Split, train: LabeledImages) -> None:
        """Measure the scale of the features."""
        self.scale.calibrate(split.client, train)

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Erase.

        Returns:
            Tensors of the same shapes.
        """
        if self.rate == 0:
            return features
        return tuple(
            torch.where(self._survives(f, generator), self.gain * f, 0.0) for f in features
        )

    def pool(self, observations: list[Tensors]) -> Tensors:
        """What survived in any of the releases.

        Copies of one value are equal unless a codec rounded them; then their mean is taken.
        """
        stacks = [torch.stack(parts) for parts in zip(*observations, strict=True)]
        return tuple(_union(stack) for stack in stacks)

    def negative_log_likelihood(
        self, observed: Tensors, features: Tensors, *, observations: int = 1
    ) -> Float[Tensor, " b"] | None:
        """``-log p`` of the pool of k releases given the features, up to a constant.

        With e the squared distance over ``2 std^2`` (std is `TOLERANCE` of the features' scale),
        a survivor costs e. What arrives as zero was erased k times, with probability
        ``rate ** k``, or is zero itself: ``-log(r^k + (1 - r^k) exp(-e))``, which no feature
        makes larger than ``-k log r``. Channels survive and fall as a whole, so that a zero
        beside a survivor is a feature that is zero.

        Exact as the tolerance goes to zero, for codecs that send the survivors as they are. None
        where the defense is off.
        """
        return self._surprise(observed, observed, features, observations)

    def cell_surprise(
        self, low: Tensors, high: Tensors, features: Tensors
    ) -> Float[Tensor, " b"] | None:
        """As the likelihood, with e of the distance to the cell; None where the defense is off.

        A cell has the mass ``r [0 in it] + (1 - r) [gain f in it]``.
        """
        return self._surprise(low, high, features, 1)

    def guarantee(self) -> Guarantee:
        """Empirical."""
        share = f"{100 * (1 - self.rate):.3g} % of the {self.per.replace('element', 'feature')}s"
        return Guarantee("empirical", f"{share} are released as they are; no formal guarantee")

    def _surprise(
        self, low: Tensors, high: Tensors, features: Tensors, k: int
    ) -> Float[Tensor, " b"] | None:
        """Of values that are known to lie between two ends, in the pool of k releases."""
        if self.rate == 0:
            return None
        log_erased = k * math.log(self.rate)
        log_seen = math.log1p(-math.exp(log_erased))
        total = torch.zeros(len(low[0]), device=low[0].device)
        for a, b, f, rms in zip(low, high, features, self.scale(features), strict=True):
            sent, std = self.gain * f, TOLERANCE * self.gain * rms
            off = torch.relu(a - sent) + torch.relu(sent - b)
            error = self._units((off / std).square() / 2).sum(2)
            silent = self._units((a <= 0) & (b >= 0)).all(2)
            zero = -torch.logaddexp(torch.full_like(error, log_erased), log_seen - error)
            total = total + torch.where(silent, zero, error).sum(1)
        return total

    def _survives(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """A mask that broadcasts with the values."""
        shape = list(values.shape)
        if self.per == "channel":
            axis = channel_axis(values)
            shape = [n if a in (0, axis) else 1 for a, n in enumerate(shape)]
        return (torch.rand(shape, generator=generator) >= self.rate).to(values.device)

    def _units(self, values: Tensor) -> Tensor:
        """Values that survive together along the last axis: ``(b, units, size)``."""
        if self.per == "element":
            return values.flatten(1)[:, :, None]
        first = values.movedim(channel_axis(values), 1)
        return first.reshape(*first.shape[:2], first[0, 0].numel())


def _union(stack: Tensor) -> Tensor:
    """Mean of the copies that are not zero; exactly their value where they are equal."""
    survived = stack != 0
    anchor = stack.gather(0, stack.abs().argmax(0, keepdim=True))
    surplus = torch.where(survived, stack - anchor, 0.0).sum(0)
    return anchor[0] + surplus / survived.sum(0).clamp(min=1)
