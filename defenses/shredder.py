"""Noise whose law was learnt: as much of it as the task bears."""

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from defenses.fine_tuned_server import FineTunedServer
from defenses.fine_tuning import check_schedule, fine_tune
from defenses.laplace_law import LaplaceLaw
from defenses.noise_laws import laplace_cell_surprise, laplace_like, laplace_surprise, median
from defenses.noise_scale import NoiseScale
from splitbench.data.images import LabeledImages
from splitbench.defense import OnStep, silent
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors
from splitbench.split import Split


class Shredder(FineTunedServer):
    """Adds Laplace noise with a location and a scale of its own for every element, both learnt.

    Several noise tensors, drawn from a Laplace law, are trained in front of the frozen model on::

        CE(labels) - reward * log(power of the noise)

    so that each is as large as the task bears. A Laplace law is fitted to what they became, element
    by element (median, mean distance to it), and every message draws afresh from it. The tensors
    see the same batches, each image under one of them.

    Args:
        noise_std: Standard deviation of the noise that training starts from, in units of the root
            mean square of the features, >= 0; 0 turns the defense off. What is learnt, and the
            step size, are in units of it.
        reward: Of the logarithm of the power, in nats of cross-entropy, >= 0; 0 trains the noise
            for the task alone.
        rewards: What counts as power: the mean square of each tensor (``power``), which a common
            offset can serve that everybody knows, or its variance over the tensors (``spread``),
            which is what is left when the location is known.
        tensors: How many are trained, >= 2.
        noise_epochs: Epochs of training the noise, >= 0; 0 fits the law to the first draws.
        noise_learning_rate: First step size of it (Adam, cosine decay), > 0.
        finetune_epochs: Epochs of fine-tuning the server afterwards, under noise of the learnt
            law; 0 leaves it frozen.
        learning_rate: First step size of the fine-tuning (Adam, cosine decay), > 0.
        batch_size: Images per step of both, > 0.

    Threat model:
        Whoever reads the messages, the server included, with the weights and the learnt law:
        the location and scale of every element. Secret is what is drawn from it for each
        message.

    Guarantee:
        Empirical. Features are not clipped, hence have no bounded sensitivity.

    Known to fall to:
        Who knows the law, as everybody does here: the location is subtracted and protects
        nothing, elements that must stay quiet are released nearly in clear, and a decoder trained
        on noisy releases does the rest. Averaging releases of one input.

    Deviations from the paper:
        The reward is of the logarithm of the power, not of the sum of absolute values, so that
        it neither vanishes nor runs away as the noise grows, and means the same at every cut. The
        law is fitted element by element over the tensors, not to the values of one of them with
        their order kept: no message repeats a tensor. A scale is at least a hundredth of the mean
        one. The reward of the spread, and the fine-tuned server, are ours.

    References:
        Mireshghallah, Taram, Ramrakhyani, Jalali, Tullsen, Esmaeilzadeh. "Shredder: learning noise
        distributions to protect inference privacy". ASPLOS 2020. arXiv:1905.11814

    Example:
        >>> Shredder(noise_std=1.0).guarantee().statement
        'Laplace noise of a learnt law on unbounded features: not differentially private'
    """

    stochastic: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    off: ClassVar[dict[str, object] | None] = {"noise_std": 0.0}
    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = ("noise_std", "up")

    def __init__(
        self,
        *,
        noise_std: float,
        reward: float = 0.1,
        rewards: Literal["power", "spread"] = "power",
        tensors: int = 10,
        noise_epochs: int = 5,
        noise_learning_rate: float = 0.02,
        finetune_epochs: int = 0,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
    ) -> None:
        super().__init__(
            finetune_epochs=finetune_epochs, learning_rate=learning_rate, batch_size=batch_size
        )
        check_schedule(
            finetune_epochs=noise_epochs, learning_rate=noise_learning_rate, batch_size=batch_size
        )
        for name, value in (("noise_std", noise_std), ("reward", reward)):
            if not (value >= 0 and math.isfinite(value)):
                raise ValueError(f"{name}={value}: must be finite and not negative")
        if rewards not in ("power", "spread"):
            raise ValueError(f"rewards={rewards!r}: choose 'power' or 'spread'")
        if tensors < 2:
            raise ValueError(f"tensors={tensors}: a law is fitted to at least 2")
        self.noise_std = noise_std
        self.reward = reward
        self.rewards = rewards
        self.tensors = tensors
        self.noise_epochs = noise_epochs
        self.noise_learning_rate = noise_learning_rate
        self.scale = NoiseScale(per="tensor")
        self.law = LaplaceLaw()

    @property
    def snr_db(self) -> float:
        """Power of the features over the noise's variance, by the mean over all elements.

        The location is no noise to who knows it, and is not counted.

        Raises:
            RuntimeError: `fit` was not called and no fitted state was loaded.
        """
        if self.noise_std == 0:
            return math.inf
        pairs = zip(self.law.stds, self.scale(self.law.stds), strict=True)
        noise = torch.cat([(std / rms).square().flatten() for std, rms in pairs])
        return -10 * math.log10(float(noise.double().mean()))

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Measure the features, train the noise, fit its law; then the server, where asked."""
        if self.noise_std > 0:
            self.scale.calibrate(split.client, train)
            self.law.fit(self._trained(split, train, generator, on_step))
        super().fit(split, train, generator=generator, on_step=on_step)

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Add a fresh draw from the law of every element.

        Raises:
            RuntimeError: `fit` was not called and no fitted state was loaded.
        """
        if self.noise_std == 0:
            return features
        pairs = zip(self.place(features), self.law.stds, strict=True)
        return tuple(at + std * laplace_like(at, generator) for at, std in pairs)

    def pool(self, observations: list[Tensors]) -> Tensors:
        """The median of the releases: the maximum likelihood estimate, location included."""
        return observations[0] if self.noise_std == 0 else median(observations)

    def cell_surprise(
        self, low: Tensors, high: Tensors, features: Tensors
    ) -> Float[Tensor, " b"] | None:
        """Of the learnt law around the features; None where the noise is off."""
        if self.noise_std == 0:
            return None
        return laplace_cell_surprise(low, high, self.place(features), self.law.stds)

    def place(self, features: Tensors) -> Tensors:
        """The features moved by the location; as they are where the noise is off."""
        if self.noise_std == 0:
            return features
        return tuple(f + at for f, at in zip(features, self.law.locations, strict=True))

    def information(self, features: Tensors) -> Tensors | None:
        """``1 / b^2 = 2 / std^2`` of each element; None where the noise is off."""
        del features
        return None if self.noise_std == 0 else tuple(2 * std**-2 for std in self.law.stds)

    def signal_and_noise(self, features: Tensors) -> tuple[Tensors, Tensors] | None:
        """The features, and the variance of the learnt law; its location is known to everybody."""
        if self.noise_std == 0:
            return None
        return features, tuple(std.square() for std in self.law.stds)

    def negative_log_likelihood(
        self, observed: Tensors, features: Tensors, *, observations: int = 1
    ) -> Float[Tensor, " b"] | None:
        """Exact ``-log p`` of the median of k releases, as `LaplaceNoise` has it.

        Around the features moved by the location, with the scale of each element. None where the
        noise is off.
        """
        if self.noise_std == 0:
            return None
        return laplace_surprise(observed, self.place(features), self.law.stds, observations)

    def guarantee(self) -> Guarantee:
        """Empirical."""
        return Guarantee(
            "empirical",
            "Laplace noise of a learnt law on unbounded features: not differentially private",
        )

    def _trained(
        self, split: Split, train: LabeledImages, generator: torch.Generator, on_step: OnStep
    ) -> Tensors:
        """The noise tensors, each ``(tensors, *shape)``, in the units of the features."""
        features = self._features(split, train.images(slice(1)))
        units = tuple(self.noise_std * rms for rms in self.scale(features))
        like = tuple(torch.zeros(self.tensors, *f.shape[1:], device=f.device) for f in features)
        noise = nn.ParameterList([laplace_like(zeros, generator) for zeros in like])

        def loss(images: Tensor, labels: Tensor) -> Tensor:
            chosen = torch.randint(self.tensors, (len(images),), generator=generator)
            parts = zip(self._features(split, images), noise, units, strict=True)
            noisy = tuple(f + unit * n[chosen.to(f.device)] for f, n, unit in parts)
            task = functional.cross_entropy(split.server(noisy), labels)
            return task - self.reward * self._log_power(tuple(noise))

        fine_tune(
            [noise],
            loss,
            train,
            epochs=self.noise_epochs,
            learning_rate=self.noise_learning_rate,
            batch_size=self.batch_size,
            generator=generator,
            on_step=on_step,
        )
        return tuple(unit * n.detach() for n, unit in zip(noise, units, strict=True))

    def _log_power(self, noise: Tensors) -> Float[Tensor, ""]:
        """Logarithm of the mean square, or of the variance over the tensors, all elements alike."""
        rows = torch.cat([values.flatten(1) for values in noise], dim=1)
        if self.rewards == "spread":
            return rows.var(0).mean().log()
        return rows.square().mean(1).log().mean()

    @staticmethod
    def _features(split: Split, images: Tensor) -> Tensors:
        with torch.no_grad():
            return tuple(split.client(images))
