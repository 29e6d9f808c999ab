"""Adam on the pixels of independent images, within [0, 1]: a piece, not an attack."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def descend(
    objective: Callable[[Tensor], Tensor],
    start: Float[Tensor, "b c h w"],
    *,
    steps: int,
    learning_rate: float,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, " b"]]:
    """The best iterate of each image and its objective.

    Args:
        objective: Of each image, ``(b,)``, differentiable; they are independent problems.
        start: In [0, 1].
        steps: Of Adam, > 0.
        learning_rate: Of the first; falls to zero along a cosine.
    """
    # Convolutions of batches are faster so on a CPU: 1.6 x for LeNet-5, 1.15 x for wide ones.
    x = start.clone(memory_format=torch.channels_last).requires_grad_()
    optimizer = torch.optim.Adam([x], lr=learning_rate)
    best, least = start.clone(), torch.full((len(start),), math.inf, device=start.device)
    for step in range(steps + 1):
        with torch.enable_grad():
            value = objective(x)
            x.grad = torch.autograd.grad(value.sum(), x)[0]
        better = value.detach() < least
        best = torch.where(better[:, None, None, None], x.detach(), best)
        least = torch.minimum(value.detach(), least)
        optimizer.param_groups[0]["lr"] = learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.step()
        with torch.no_grad():
            x.clamp_(0, 1)
    return best, least
