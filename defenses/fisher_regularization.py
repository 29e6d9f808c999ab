"""Training against the Fisher information that a release holds about its image."""

from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from defenses.penalized_training import PenalizedTraining
from splitbench.data.images import LabeledImages
from splitbench.fisher import Client, push_forward, random_signs
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors
from splitbench.split import Split

LEAST = 1e-6  # information per pixel below which nothing more is gained; keeps the logarithm finite


class FisherRegularization(PenalizedTraining):
    """Makes the client flat: features that move little when the image does, for their size.

    Both sides are trained, from the undefended model, on::

        CE(labels) + weight * mean over images of log(tr(J^T J) / d)

    with J the derivative of the features by the d pixels of an image. Of each tensor it is divided
    by the standard deviation of the tensor's values over the images of the batch, so that neither
    smaller features nor a constant added to them lower the penalty: only features whose change
    follows less of the image do. What is penalised is thus the logarithm of dFIL
    (`splitbench.fisher`) of a release under Gaussian noise as strong as the features themselves.
    The trace is estimated by Hutchinson's method, with products in forward mode through which the
    training differentiates.

    The release has no noise of its own. `FisherNoise` after it, in a `Chain`, is what turns flat
    features into an error of reconstruction: at the same target it then needs less noise for the
    features' size.

    Args:
        weight: Of the logarithm, >= 0; 0 is off.
        probes: Random directions per image and step, >= 1. Few make the logarithm too small on
            average, by about the inverse of the number of directions that the features follow.
        finetune_epochs: Epochs of training, >= 0; 0 is off.
        learning_rate: First step size (Adam, cosine decay), > 0.
        batch_size: Images per step, > 0. A batch of one image is trained on the task alone.

    Threat model:
        Whoever reads the messages, the server included, with the weights of the trained client
        and its derivatives. Nothing is random and there is no key; the training is trusted.

    Guarantee:
        Empirical. The release is a deterministic function of the image, of which Fisher
        information says nothing; with noise behind it, it bounds unbiased estimates only, and
        attackers who have learnt are biased.

    Known to fall to:
        A decoder trained on the release: without noise, what little moves is amplified. Alone it
        can even leave more than before, as flat features follow the large shapes of an image,
        which are most of its variance.

    Deviations from the paper:
        The trace is relative to the spread of the features, where the paper's is absolute and
        the noise is set afterwards; the model is fine-tuned, without a compression layer; batch
        normalisation keeps the undefended model's statistics.

    References:
        Maeng, Guo, Kariyappa, Suh. "Bounding the invertibility of privacy-preserving instance
        encoding using Fisher information". NeurIPS 2023. arXiv:2305.04146
        Hutchinson. "A stochastic estimator of the trace of the influence matrix for Laplacian
        smoothing splines". Communications in Statistics 1990. doi:10.1080/03610919008812866

    Example:
        >>> FisherRegularization(weight=0.0).changes_client
        False
    """

    def __init__(
        self,
        *,
        weight: float,
        probes: int = 1,
        finetune_epochs: int = 5,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
    ) -> None:
        super().__init__(
            weight=weight,
            finetune_epochs=finetune_epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
        )
        if probes < 1:
            raise ValueError(f"probes={probes}: must be at least 1")
        self.probes = probes

    def begin(self, split: Split, train: LabeledImages, *, generator: torch.Generator) -> None:
        """Remember the client, whose derivatives the penalty is of."""
        del train
        self._information = partial(
            relative_information, split.client, probes=self.probes, generator=generator
        )

    def penalty(
        self, images: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"], released: Tensors
    ) -> Float[Tensor, ""]:
        """Mean logarithm of the information per pixel."""
        del labels, released
        if len(images) < 2:
            return torch.zeros((), device=images.device)
        return (self._information(images) + LEAST).log().mean()

    def end(self) -> None:
        """Forget the client."""
        del self._information

    def guarantee(self) -> Guarantee:
        """Empirical."""
        return Guarantee(
            "empirical",
            f"Fisher information lowered at weight {self.weight:g}; no formal guarantee",
        )


def relative_information(
    client: Client,
    images: Float[Tensor, "b c h w"],
    *,
    probes: int,
    generator: torch.Generator,
) -> Float[Tensor, " b"]:
    """Estimate dFIL of each image under noise as strong as the features, differentiably.

    Args:
        client: Images to features, differentiable in forward mode.
        images: At least two, for the spread of the features is measured on them.
        probes: Random directions, >= 1.
        generator: Of the directions.
    """
    total = torch.zeros(len(images), device=images.device, dtype=images.dtype)
    for _ in range(probes):
        features, slopes = push_forward(client, images, random_signs(images, generator))
        for values, slope in zip(features, slopes, strict=True):
            power = values.var(0, correction=0).mean().clamp(min=1e-12)
            total = total + slope.unsqueeze(-1).flatten(1).square().sum(1) / power
    return total / (probes * images[0].numel())
