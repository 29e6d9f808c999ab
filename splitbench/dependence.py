"""How much two sets of paired samples depend on each other."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Estimator = Literal["unbiased", "biased", "squared_distance"]
ESTIMATORS = get_args(Estimator)
LEAST = {"unbiased": 4, "biased": 2, "squared_distance": 2}  # samples that an estimator needs
TINY = 1e-12  # variance below which nothing depends on anything


def distance_correlation(
    x: Float[Tensor, "n ..."], y: Float[Tensor, "n ..."], *, estimator: Estimator = "unbiased"
) -> Float[Tensor, ""]:
    """Squared distance correlation of paired samples; differentiable in both.

    In the population it lies in [0, 1], is 0 exactly for independent x and y, however they
    might depend on each other, and 1 for similar ones (up to rotation, scale and shift).

    Args:
        x: n samples of any shape.
        y: The n samples that go with them, of any shape.
        estimator: ``unbiased`` is the bias-corrected statistic of Szekely and Rizzo (2014): about
            0 for independent samples, also below, whatever their dimension. ``biased`` is the
            plain one, which is near 1 for a few samples of many dimensions, dependent or not.
            ``squared_distance`` is the plain one of *squared* distances: what published
            implementations of NoPeek compute. It sees linear dependence only.

    Returns:
        A scalar; 0 where x or y does not vary.

    Raises:
        ValueError: An unknown estimator, or fewer samples than it needs.

    References:
        Szekely, Rizzo, Bakirov. "Measuring and testing dependence by correlation of distances".
        Annals of Statistics 2007. doi:10.1214/009053607000000505
        Szekely, Rizzo. "Partial distance correlation with methods for dissimilarities". Annals of
        Statistics 2014. doi:10.1214/14-AOS1255
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator={estimator!r}: choose from {ESTIMATORS}")
    if len(x) != len(y) or len(x) < LEAST[estimator]:
        raise ValueError(
            f"{len(x)} and {len(y)} samples: want equally many, at least {LEAST[estimator]}"
        )
    a, b = (_centred(_distances(v, estimator), estimator) for v in (x, y))
    return (a * b).mean() / ((a * a).mean() * (b * b).mean()).clamp(min=TINY).sqrt()


def _distances(values: Tensor, estimator: Estimator) -> Float[Tensor, "n n"]:
    rows = values.flatten(1)
    # Not by products of rows: near samples would lose their digits.
    mode = "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(rows, rows, compute_mode=mode)
    return distances.square() if estimator == "squared_distance" else distances


def _centred(distances: Float[Tensor, "n n"], estimator: Estimator) -> Float[Tensor, "n n"]:
    """Distances whose rows and columns add up to nothing."""
    n = len(distances)
    rows, columns = distances.sum(1, keepdim=True), distances.sum(0, keepdim=True)
    total = distances.sum()
    if estimator != "unbiased":
        return distances - rows / n - columns / n + total / n**2
    centred = distances - (rows + columns) / (n - 2) + total / ((n - 1) * (n - 2))
    return centred.masked_fill(torch.eye(n, dtype=torch.bool, device=distances.device), 0.0)
