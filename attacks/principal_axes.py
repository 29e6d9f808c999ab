"""The directions in which rows vary most: a piece, not an attack."""

import torch
from jaxtyping import Float
from torch import Tensor

from splitbench.rng import isolated


def principal_axes(
    rows: Float[Tensor, "n d"], count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "d count"], Float[Tensor, " count"]]:
    """Leading principal axes, fewer where there are no more, and the length of the rows on each.

    By random projections (Halko, Martinsson, Tropp, SIAM Review 2011, doi:10.1137/090771806):
    thousands of features of thousands of images take a second, not a minute.

    Args:
        rows: Centred.
        count: How many, > 0.
        generator: Of the projections.
    """
    with isolated(generator):
        _, values, axes = torch.svd_lowrank(rows, q=min(count, *rows.shape))
    return axes, values
