"""A narrow bottleneck at the cut, distilled from the undefended model."""

import copy
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from defenses.bottleneck import NarrowingClient, WideningServer
from defenses.fine_tuning import fine_tune
from splitbench.data.images import LabeledImages
from splitbench.defense import Defense, OnStep, silent
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors
from splitbench.split import Split


class DistillationBottleneck(Defense):
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
        super().__init__()
        for name, value in (
            ("channels", channels),
            ("stride", stride),
            ("epochs", epochs),
            ("batch_size", batch_size),
        ):
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        if not (learning_rate > 0 and temperature > 0):
            raise ValueError(
                f"learning_rate={learning_rate}, temperature={temperature}: must be positive"
            )
        if alpha < 0 or beta < 0:
            raise ValueError(f"alpha={alpha}, beta={beta}: must not be negative; 0 is off")
        self.channels = channels
        self.stride = stride
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.temperature = temperature
        self.alpha = alpha
        self.beta = beta

    @property
    def changes_client(self) -> bool:
        """Always."""
        return True

    def adapt(self, split: Split) -> Split:
        """Put the bottleneck on the client and the adapter on the server; both are copies.

        Raises:
            ValueError: A tensor of the cut is neither image-like nor tokens nor a vector.
        """
        specs = split.cut.tensors
        size = {"channels": self.channels, "stride": self.stride}
        client = NarrowingClient(copy.deepcopy(split.client), specs, **size)
        server = WideningServer(copy.deepcopy(split.server), specs, **size)
        return Split(split.cut, client.eval(), server.eval())

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
        client, server = split.client, split.server
        if not (isinstance(client, NarrowingClient) and isinstance(server, WideningServer)):
            raise TypeError("fit() takes the split that adapt() returned")
        teach, decide = copy.deepcopy(client.body).eval(), copy.deepcopy(server.tail).eval()

        def loss(images: Tensor, labels: Tensor) -> Tensor:
            with torch.no_grad():
                wanted = teach(images)
                taught = decide(wanted)
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
        tau = self.temperature
        divergence = functional.kl_div(
            (logits / tau).log_softmax(1),
            (taught / tau).log_softmax(1),
            reduction="batchmean",
            log_target=True,
        )
        total = tau**2 * divergence + self.alpha * functional.cross_entropy(logits, labels)
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
