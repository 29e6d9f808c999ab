"""Training for a high entropy of the image given its noisy release."""

import math
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from defenses.class_mixture import ClassMixture, fit_mixture
from defenses.gaussian_noise import GaussianNoise
from defenses.penalized_training import PenalizedTraining
from splitbench.data.images import LabeledImages
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors
from splitbench.split import Split

MOST = 2000  # train images that the mixtures are estimated on, drawn anew for every epoch


class ConditionalEntropy(PenalizedTraining):
    """Gaussian noise on features that are trained to vary little around a few centres per class.

    What a noisy release tells of its image is its entropy less the noise's. The entropy is bounded
    from above by that of a mixture of normal laws with diagonal covariances, some for each class,
    and both sides are trained, from the undefended model and under the noise, on::

        CE(labels) + weight * sum over k of w_k mean of max(0, log(1 + v_k / noise) - log threshold)

    with w_k the share of the batch in component k, v_k the mean squares of its features around the
    component's centre, ``noise`` the variance of the noise, and the mean over features. Every
    epoch the centres are found anew by k-means on the train role, class by class, and the noise is
    set anew relative to the features. The penalty is relative to their size in the batch, so that
    neither smaller nor larger features lower it.

    Args:
        weight: Of the penalty, >= 0. At 0 nothing is trained, and what is left is the noise.
        noise_std: Standard deviation of the noise in units of the root mean square of the
            features, >= 0; positive unless ``weight`` is 0. It is drawn afresh for every message,
            at inference as in training: there is no protection without it.
        components: Centres per class, >= 1; fewer where a class has fewer images.
        threshold: A feature's variance need not fall below ``threshold - 1`` times the noise's,
            >= 1.
        finetune_epochs: Epochs of training, >= 0; 0 leaves the noise alone.
        learning_rate: First step size (Adam, cosine decay), > 0.
        batch_size: Images per step, > 0.

    Threat model:
        Whoever reads the messages, the server included, with the weights of the trained client
        and the strength of the noise. Secret is what is drawn for each message; the training is
        trusted.

    Guarantee:
        Empirical. The paper bounds the mean squared error of any attacker from below by the
        entropy of the image given the release, ``exp(2 h(x | z) / d) / (2 pi e)``. That needs the
        entropy h(x) of the images, which nobody knows and which is minus infinity for pictures
        with discrete values or on a surface of fewer dimensions; the bound is then 0. It also
        needs an entropy of the release that holds beyond the training images, where a mixture
        fitted to them is only an estimate. What remains is a training signal.

    Known to fall to:
        A decoder trained on the noisy release, as far as the noise leaves it; averaging k releases
        of one input, which divides the variance by k.

    Deviations from the paper:
        Noise and variances are relative to the features, where the paper's are absolute and a
        bounded activation keeps them in range; the model is fine-tuned, without a bottleneck or
        adversarial training of its own. As the paper's plug-in, it is a member of a `Chain`: its
        penalty is added to those of its neighbours and trained together with them, as in the
        paper; after a bottleneck, which has been trained before, it goes on training that.
        Centres are found on up to 2,000 train images; batch normalisation keeps the undefended
        model's statistics.

    References:
        Xia, Yu, Zhang, Mu, Su, Zhang, Xu. "Theoretical insights in model inversion robustness and
        conditional entropy maximization for collaborative inference systems". CVPR 2025.
        arXiv:2503.00383

    Example:
        >>> ConditionalEntropy(weight=1.0, noise_std=0.5).stochastic
        True
    """

    stochastic: ClassVar[bool] = True
    normal: ClassVar[bool] = True
    off: ClassVar[dict[str, object] | None] = {"weight": 0.0, "noise_std": 0.0}

    def __init__(
        self,
        *,
        weight: float,
        noise_std: float = 0.5,
        components: int = 3,
        threshold: float = 1.0,
        finetune_epochs: int = 5,
        learning_rate: float = 1e-3,
        batch_size: int = 128,
    ) -> None:
        super().__init__(
            weight=weight,
            finetune_epochs=finetune_epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
        )
        if weight > 0 and noise_std == 0:
            raise ValueError("noise_std=0: without noise the release has no entropy to speak of")
        if components < 1:
            raise ValueError(f"components={components}: must be at least 1")
        if not 1 <= threshold < math.inf:
            raise ValueError(f"threshold={threshold}: must be finite, at least 1")
        self.noise = GaussianNoise(noise_std=noise_std)
        self.noise_std = noise_std
        self.components = components
        self.threshold = threshold

    def begin(self, split: Split, train: LabeledImages, *, generator: torch.Generator) -> None:
        """Set the noise, and find the first centres."""
        self._features = partial(split.client)
        self.renew(split, train, generator=generator)

    def penalty(
        self, images: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"], released: Tensors
    ) -> Float[Tensor, ""]:
        """Entropy of the noisy release beyond the noise's own, by the mixture."""
        del released  # the noise's part is known better than a draw of it tells
        return self._mixture.scatter(
            tuple(self._features(images)), labels, noise_std=self.noise_std, least=self.threshold
        )

    def renew(self, split: Split, train: LabeledImages, *, generator: torch.Generator) -> None:
        """Set the noise for the features as they are now, and find their centres."""
        self.noise.calibrate(split, train)
        if self.changes_client:
            self._mixture = self._estimate(split.client, train, generator)

    def end(self) -> None:
        """Forget the client, and the centres."""
        del self._features
        if self.changes_client:
            del self._mixture

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Add noise."""
        return self.noise.protect(features, generator=generator)

    def cell_surprise(
        self, low: Tensors, high: Tensors, features: Tensors
    ) -> Float[Tensor, " b"] | None:
        """Of the noise; None where it is off."""
        return self.noise.cell_surprise(low, high, features)

    def information(self, features: Tensors) -> Tensors | None:
        """Of the noise; None where it is off."""
        return self.noise.information(features)

    def signal_and_noise(self, features: Tensors) -> tuple[Tensors, Tensors] | None:
        """Of the noise; None where it is off."""
        return self.noise.signal_and_noise(features)

    def negative_log_likelihood(
        self, observed: Tensors, features: Tensors, *, observations: int = 1
    ) -> Float[Tensor, " b"] | None:
        """Of the noise around the features, exactly; None where it is off."""
        return self.noise.negative_log_likelihood(observed, features, observations=observations)

    def guarantee(self) -> Guarantee:
        """Empirical."""
        return Guarantee(
            "empirical",
            f"noise at {self.noise.snr_db:.1f} dB SNR on features trained for it at weight "
            f"{self.weight:g}: not differentially private",
        )

    def _estimate(
        self, client: nn.Module, train: LabeledImages, generator: torch.Generator
    ) -> ClassMixture:
        chosen = torch.randperm(len(train), generator=generator)[:MOST]
        return fit_mixture(
            client, train.subset(chosen), components=self.components, generator=generator
        )
