"""A narrow bottleneck at the cut, distilled from the undefended model."""

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from defenses.bottleneck import NarrowingClient
from defenses.decoders import Rivals
from defenses.distillation import Distilled, Teacher, relative_error
from defenses.fine_tuning import fine_tune, steps_of
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

DECODERS, LIVES, WIDTH = 3, 2, 32  # those that `AdversarialTraining` has unless told otherwise


class DistillationBottleneck(Distilled):
    """Sends the features through few channels, and distils the undefended model around them.

    Client and server start as copies of the undefended ones. The client gets a linear map down to
    `channels` after the cut, over patches of ``stride x stride`` positions; the server gets an
    adapter that restores the shapes (upsampling, linear map, residual correction). Both sides are
    then trained against the undefended model, the teacher::

        temperature^2 KL(teacher || student) + alpha CE(labels) + beta |h_s - h_t|^2 / |h_t|^2

    with h the features at the cut, restored by the adapter or the teacher's own. What the
    bottleneck cannot carry, no attack can rebuild; the loss decides what it carries. The released
    values go through the experiment's codec, which makes the payload.

    Two options make it carry less of the image, alone or together:

    - **adversarial**: decoders are trained on the release meanwhile, and the loss has
      ``adversarial_weight`` times the share of the images' variance that the best of them explains
      beyond a blind guess, as in `AdversarialTraining`;
    - **variational**: the client ends in the mean and variance of each value, a draw is what is
      sent, and the loss has ``nat_price`` times the divergence of its law from ``N(0, 1)``, as in
      `VariationalBottleneck`.

    Args:
        channels: Released channels (image-like features) or values per token or vector, >= 1,
            and at most as many as the cut has.
        stride: Side of the patches that become one released position, >= 1. Features without
            height and width have none.
        epochs: Epochs of distillation, >= 1.
        learning_rate: First step size (Adam, cosine decay), > 0.
        batch_size: Images per step, > 0.
        temperature: Softens both predictions, > 0.
        alpha: Weight of the cross-entropy with the labels, >= 0.
        beta: Weight of the features' relative squared error, >= 0. Matching features keeps
            more of the image than the task needs.
        adversarial_weight: Of the explained share, >= 0; 0 trains no decoders.
        nat_price: Price of a nat, >= 0; 0 sends the bottleneck's output as it is.

    Threat model:
        Whoever reads the messages, the server included, with the weights of the client, the
        bottleneck and the adapter. Nothing is secret unless a ``nat_price`` makes the release a
        draw, which is then fresh for every message. The training is trusted.

    Guarantee:
        Empirical. Only the release's size is bounded. The means of what is drawn are not clipped: a
        single image can tell more than images did in training.

    Known to fall to:
        A decoder trained on the bottleneck's output, wherever the release still has more
        values than the task needs, as at early cuts without stride; generative priors, which
        restore what is typical of the class. What was trained against decoders falls to one that
        is stronger, or is trained for longer on the client as it stayed; what is drawn, to
        averaging over releases of the same input.

    Deviations from the paper:
        The student's client is the full client plus the bottleneck rather than a slimmer
        network; all parts are trained in one stage; no rate term and no learned prior: the rate
        is that of the codec's bytes. The feature error is relative, so that `beta` means the same
        at every cut. Batch normalisation keeps the teacher's statistics: inference is per
        example, and the teacher's features are computed with them. The options are not the paper's;
        the decoders are three of 32 channels, each started anew twice.

    References:
        Hinton, Vinyals, Dean. "Distilling the knowledge in a neural network". 2015.
        arXiv:1503.02531
        Matsubara, Yang, Levorato, Mandt. "Supervised compression for resource-constrained edge
        computing systems". WACV 2022. arXiv:2108.11898
        Alemi, Fischer, Dillon, Murphy. "Deep variational information bottleneck". ICLR 2017.
        arXiv:1612.00410
        Xiao, Tsai, Sohn, Chandraker, Yang. "Adversarial learning of privacy-preserving and
        task-oriented representations". AAAI 2020. arXiv:1911.10143

    Example:
        >>> DistillationBottleneck(channels=2, stride=4).stochastic
        False
        >>> DistillationBottleneck(channels=2, stride=4, nat_price=0.001).stochastic
        True
    """

    normal: ClassVar[bool] = True
    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = ("channels", "down")

    def __init__(
        self,
        *,
        channels: int,
        stride: int = 1,
        epochs: int = 5,
        learning_rate: float = 2e-3,
        batch_size: int = 64,
        temperature: float = 2.0,
        alpha: float = 1.0,
        beta: float = 0.0,
        adversarial_weight: float = 0.0,
        nat_price: float = 0.0,
    ) -> None:
        super().__init__(
            channels=channels,
            stride=stride,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            temperature=temperature,
            alpha=alpha,
        )
        if beta < 0:
            raise ValueError(f"beta={beta}: must not be negative; 0 is off")
        for name, value in (("adversarial_weight", adversarial_weight), ("nat_price", nat_price)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}={value}: must be finite and not negative; 0 is off")
        self.beta = beta
        self.adversarial_weight = adversarial_weight
        self.nat_price = nat_price

    @property
    def stochastic(self) -> bool:  # type: ignore[override]  # depends on the options
        """Where nats have a price."""
        return self.nat_price > 0

    @property
    def narrowed(self) -> type[NarrowingClient]:
        """One that ends in laws where it is drawn from them."""
        return GaussianClient if self.stochastic else NarrowingClient

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Distil the split that `adapt` returned; what it was copied from is the teacher.

        Raises:
            TypeError: The split was not made by `adapt`.
        """
        teacher = Teacher(split)
        client, server = teacher.client, teacher.server
        against = self._rivals(client, train, generator) if self.adversarial_weight > 0 else None

        def loss(images: Tensor, labels: Tensor) -> Tensor:
            wanted, taught = teacher(images)
            features = client(images)
            released = self.protect(features, generator=generator)
            restored = server.restore(released)
            total = self.distillation(server.tail(restored), taught, labels)
            if self.beta > 0:
                total = total + self.beta * relative_error(restored, wanted)
            if self.nat_price > 0:
                total = total + self.nat_price * nats(features).mean()
            if against is not None:
                total = total + self.adversarial_weight * against.explained(released, images)
            return total

        fine_tune(
            [client, server],
            loss,
            train,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            generator=generator,
            on_step=on_step,
        )

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Draw every value from its law; without a price per nat, return the features."""
        return drawn(features, generator) if self.stochastic else features

    def expected(self, features: Tensors) -> Tensors:
        """The means; the features where nothing is drawn."""
        return tuple(mean for mean, _ in halves(features)) if self.stochastic else features

    def negative_log_likelihood(
        self, observed: Tensors, features: Tensors, *, observations: int = 1
    ) -> Float[Tensor, " b"] | None:
        """Of the mean of so many draws; None where nothing is drawn."""
        return draw_surprise(observed, features, observations) if self.stochastic else None

    def cell_surprise(
        self, low: Tensors, high: Tensors, features: Tensors
    ) -> Float[Tensor, " b"] | None:
        """Of one draw; None where nothing is drawn."""
        return draw_cell_surprise(low, high, features) if self.stochastic else None

    def signal_and_noise(self, features: Tensors) -> tuple[Tensors, Tensors] | None:
        """Means and variances of the draws; None where nothing is drawn."""
        return draw_signal_and_noise(features) if self.stochastic else None

    def information(self, features: Tensors) -> Tensors | None:
        """Of a normal law about its mean and its log variance; None where nothing is drawn."""
        return draw_information(features) if self.stochastic else None

    def guarantee(self) -> Guarantee:
        """Empirical."""
        options = (
            (self.adversarial_weight, f"against decoders at weight {self.adversarial_weight:g}"),
            (self.nat_price, f"drawn at {self.nat_price:g} per nat"),
        )
        used = "".join(f", {words}" for value, words in options if value > 0)
        return Guarantee(
            "empirical", f"a bottleneck of {self.channels} channels{used}; no formal guarantee"
        )

    def _rivals(
        self, client: NarrowingClient, train: LabeledImages, generator: torch.Generator
    ) -> Rivals:
        return Rivals(
            lambda images: self.protect(client(images), generator=generator),
            train,
            count=DECODERS,
            lives=LIVES,
            width=WIDTH,
            steps=steps_of(train, epochs=self.epochs, batch_size=self.batch_size),
            generator=generator,
        )
