"""Gaussian noise on the released features."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from defenses.additive_noise import AdditiveNoise
from defenses.noise_laws import gaussian_cell_surprise, gaussian_surprise
from splitbench.release import Tensors
from splitbench.rng import normal_like


class GaussianNoise(AdditiveNoise):
    """Adds white Gaussian noise whose strength is relative to the features.

    ``z = f + noise_std * rms(f) * n`` with n standard normal, drawn afresh for every message, in
    eval mode too. The signal-to-noise ratio is ``1 / noise_std ** 2`` at every cut, which makes
    one setting comparable across cuts and models.

    Args:
        noise_std: Standard deviation in units of the root mean square of the features, >= 0;
            0 turns the defense off.
        per: Measure the features for each ``tensor`` of the cut or for each ``channel``.
        finetune_epochs: Epochs of fine-tuning under noise; 0 is post-hoc.
        trains: What is fine-tuned: the ``server``, or ``both`` sides, where the client learns
            features that bear noise (and can no longer be shared between cuts).
        learning_rate: First step size of the fine-tuning (Adam, cosine decay), > 0.
        batch_size: Images per fine-tuning step, > 0.

    Threat model:
        Whoever reads the messages, the server included, with the weights and the noise's
        strength for each tensor or channel. Secret is what is drawn for each message, on the
        device.

    Guarantee:
        Empirical. Features are not clipped, hence have no bounded sensitivity: no
        (epsilon, delta) holds, however large the noise.

    Known to fall to:
        A decoder trained on noisy releases; averaging k releases of one input, which divides the
        variance by k.

    Deviations from the paper:
        Noise relative to the features instead of absolute; the server, or both sides, may be
        fine-tuned; only the client's output is noised, not its input.

    References:
        He, Zhang, Lee. "Model inversion attacks against collaborative inference". ACSAC 2019.
        doi:10.1145/3359789.3359824
        Titcombe, Hall, Papadopoulos, Romanini. "Practical defences against model inversion
        attacks for split neural networks". 2021. arXiv:2104.05743

    Example:
        >>> GaussianNoise(noise_std=0.5).guarantee().statement
        'noise at 6.0 dB SNR on unbounded features: not differentially private'
    """

    normal: ClassVar[bool] = True

    def noise(self, like: Tensor, *, generator: torch.Generator) -> Tensor:
        """Standard normal noise."""
        return normal_like(like, generator)

    def cell_surprise(
        self, low: Tensors, high: Tensors, features: Tensors
    ) -> Float[Tensor, " b"] | None:
        """Of normal noise around the features; None where the noise is off."""
        if self.noise_std == 0:
            return None
        return gaussian_cell_surprise(low, high, features, self.stds(features))

    def information(self, features: Tensors) -> Tensors | None:
        """``1 / std^2`` of each tensor; None where the noise is off."""
        return None if self.noise_std == 0 else tuple(s**-2 for s in self.stds(features))

    def negative_log_likelihood(
        self, observed: Tensors, features: Tensors, *, observations: int = 1
    ) -> Float[Tensor, " b"] | None:
        """``||z - f||^2 / (2 std^2 / k)`` per example, for the mean z of k releases.

        The mean is sufficient, so nothing is lost by pooling. Exact up to a constant for codecs
        that send the noisy values as they are. None where the noise is off.
        """
        if self.noise_std == 0:
            return None
        return gaussian_surprise(observed, features, self.stds(features), observations)
