"""Learning from the undefended model: what distilled defenses train with, not a defense itself."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.bottleneck import NarrowingClient, WideningServer
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


def distillation(
    logits: Tensor, taught: Tensor, labels: Tensor, *, temperature: float, alpha: float
) -> Tensor:
    """``temperature^2 KL(teacher || student) + alpha CE(labels)``, a scalar >= 0.

    Args:
        logits: The student's, ``(b, classes)``.
        taught: The teacher's, ``(b, classes)``.
        labels: ``(b,)``.
        temperature: Softens both predictions, > 0.
        alpha: Weight of the labels, >= 0.
    """
    divergence = functional.kl_div(
        (logits / temperature).log_softmax(1),
        (taught / temperature).log_softmax(1),
        reduction="batchmean",
        log_target=True,
    )
    return temperature**2 * divergence + alpha * functional.cross_entropy(logits, labels)


def check_distillation(*, temperature: float, alpha: float) -> None:
    """Refuse keywords with which `distillation` could not run.

    Raises:
        ValueError: A temperature that is not positive, or a negative weight.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: must be positive")
    if alpha < 0:
        raise ValueError(f"alpha={alpha}: must not be negative; 0 is off")
