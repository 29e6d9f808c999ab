"""Learning from the undefended model: what distilled defenses train with, not a defense itself."""

import copy
from abc import ABC
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.bottleneck import NarrowingClient, WideningServer
from defenses.bottlenecked import Bottlenecked, at_least_one
from defenses.fine_tuning import check_schedule
from splitbench.release import Tensors
from splitbench.split import Split


class Teacher:
    """The undefended model that a bottleneck was put into.

    Args:
        split: As `Bottlenecked.adapt` returned it, before any training.

    Attributes:
        client, server: The sides that learn.

    Raises:
        TypeError: The split was not made by `adapt`.
    """

    def __init__(self, split: Split) -> None:
        client, server = split.client, split.server
        if not (isinstance(client, NarrowingClient) and isinstance(server, WideningServer)):
            raise TypeError("fit() takes the split that adapt() returned")
        self.client, self.server = client, server
        self._head: nn.Module = copy.deepcopy(client.body).eval()
        self._tail: nn.Module = copy.deepcopy(server.tail).eval()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensors, Tensor]:
        """Features at the cut and logits ``(b, classes)``."""
        features = tuple(self._head(images))
        return features, self._tail(features)


class Distilled(Bottlenecked, ABC):
    """A bottleneck that learns from the undefended model.

    Args:
        channels: See `Bottlenecked`.
        stride: See `Bottlenecked`.
        epochs: Of distillation, >= 1.
        learning_rate: First step size, > 0.
        batch_size: Images per step, > 0.
        temperature: Softens both predictions, > 0.
        alpha: Weight of the labels, >= 0.
    """

    stochastic: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True

    def __init__(
        self,
        *,
        channels: int,
        stride: int,
        epochs: int,
        learning_rate: float,
        batch_size: int,
        temperature: float,
        alpha: float,
    ) -> None:
        super().__init__(channels=channels, stride=stride)
        at_least_one(epochs=epochs)
        check_schedule(finetune_epochs=epochs, learning_rate=learning_rate, batch_size=batch_size)
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: must be positive")
        if alpha < 0:
            raise ValueError(f"alpha={alpha}: must not be negative; 0 is off")
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.temperature = temperature
        self.alpha = alpha

    def distillation(self, logits: Tensor, taught: Tensor, labels: Tensor) -> Tensor:
        """``temperature^2 KL(teacher || student) + alpha CE(labels)``, a scalar >= 0.

        Args:
            logits: The student's, ``(b, classes)``.
            taught: The teacher's, ``(b, classes)``.
            labels: ``(b,)``.
        """
        divergence = functional.kl_div(
            (logits / self.temperature).log_softmax(1),
            (taught / self.temperature).log_softmax(1),
            reduction="batchmean",
            log_target=True,
        )
        agreement = functional.cross_entropy(logits, labels)
        return self.temperature**2 * divergence + self.alpha * agreement


def relative_error(restored: Tensors, wanted: Tensors) -> Tensor:
    """``mean |h_s - h_t|^2 / |h_t|^2`` over the tensors of the cut, a scalar."""
    pairs = zip(restored, wanted, strict=True)
    errors = [(s - t).square().mean() / t.square().mean().clamp(min=1e-12) for s, t in pairs]
    return torch.stack(errors).mean()
