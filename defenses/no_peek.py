"""Training against the dependence between the image and its release."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from defenses.penalized_training import PenalizedTraining
from splitbench.dependence import ESTIMATORS, LEAST, Estimator, distance_correlation
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors


class NoPeek(PenalizedTraining):
    """Lowers the distance correlation between images and releases while the task is kept.

    Both sides are trained, from the undefended model, on::

        CE(labels) + weight * dCor^2(image, release)

    with the squared distance correlation of each batch, over all released tensors together.

    Args:
        weight: Of the distance correlation, >= 0; 0 is off.
        estimator: ``unbiased`` corrects the bias of a batch: with a hundred images of a thousand
            pixels the plain (``biased``) statistic is near 1 for independent features too, and
            its gradient shrinks that bias rather than the dependence. ``squared_distance`` is what
            public implementations compute, from squared distances, which see linear dependence
            only. See `splitbench.dependence.distance_correlation`.
        finetune_epochs: Epochs of training, >= 0; 0 is off.
        learning_rate: First step size (Adam, cosine decay), > 0.
        batch_size: Images per step, > 0; the statistic is noisy below a hundred. Batches of
            fewer than four images are trained on the task alone.

    Threat model:
        Whoever reads the messages, the server included, with the weights of both trained sides.
        Nothing is random and there is no key: features are trained to say less of the image,
        and whoever trains them is trusted.

    Guarantee:
        Empirical. A low distance correlation over the training images says nothing of what can
        be computed from one release.

    Known to fall to:
        A decoder trained on the defended release: what little variance still depends on the image
        is amplified.

    Deviations from the paper:
        The squared, bias-corrected statistic instead of the logarithm of the plain one; the
        model is fine-tuned rather than trained from the start; batch normalisation keeps the
        undefended model's statistics.

    References:
        Vepakomma, Singh, Gupta, Raskar. "NoPeek: information leakage reduction to share
        activations in distributed deep learning". ICDM Workshops 2020. arXiv:2008.09161

    Example:
        >>> NoPeek(weight=0.0).changes_client
        False
    """

    def __init__(
        self,
        *,
        weight: float,
        estimator: Estimator = "unbiased",
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
        if estimator not in ESTIMATORS:
            raise ValueError(f"estimator={estimator!r}: choose from {ESTIMATORS}")
        self.estimator: Estimator = estimator

    def penalty(
        self, images: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"], released: Tensors
    ) -> Float[Tensor, ""]:
        """Squared distance correlation of the batch."""
        del labels
        if len(images) < LEAST["unbiased"]:
            return torch.zeros((), device=images.device)
        rows = torch.cat([values.flatten(1) for values in released], dim=1)
        return distance_correlation(images, rows, estimator=self.estimator)

    def guarantee(self) -> Guarantee:
        """Empirical."""
        return Guarantee(
            "empirical",
            f"distance correlation lowered at weight {self.weight:g}; no formal guarantee",
        )
