"""Local differential privacy by Gaussian noise."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from defenses.local_dp import LocalDp
from defenses.noise_laws import gaussian_cell_surprise, gaussian_surprise
from splitbench.gaussian_dp import classic_mu_of, mu_of
from splitbench.guarantee import Guarantee, local_privacy
from splitbench.release import Tensors
from splitbench.rng import normal_like


class LocalDpGaussian(LocalDp):
    """Clips the features to a Euclidean norm and adds as much white noise as (epsilon, delta) asks.

    ``z = f min(1, C / |f|) + sigma n`` with n standard normal, drawn afresh for every message, and
    sigma the least standard deviation for sensitivity ``2 C``: any two inputs, not only similar
    ones, cannot be told apart. The norm is that of all live tensors of an example together.

    An honest epsilon leaves little: at epsilon 8 and delta 1e-5, sigma is 1.2 C on *each* value. On
    4,096 of them the signal-to-noise ratio is at best -37.7 dB; on 32 it is -16.6 dB. Whoever wants
    to keep some accuracy sends few values (`channels`), which noise alone cannot replace. And the
    bound spares no one: of ten equally frequent classes nobody, the server included, then tells
    more than 52 % right.

    Args:
        epsilon: Of one message, finite, > 0.
        delta: Of one message, in (0, 1).
        calibration: ``analytic`` adds the least noise that keeps the promise; ``classic`` as much
            as the textbook formula wants, which is proven for epsilon up to 1 only and refused
            beyond.
        clip: C, > 0; None takes the median norm on the train role. It depends on no input that is
            sent, and on nothing but training images.
        channels: Released channels (image-like features) or values per token or vector, >= 1,
            after a linear bottleneck that is learnt under the noise, on both sides; None sends
            the features as they are.
        stride: Side of the patches that become one released position; needs `channels`.
        finetune_epochs: Epochs of fine-tuning the server (and the bottleneck) under clipping and
            noise; 0 is post-hoc.
        learning_rate: First step size of the fine-tuning (Adam, cosine decay), > 0.
        batch_size: Images per fine-tuning step, > 0.

    Threat model:
        Anybody who reads the messages, the server included, with any computing power and all
        but what is drawn for each message: the weights, epsilon, delta and C, even all images
        but for which one was sent. The device is trusted to clip and to draw.

    Guarantee:
        (epsilon, delta)-local differential privacy of any two inputs, per message, in exact
        arithmetic; k messages of one input compose to ``mu sqrt(k)`` of Gaussian differential
        privacy. It is about the values that are sent: not about when, whether or over which
        connection, and not about training images. Noise of floating-point numbers has gaps that
        an attack on the lowest bits could use; nothing here closes them.

    Known to fall to:
        Nothing beyond the bound; but the bound of an epsilon of 8 or more is wide, and repeated
        messages of one input widen it.

    Deviations from the paper:
        The mechanism is applied to features of one example, as in local privacy, not to a query
        on a data set. The server may be fine-tuned, and a bottleneck put before the noise.

    References:
        Balle, Wang. "Improving the Gaussian mechanism for differential privacy: analytical
        calibration and optimal denoising". ICML 2018. arXiv:1805.06530
        Mironov. "On significance of the least significant bits for differential privacy". CCS
        2012. doi:10.1145/2382196.2382264
        Dwork, Roth. "The algorithmic foundations of differential privacy". Foundations and Trends
        in Theoretical Computer Science 2014. doi:10.1561/0400000042

    Example:
        >>> defense = LocalDpGaussian(epsilon=8.0)
        >>> round(defense.snr_db(values=4096), 1)
        -37.7
        >>> defense.guarantee().over(messages=16).statement
        '(49.86, 1e-05)-local differential privacy of any two inputs, over 16 messages'
    """

    normal: ClassVar[bool] = True
    order: ClassVar[Literal[1, 2]] = 2

    def __init__(
        self,
        *,
        epsilon: float,
        delta: float = 1e-5,
        calibration: Literal["analytic", "classic"] = "analytic",
        clip: float | None = None,
        channels: int | None = None,
        stride: int = 1,
        finetune_epochs: int = 0,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
    ) -> None:
        super().__init__(
            epsilon=epsilon,
            clip=clip,
            channels=channels,
            stride=stride,
            finetune_epochs=finetune_epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
        )
        if not 0 < delta < 1:
            raise ValueError(f"delta={delta}: must lie between 0 and 1, both excluded")
        if calibration not in ("analytic", "classic"):
            raise ValueError(f"calibration={calibration!r}: choose 'analytic' or 'classic'")
        if calibration == "classic":
            classic_mu_of(epsilon=epsilon, delta=delta)
        self.delta = delta
        self.calibration = calibration

    @property
    def mu(self) -> float:
        """Sensitivity over standard deviation of the noise."""
        found = classic_mu_of if self.calibration == "classic" else mu_of
        return found(epsilon=self.epsilon, delta=self.delta)

    @property
    def relative_std(self) -> float:
        """Sigma over the bound: the sensitivity is twice the bound."""
        return 2 / self.mu

    def noise(self, like: Tensor, *, generator: torch.Generator) -> Tensor:
        """Standard normal noise."""
        return normal_like(like, generator)

    def negative_log_likelihood(
        self, observed: Tensors, features: Tensors, *, observations: int = 1
    ) -> Float[Tensor, " b"] | None:
        """Of the mean of k releases around the clipped features, up to a constant.

        The mean is sufficient, so nothing is lost by pooling. Exact for codecs that send the noisy
        values as they are.
        """
        centre = self.clipped(features)
        return gaussian_surprise(observed, centre, self.stds(features), observations)

    def cell_surprise(self, low: Tensors, high: Tensors, features: Tensors) -> Float[Tensor, " b"]:
        """Of normal noise around the clipped features."""
        return gaussian_cell_surprise(low, high, self.clipped(features), self.stds(features))

    def information(self, features: Tensors) -> Tensors:
        """``1 / sigma^2``."""
        return tuple(std**-2 for std in self.stds(features))

    def guarantee(self) -> Guarantee:
        """Local differential privacy of any two inputs, per message."""
        return local_privacy(epsilon=self.epsilon, delta=self.delta, mu=self.mu)
