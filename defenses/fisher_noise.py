"""Gaussian noise as strong as a wanted error of reconstruction, by Fisher information."""

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from defenses.gaussian_noise import GaussianNoise
from splitbench.data.images import LabeledImages
from splitbench.fisher import fisher_trace
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors
from splitbench.rng import stream
from splitbench.split import Split

BATCH = 128  # images whose information is measured at a time


class FisherNoise(GaussianNoise):
    """Adds white Gaussian noise at which unbiased estimates of the pixels have a wanted error.

    No unbiased estimate of an image from its release has a mean squared error below ``1 / dFIL``,
    where dFIL is the Fisher information per pixel (`splitbench.fisher`). That bound grows with the
    noise's variance, so one measurement at variance 1 says at which variance its mean over
    training images is `target_mse`. The trace is estimated with random signs; as the inverse of
    an estimate is too large on average, its standard error is used to correct that.

    The mean is what the literature reports. It is drawn up by the images that tell least: most
    images are below it. Images of which the features do not depend at all, dead to the last unit,
    need no noise and are left out.

    Args:
        target_mse: Mean of ``1 / dFIL`` over train images, in squared units of pixels in [0, 1],
            >= 0; 0 turns the defense off. A guess of the mean image errs by the variance of a
            pixel, some 0.05 to 0.1.
        per: Shape of the noise: as strong everywhere in a ``tensor``, or relative to the root mean
            square of each ``channel``.
        images: Train images that are measured, drawn at random; all where there are fewer. >= 1.
        probes: Random directions for each, >= 2.
        finetune_epochs: Epochs of fine-tuning the server under noise; 0 is post-hoc.
        learning_rate: First step size of the fine-tuning (Adam, cosine decay), > 0.
        batch_size: Images per fine-tuning step, > 0.

    Threat model:
        Whoever reads the messages, the server included, with the weights and the strength of
        the noise. Secret is what is drawn for each message. The wanted error is that of
        estimates without bias, of an adversary who makes no use of what images look like.

    Guarantee:
        Empirical. The bound holds for unbiased estimates; whoever has seen other images is biased
        towards them and errs less, as they should.

    Known to fall to:
        A decoder trained on noisy releases; averaging k releases of one input, which divides the
        bound by k.

    Deviations from the paper:
        One variance for the whole train role; no compression layer. Flat features come from
        `FisherRegularization`, before this in a `Chain`.

    References:
        Maeng, Guo, Kariyappa, Suh. "Bounding the invertibility of privacy-preserving instance
        encoding using Fisher information". NeurIPS 2023. arXiv:2305.04146

    Example:
        >>> FisherNoise(target_mse=0.1).guarantee().statement
        'unbiased estimates err by 0.1 on average, learnt ones by less: not differentially private'
    """

    off: ClassVar[dict[str, object] | None] = {"target_mse": 0.0}
    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = ("target_mse", "up")

    def __init__(
        self,
        *,
        target_mse: float,
        per: Literal["tensor", "channel"] = "tensor",
        images: int = 1000,
        probes: int = 16,
        finetune_epochs: int = 0,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
    ) -> None:
        if not 0 <= target_mse < math.inf:
            raise ValueError(f"target_mse={target_mse}: must be finite, not negative; 0 is off")
        super().__init__(
            noise_std=1.0 if target_mse > 0 else 0.0,  # in units that `fit` finds
            per=per,
            finetune_epochs=finetune_epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
        )
        if images < 1:
            raise ValueError(f"images={images}: must be at least 1")
        if probes < 2:
            raise ValueError(f"probes={probes}: want at least 2, for their spread is the error")
        self.target_mse = target_mse
        self.images = images
        self.probes = probes
        self.level: Tensor | None
        self.register_buffer("level", None)

    @property
    def snr_db(self) -> float:
        """Power of the features over power of the noise, on the train role; NaN before `fit`."""
        if self.noise_std == 0:
            return math.inf
        return math.nan if self.level is None else -20 * math.log10(float(self.level))

    def calibrate(self, split: Split, train: LabeledImages) -> None:
        """Measure the features and their information, and set the noise.

        Images and directions are the same whatever the seed of the fit: how strong the noise is
        depends on the client and the data alone.

        Raises:
            ValueError: No image changes the features.
        """
        super().calibrate(split, train)
        self.level = None
        if self.noise_std > 0:
            error = self._error_at_unit_noise(split, train, stream(0, "fisher noise"))
            self.level = (self.target_mse / error).sqrt().float()

    def stds(self, features: Tensors) -> Tensors:
        """Standard deviation of the noise on each tensor, shaped to multiply it."""
        relative = super().stds(features)
        return relative if self.level is None else tuple(s * self.level.to(s) for s in relative)

    def guarantee(self) -> Guarantee:
        """Empirical: a bound for unbiased estimates holds no attacker back."""
        return Guarantee(
            "empirical",
            f"unbiased estimates err by {self.target_mse:g} on average, learnt ones by less: "
            "not differentially private",
        )

    def _error_at_unit_noise(
        self, split: Split, train: LabeledImages, generator: torch.Generator
    ) -> Tensor:
        """Mean of ``1 / dFIL`` under noise as strong as the features."""
        device = next((p.device for p in split.client.parameters()), torch.device("cpu"))
        errors = []
        for index in torch.randperm(len(train), generator=generator)[: self.images].split(BATCH):
            shown = train.images(index).to(device)
            found = fisher_trace(split.client, self, shown, probes=self.probes, generator=generator)
            felt = found.trace > 0
            trace = found.trace[felt].double()
            # E[1 / estimate] is about (1 + (error / trace)^2) / trace.
            excess = 1 + (found.standard_error[felt] / trace).square()
            errors.append(found.pixels / (trace * excess))
        known = torch.cat(errors)
        if not len(known):
            raise ValueError(
                "no train image changes the features: their Fisher information is 0 and needs no "
                "noise; choose another cut"
            )
        return known.mean()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        if f"{prefix}level" in state_dict:
            self.level = torch.empty_like(state_dict[f"{prefix}level"])
        super()._load_from_state_dict(state_dict, prefix, *rest)
