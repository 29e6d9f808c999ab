"""A channel without information: what a choice by the truth gains from chance alone."""

import torch
from torch import Tensor

from splitbench.rng import stream


def other_targets(count: int) -> Tensor:
    """For each target another one, ``(count,)``: one random cycle through all of them.

    A guess that was made from the release of target i is held against image ``other[i]``. It then
    tells nothing about what it is held against, while guesses and images stay as they are, one by
    one: the marginals of the real channel without its information. The cycle depends on the count
    alone, so all attacks, cuts, defenses and seeds face the same null channel.

    Args:
        count: Targets, >= 2.

    Raises:
        ValueError: There is no other target.
    """
    if count < 2:
        raise ValueError(f"count={count}: a null channel needs at least 2 targets")
    order = torch.randperm(count, generator=stream(0, "null channel"))
    other = torch.empty_like(order)
    other[order] = order.roll(-1)
    return other
