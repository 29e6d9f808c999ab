"""A narrow bottleneck at the cut, distilled from the undefended model."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from defenses.bottlenecked import Bottlenecked, at_least_one
from defenses.distillation import Teacher, check_distillation, distillation
from defenses.fine_tuning import check_schedule, fine_tune
from splitbench.data.images import LabeledImages
from splitbench.defense import OnStep, silent
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors
from splitbench.split import Split


class DistillationBottleneck(Bottlenecked):
    """Sends the features through few channels, and distils the undefended model around them.

    Client and server start as copies of the undefended ones. The client gets a linear map down to
    `channels` after the cut, over patches of ``stride x stride`` positions; the server gets an
    adapter that restores the shapes (upsampling, linear map, residual correction). Both sides are
    then trained against the undefended model, the teacher::

        temperature^2 KL(teacher || student) + alpha CE(labels) + beta |h_s - h_t|^2 / |h_t|^2

    with h the features at the cut, restored by the adapter or the teacher's own. What the
    bottleneck cannot carry, no attack can rebuild; the loss decides what it carries. The released
    values go through the experiment's codec, which makes the payload.

    Args:
        channels: Released channels (image-like features) or values per token or vector, >= 1;
            where the cut has fewer, as many as there are.
        stride: Side of the patches that become one released position, >= 1. Features without
            height and width have none.
        epochs: Epochs of distillation, >= 1.
        learning_rate: First step size (Adam, cosine decay), > 0.
        batch_size: Images per step, > 0.
        temperature: Softens both predictions, > 0.
        alpha: Weight of the cross-entropy with the labels, >= 0.
        beta: Weight of the features' relative squared error, >= 0. Matching features keeps
            more of the image than the task needs.

    Guarantee:
        Empirical. The release is a deterministic function of the image; only its size is bounded.

    Known to fall to:
        A decoder trained on the bottleneck's output, wherever the release still has more
        values than the task needs, as at early cuts without stride; generative priors, which
        restore what is typical of the class.

    Deviations from the paper:
        The student's client is the full client plus the bottleneck rather than a slimmer
        network; all parts are trained in one stage; no rate term and no learned prior: the rate
        is that of the codec's bytes. The feature error is relative, so that `beta` means the same
        at every cut. Batch normalisation keeps the teacher's statistics: inference is per
        example, and the teacher's features are computed with them.

    References:
        Hinton, Vinyals, Dean. "Distilling the knowledge in a neural network". 2015.
        arXiv:1503.02531
        Matsubara, Yang, Levorato, Mandt. "Supervised compression for resource-constrained edge
        computing systems". WACV 2022. arXiv:2108.11898

    Example:
        >>> DistillationBottleneck(channels=2, stride=4).changes_client
        True
    """

    stochastic: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
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
    ) -> None:
        super().__init__(channels=channels, stride=stride)
        at_least_one(epochs=epochs)
        check_schedule(finetune_epochs=epochs, learning_rate=learning_rate, batch_size=batch_size)
        check_distillation(temperature=temperature, alpha=alpha)
        if beta < 0:
            raise ValueError(f"beta={beta}: must not be negative; 0 is off")
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.temperature = temperature
        self.alpha = alpha
        self.beta = beta

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

        def loss(images: Tensor, labels: Tensor) -> Tensor:
            wanted, taught = teacher(images)
            restored = server.restore(client(images))
            return self.loss(server.tail(restored), taught, labels, restored, wanted)

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

    def loss(
        self, logits: Tensor, taught: Tensor, labels: Tensor, restored: Tensors, wanted: Tensors
    ) -> Tensor:
        """What the distillation minimises.

        Args:
            logits: The student's, ``(b, classes)``.
            taught: The teacher's, ``(b, classes)``.
            labels: ``(b,)``.
            restored: Features behind the student's adapter.
            wanted: The teacher's features.

        Returns:
            A scalar, >= 0.
        """
        total = distillation(logits, taught, labels, temperature=self.temperature, alpha=self.alpha)
        if self.beta > 0:
            pairs = zip(restored, wanted, strict=True)
            errors = [
                (s - t).square().mean() / t.square().mean().clamp(min=1e-12) for s, t in pairs
            ]
            total = total + self.beta * torch.stack(errors).mean()
        return total

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Return the features: the client already ends in the bottleneck."""
        del generator
        return features

    def guarantee(self) -> Guarantee:
        """Empirical."""
        return Guarantee(
            "empirical", f"a bottleneck of {self.channels} channels; no formal guarantee"
        )
