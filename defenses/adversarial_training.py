"""Training against decoders that try to rebuild the image meanwhile."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from defenses.fine_tuning import check_schedule, fine_tune, trainable
from defenses.proxy_decoder import ProxyDecoder
from splitbench.data.images import LabeledImages
from splitbench.defense import Defense, OnStep, silent
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors, TensorSpec
from splitbench.rng import isolated
from splitbench.split import Split

PROXY_RATE = 2e-3  # first step size of the decoders, Adam


class AdversarialTraining(Defense):
    """Trains both sides for the task and against decoders, which are trained against them.

    Client and server start from the undefended model. In every step the decoders first learn from
    the release, then both sides descend on::

        CE(labels) + weight * max(0, 1 - least squared error of the decoders / variance)

    where the variance is that of the training images around their mean: the second term is the
    share of it that the best decoder explains, and nothing is gained by pushing a decoder below a
    blind guess. Decoders are started anew in turn, so that the client cannot come to rely on the
    weakness of one.

    Args:
        weight: Of the explained share, >= 0; 0 is off.
        decoders: Decoders trained side by side, >= 1.
        lives: Times that each decoder is started anew during the training, >= 0.
        width: Channels of the decoders, >= 1.
        finetune_epochs: Epochs of training, >= 0; 0 is off.
        learning_rate: First step size of both sides (Adam, cosine decay), > 0.
        batch_size: Images per step, > 0.

    Guarantee:
        Empirical: against these decoders, at these steps.

    Known to fall to:
        A stronger decoder, or the same one trained for longer after the client has stopped
        moving; that is what every attack of the benchmark is.

    Deviations from the paper:
        The hinge is at the blind guess, for squared error, rather than at a similarity of 0.5;
        several decoders with restarts instead of one; the model is fine-tuned; batch
        normalisation keeps the undefended model's statistics.

    References:
        Xiao, Tsai, Sohn, Chandraker, Yang. "Adversarial learning of privacy-preserving and
        task-oriented representations". AAAI 2020. arXiv:1911.10143
        Li, Rakin, Chen, He, Fan, Chakrabarti. "ResSFL: a resistance transfer framework for
        defending model inversion attack in split federated learning". CVPR 2022. arXiv:2205.04007

    Example:
        >>> AdversarialTraining(weight=0.0).changes_client
        False
    """

    stochastic: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    off: ClassVar[dict[str, object] | None] = {"weight": 0.0}
    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = ("weight", "up")

    def __init__(
        self,
        *,
        weight: float,
        decoders: int = 3,
        lives: int = 2,
        width: int = 32,
        finetune_epochs: int = 8,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
    ) -> None:
        super().__init__()
        if not 0 <= weight < float("inf"):
            raise ValueError(f"weight={weight}: must be finite and not negative; 0 is off")
        for name, value, least in (
            ("decoders", decoders, 1),
            ("lives", lives, 0),
            ("width", width, 1),
        ):
            if value < least:
                raise ValueError(f"{name}={value}: must be at least {least}")
        check_schedule(
            finetune_epochs=finetune_epochs, learning_rate=learning_rate, batch_size=batch_size
        )
        self.weight = weight
        self.decoders = decoders
        self.lives = lives
        self.width = width
        self.finetune_epochs = finetune_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size

    @property
    def changes_client(self) -> bool:
        """Unless it is off."""
        return self.weight > 0 and self.finetune_epochs > 0

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Train both sides and the decoders; nothing at weight 0."""
        if not self.changes_client:
            return
        images = train.images()
        mean = images.mean(0)
        floor = (images - mean).square().mean()
        steps = self.finetune_epochs * -(-len(train) // self.batch_size)
        players = Decoders(
            self.decoders,
            partial(self._decoder, split.cut.tensors, mean, generator),
            life=max(1, steps // (self.lives + 1)),
        )

        def loss(batch: Tensor, labels: Tensor) -> Tensor:
            released = tuple(split.client(batch))
            players.learn(tuple(t.detach() for t in released), batch)
            explained = 1 - players.least_error(released, batch) / floor
            task = functional.cross_entropy(split.server(released), labels)
            return task + self.weight * explained.clamp(min=0)

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
        """Return the features: it is the client that was trained."""
        del generator
        return features

    def guarantee(self) -> Guarantee:
        """Empirical."""
        return Guarantee(
            "empirical",
            f"trained against {self.decoders} decoders at weight {self.weight:g}; "
            "no formal guarantee",
        )

    def _decoder(
        self,
        specs: tuple[TensorSpec, ...],
        mean: Tensor,
        generator: torch.Generator,
    ) -> nn.Module:
        with isolated(generator):
            decoder = ProxyDecoder(specs, mean.cpu(), width=self.width)
        return decoder.to(mean.device)


class Decoders:
    """Decoders that learn a step at a time, and are started anew one after the other.

    Args:
        count: How many.
        make: Makes an untrained one.
        life: Steps after which each is started anew; their turns are spread evenly.
    """

    def __init__(self, count: int, make: Callable[[], nn.Module], *, life: int) -> None:
        self._make = make
        self._life = life
        self._step = 0
        self._players = [self._fresh() for _ in range(count)]

    def learn(self, released: Tensors, images: Tensor) -> None:
        """One step of each decoder on this batch."""
        self._step += 1
        for i in range(len(self._players)):
            turn = i * self._life // len(self._players)
            if self._step > self._life and (self._step + turn) % self._life == 0:
                self._players[i] = self._fresh()
            decoder, optimizer = self._players[i]
            with trainable(list(decoder.parameters())):
                error = functional.mse_loss(decoder(released), images)
                optimizer.zero_grad()
                error.backward()
                optimizer.step()

    def least_error(self, released: Tensors, images: Tensor) -> Float[Tensor, ""]:
        """Mean squared error of the best decoder, differentiable in what is released."""
        errors = [functional.mse_loss(decoder(released), images) for decoder, _ in self._players]
        return torch.stack(errors).min()

    def _fresh(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        decoder = self._make().requires_grad_(False)
        return decoder, torch.optim.Adam(decoder.parameters(), lr=PROXY_RATE)
