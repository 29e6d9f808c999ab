"""Laplace noise on the released features."""

import torch
from jaxtyping import Float
from torch import Tensor

from defenses.additive_noise import AdditiveNoise
from defenses.noise_laws import laplace_cell_surprise, laplace_like, laplace_surprise, median
from splitbench.release import Tensors


class LaplaceNoise(AdditiveNoise):
    """Adds Laplace noise whose strength is relative to the features.

    ``z = f + noise_std * rms(f) * n`` with n Laplace of variance 1 (scale ``1 / sqrt(2)``), drawn
    afresh for every message, in eval mode too: at equal `noise_std` it has the signal-to-noise
    ratio of Gaussian noise, with heavier tails.

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
        Empirical. Features are not clipped, hence have no bounded sensitivity: no epsilon holds,
        however large the noise.

    Known to fall to:
        A decoder trained on noisy releases; pooling k releases of one input, here by the median,
        whose variance tends to half of the mean's.

    Deviations from the paper:
        Noise relative to the features instead of absolute; the server, or both sides, may be
        fine-tuned; only the client's output is noised, not its input.

    References:
        He, Zhang, Lee. "Model inversion attacks against collaborative inference". ACSAC 2019.
        doi:10.1145/3359789.3359824
        Titcombe, Hall, Papadopoulos, Romanini. "Practical defences against model inversion
        attacks for split neural networks". 2021. arXiv:2104.05743

    Example:
        >>> round(LaplaceNoise(noise_std=0.5).snr_db, 2)
        6.02
    """

    def noise(self, like: Tensor, *, generator: torch.Generator) -> Tensor:
        """Laplace noise of variance 1."""
        return laplace_like(like, generator)

    def pool(self, observations: list[Tensors]) -> Tensors:
        """The median of the releases: the maximum likelihood estimate of the features.

        For an even number, the middle of the two middle values. The mean would serve the
        adversary worse; neither is sufficient.
        """
        return median(observations)

    def cell_surprise(
        self, low: Tensors, high: Tensors, features: Tensors
    ) -> Float[Tensor, " b"] | None:
        """Of Laplace noise around the features; None where the noise is off."""
        if self.noise_std == 0:
            return None
        return laplace_cell_surprise(low, high, features, self.stds(features))

    def information(self, features: Tensors) -> Tensors | None:
        """``1 / b^2 = 2 / std^2`` of each tensor; None where the noise is off."""
        return None if self.noise_std == 0 else tuple(2 * s**-2 for s in self.stds(features))

    def negative_log_likelihood(
        self, observed: Tensors, features: Tensors, *, observations: int = 1
    ) -> Float[Tensor, " b"] | None:
        """Exact ``-log p`` of the median of k releases given the features, up to a constant.

        For one release it is ``||z - f||_1 / b``. For more, the density of the sample median:
        exact for what `pool` keeps, while the k releases together would say a little more.
        Exact only for codecs that send the noisy values as they are. None where the noise is off.
        """
        if self.noise_std == 0:
            return None
        return laplace_surprise(observed, features, self.stds(features), observations)
