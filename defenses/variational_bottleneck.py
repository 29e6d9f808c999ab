"""A noisy bottleneck that is paid by the nat: the variational information bottleneck."""

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from defenses.bottleneck import NarrowingClient
from defenses.bottlenecked import Bottlenecked
from defenses.fine_tuning import check_schedule, fine_tune
from defenses.gaussian_draw import (
    GaussianClient,
    draw_cell_surprise,
    draw_information,
    draw_signal_and_noise,
    draw_surprise,
    drawn,
    halves,
    nats,
)
from splitbench.data.images import LabeledImages
from splitbench.defense import OnStep, silent
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors
from splitbench.split import Split


class VariationalBottleneck(Bottlenecked):
    """Releases a draw from ``N(mean(x), variance(x))``, trained to tell little beyond the task.

    The client ends in a linear bottleneck of means and one of log variances; both sides are
    trained, from the undefended model, on::

        CE(labels) + beta KL(N(mean, variance) || N(0, 1))

    where the divergence, summed over all released values, bounds from above the nats that a
    release tells of its image. The draw is what is sent, at inference as in training: whoever
    sends the mean has no bottleneck left.

    Args:
        beta: Price of a nat, > 0.
        channels: Released channels (image-like features) or values per token or vector, >= 1,
            and at most as many as the cut has.
        stride: Side of the patches that become one released position, >= 1.
        finetune_epochs: Epochs of training, >= 0; 0 leaves the bottleneck as it was drawn.
        learning_rate: First step size (Adam, cosine decay), > 0.
        batch_size: Images per step, > 0.

    Threat model:
        Whoever reads the messages, the server included, with the weights of the client, which
        for any image give the mean and the variance. Secret is the draw of each message; the
        training is trusted.

    Guarantee:
        Empirical. The divergence bounds the mean information only, over images like those it was
        trained on, and only as far as the means are what the client computes: they are not
        clipped, so a single image can tell more.

    Known to fall to:
        A decoder trained on the noisy release; averaging over releases of the same input.

    Deviations from the paper:
        The model is fine-tuned rather than trained from the start, and the bottleneck sits at the
        cut, followed by the rest of the undefended model; batch normalisation keeps the
        undefended model's statistics. One draw per image and step.

    References:
        Alemi, Fischer, Dillon, Murphy. "Deep variational information bottleneck". ICLR 2017.
        arXiv:1612.00410

    Example:
        >>> VariationalBottleneck(beta=0.01).stochastic
        True
    """

    stochastic: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    normal: ClassVar[bool] = True
    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = ("beta", "up")

    def __init__(
        self,
        *,
        beta: float,
        channels: int = 8,
        stride: int = 1,
        finetune_epochs: int = 5,
        learning_rate: float = 2e-3,
        batch_size: int = 64,
    ) -> None:
        super().__init__(channels=channels, stride=stride)
        if not 0 < beta < math.inf:
            raise ValueError(f"beta={beta}: must be positive and finite")
        check_schedule(
            finetune_epochs=finetune_epochs, learning_rate=learning_rate, batch_size=batch_size
        )
        self.beta = beta
        self.finetune_epochs = finetune_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size

    @property
    def narrowed(self) -> type[NarrowingClient]:
        """One that ends in laws."""
        return GaussianClient

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Train both sides of the split that `adapt` returned."""

        def loss(images: Tensor, labels: Tensor) -> Tensor:
            features = tuple(split.client(images))
            logits = split.server(self.protect(features, generator=generator))
            return functional.cross_entropy(logits, labels) + self.beta * nats(features).mean()

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

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Draw every value from its law."""
        return drawn(features, generator)

    def expected(self, features: Tensors) -> Tensors:
        """The means."""
        return tuple(mean for mean, _ in halves(features))

    def negative_log_likelihood(
        self, observed: Tensors, features: Tensors, *, observations: int = 1
    ) -> Float[Tensor, " b"]:
        """Of the mean of so many draws, in nats."""
        return draw_surprise(observed, features, observations)

    def cell_surprise(self, low: Tensors, high: Tensors, features: Tensors) -> Float[Tensor, " b"]:
        """Of one draw."""
        return draw_cell_surprise(low, high, features)

    def information(self, features: Tensors) -> Tensors:
        """Of a normal law about its mean, ``1 / variance``, and about its log variance, 1/2."""
        return draw_information(features)

    def signal_and_noise(self, features: Tensors) -> tuple[Tensors, Tensors]:
        """Means and variances of the draws."""
        return draw_signal_and_noise(features)

    def guarantee(self) -> Guarantee:
        """Empirical."""
        return Guarantee(
            "empirical", f"a noisy bottleneck at {self.beta:g} per nat; no formal guarantee"
        )
