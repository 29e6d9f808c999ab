"""Centres of features, class by class: what conditional entropy is estimated with, no defense."""

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn

from splitbench.data.images import LabeledImages
from splitbench.release import Tensors

BATCH = 256
ROUNDS = 10  # of k-means


@dataclass(frozen=True)
class ClassMixture:
    """Components of a mixture, each of which belongs to one class.

    Attributes:
        centres: Their means, ``(components, values)``, over all tensors of the features.
        classes: The class of each, ``(components,)``.
    """

    centres: Float[Tensor, "k d"]
    classes: Int[Tensor, " k"]

    def nearest(self, rows: Float[Tensor, "b d"], labels: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
        """The component of each row: the nearest of its own class, or of all if that has none."""
        distance = torch.cdist(rows, self.centres)
        foreign = labels[:, None] != self.classes[None]
        return (distance + foreign * distance.max()).argmin(1)

    def scatter(
        self, features: Tensors, labels: Int[Tensor, " b"], *, noise_std: float, least: float
    ) -> Float[Tensor, ""]:
        """How much wider the components are than the noise, in logarithms, over all features.

        Args:
            features: Of a batch, without noise; gradients flow into them.
            labels: Of the batch.
            noise_std: Of the noise, relative to the root mean square of each tensor, > 0.
            least: Factor over the noise's variance up to which nothing is counted, >= 1.

        Returns:
            ``sum_k w_k mean relu(log(1 + v_k / noise) - log(least))``; unchanged where features
            and centres are multiplied by the same number.
        """
        rows = flat(features)
        with torch.no_grad():
            component = self.nearest(rows, labels)
        members = nn.functional.one_hot(component, len(self.centres)).to(rows)
        sizes = members.sum(0)
        squares = (rows - self.centres[component]).square()
        variance = (members.T @ squares) / sizes.clamp(min=1)[:, None]
        excess = (1 + variance / _noise(features, noise_std)).log() - torch.tensor(least).log()
        return (sizes / len(rows)) @ excess.relu().mean(1)


@torch.no_grad()
def fit_mixture(
    client: nn.Module, images: LabeledImages, *, components: int, generator: torch.Generator
) -> ClassMixture:
    """Find the centres of the features of each class by k-means.

    Args:
        client: Images to features.
        images: At least one.
        components: Per class; a class with fewer images has one for each of them.
        generator: Of the images at which k-means begins.
    """
    device = next((p.device for p in client.parameters()), torch.device("cpu"))
    parts = torch.arange(len(images)).split(BATCH)
    rows = torch.cat([flat(tuple(client(images.images(i).to(device)))) for i in parts])
    centres, classes = [], []
    for label in images.labels.unique().tolist():
        of_class = rows[(images.labels == label).to(device)]
        found = _centres(of_class, min(components, len(of_class)), generator)
        centres.append(found)
        classes += [label] * len(found)
    return ClassMixture(torch.cat(centres), torch.tensor(classes, device=device))


def flat(features: Tensors) -> Float[Tensor, "b d"]:
    """All values of each example in one row."""
    return torch.cat([f.flatten(1) for f in features], dim=1)


def _centres(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    start = rows[torch.randperm(len(rows), generator=generator)[:count].to(rows.device)]
    with warnings.catch_warnings():
        # A centre whose images all went to others stays where it was.
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        found, _ = kmeans2(rows.cpu().numpy(), start.cpu().numpy(), iter=ROUNDS, minit="matrix")
    return torch.from_numpy(found).to(rows)


def _noise(features: Tensors, noise_std: float) -> Tensor:
    """Variance of the noise on each value, relative to its tensor in this batch."""
    powers = [f.square().mean().clamp(min=1e-12).expand(f[0].numel()) for f in features]
    return noise_std**2 * torch.cat(powers)
