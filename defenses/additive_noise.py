"""What Gaussian and Laplace noise have in common: a piece, not a defense."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor

from defenses.fine_tuned_server import FineTunedServer
from defenses.noise_scale import NoiseScale
from splitbench.data.images import LabeledImages
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors
from splitbench.split import Split


class AdditiveNoise(FineTunedServer, ABC):
    """Adds independent noise, relative to the size of the features; fresh for every message.

    The scale is measured on the train role by `fit`. Subclasses give the distribution.
    """

    stochastic: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    off: ClassVar[dict[str, object] | None] = {"noise_std": 0.0}
    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = ("noise_std", "up")
    nested: ClassVar[Literal["no", "all", "multiples"]] = "all"

    def __init__(
        self,
        *,
        noise_std: float,
        per: Literal["tensor", "channel"] = "tensor",
        finetune_epochs: int = 0,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
    ) -> None:
        super().__init__(
            finetune_epochs=finetune_epochs, learning_rate=learning_rate, batch_size=batch_size
        )
        if not (noise_std >= 0 and math.isfinite(noise_std)):
            raise ValueError(f"noise_std={noise_std}: must be finite and not negative; 0 is off")
        if per not in ("tensor", "channel"):
            raise ValueError(f"per={per!r}: choose 'tensor' or 'channel'")
        self.noise_std = noise_std
        self.per = per
        self.scale = NoiseScale(per=per)

    @abstractmethod
    def noise(self, like: Tensor, *, generator: torch.Generator) -> Tensor:
        """Independent noise of mean 0 and variance 1, shaped like a tensor."""

    @property
    def snr_db(self) -> float:
        """Power of the features over power of the noise, on the train role."""
        return math.inf if self.noise_std == 0 else -20 * math.log10(self.noise_std)

    def calibrate(self, split: Split, train: LabeledImages) -> None:
        """Measure the scale of the features."""
        self.scale.calibrate(split.client, train)

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Add noise.

        Returns:
            Tensors of the same shapes.

        Raises:
            RuntimeError: `fit` was not called and no fitted state was loaded.
        """
        if self.noise_std == 0:
            return features
        stds = self.stds(features)
        return tuple(
            f + std * self.noise(f, generator=generator)
            for f, std in zip(features, stds, strict=True)
        )

    def stds(self, features: Tensors) -> Tensors:
        """Standard deviation of the noise on each tensor, shaped to multiply it."""
        return tuple(self.noise_std * rms for rms in self.scale(features))

    def guarantee(self) -> Guarantee:
        """Empirical: features are not clipped, so no sensitivity and no privacy budget follows."""
        return Guarantee(
            "empirical",
            f"noise at {self.snr_db:.1f} dB SNR on unbounded features: not differentially private",
        )
