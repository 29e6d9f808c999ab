"""What Gaussian and Laplace noise have in common: a piece, not a defense."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from defenses.fine_tuned_server import FineTunedServer
from defenses.fine_tuning import fine_tune
from defenses.noise_scale import NoiseScale
from splitbench.data.images import LabeledImages
from splitbench.defense import OnStep, silent
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors
from splitbench.split import Split


class AdditiveNoise(FineTunedServer, ABC):
    """Adds independent noise, relative to the size of the features; fresh for every message.

    The scale is measured on the train role by `fit`, after training where the client is trained
    too: there the noise of each batch is relative to the features of that batch, so that nothing
    is won by making features larger. Subclasses give the distribution.
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
        trains: Literal["server", "both"] = "server",
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
        if trains not in ("server", "both"):
            raise ValueError(f"trains={trains!r}: choose 'server' or 'both'")
        self.noise_std = noise_std
        self.per = per
        self.trains = trains
        self.scale = NoiseScale(per=per)

    @abstractmethod
    def noise(self, like: Tensor, *, generator: torch.Generator) -> Tensor:
        """Independent noise of mean 0 and variance 1, shaped like a tensor."""

    @property
    def snr_db(self) -> float:
        """Power of the features over power of the noise, on the train role."""
        return math.inf if self.noise_std == 0 else -20 * math.log10(self.noise_std)

    @property
    def changes_client(self) -> bool:
        """Whether training reaches the client; never where the noise is off."""
        return self.trains == "both" and self.finetune_epochs > 0 and self.noise_std > 0

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Train one or both sides, by cross-entropy, under noise; measure the features."""
        if not self.changes_client:
            super().fit(split, train, generator=generator, on_step=on_step)
            return

        def loss(images: Tensor, labels: Tensor) -> Tensor:
            features = tuple(split.client(images))
            stds = tuple(self.noise_std * rms for rms in self.scale.of_batch(features))
            noisy = self._noisy(features, stds, generator)
            return functional.cross_entropy(split.server(noisy), labels)

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
        self.calibrate(split, train)

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
        return self._noisy(features, self.stds(features), generator)

    def stds(self, features: Tensors) -> Tensors:
        """Standard deviation of the noise on each tensor, shaped to multiply it."""
        return tuple(self.noise_std * rms for rms in self.scale(features))

    def signal_and_noise(self, features: Tensors) -> tuple[Tensors, Tensors] | None:
        """The features, and the variance of the noise on them; None where it is off."""
        if self.noise_std == 0:
            return None
        return features, tuple(std.square() for std in self.stds(features))

    def _noisy(self, features: Tensors, stds: Tensors, generator: torch.Generator) -> Tensors:
        pairs = zip(features, stds, strict=True)
        return tuple(f + std * self.noise(f, generator=generator) for f, std in pairs)

    def guarantee(self) -> Guarantee:
        """Empirical: features are not clipped, so no sensitivity and no privacy budget follows."""
        return Guarantee(
            "empirical",
            f"noise at {self.snr_db:.1f} dB SNR on unbounded features: not differentially private",
        )
