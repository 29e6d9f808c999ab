"""Gaussian and Laplace noise: how it is drawn, pooled and explained; a piece, not a defense."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from splitbench.release import Tensors

FAR = 1e4  # scales from the centre beyond which an end of a cell is as good as infinite
NARROW = 1e-12  # least width of a cell, as a difference of logarithms


def laplace_like(values: Tensor, generator: torch.Generator) -> Tensor:
    """Laplace noise of variance 1: the difference of two exponential variables."""
    first, second = (
        torch.empty(values.shape, dtype=values.dtype).exponential_(generator=generator)
        for _ in range(2)
    )
    return ((first - second) / math.sqrt(2)).to(values.device)


def median(observations: list[Tensors]) -> Tensors:
    """Of several releases; for an even number, the middle of the two middle values."""
    stacks = [torch.stack(parts) for parts in zip(*observations, strict=True)]
    return tuple(_median(stack) for stack in stacks)


def gaussian_surprise(observed: Tensors, centre: Tensors, stds: Tensors, k: int) -> Tensor:
    """``||z - f||^2 / (2 std^2 / k)`` per example, for the mean z of k releases around f.

    Args:
        observed: What was released.
        centre: What the noise was added to.
        stds: Standard deviations of the noise on each tensor, shaped to multiply it.
        k: Releases that the mean was taken of; it is sufficient, so nothing is lost.

    Returns:
        ``-log p`` up to a constant, ``(b,)``.
    """
    parts = zip(observed, centre, stds, strict=True)
    errors = [((z - f) / std).flatten(1).square().sum(1) for z, f, std in parts]
    return torch.stack(errors).sum(0) * k / 2


def laplace_surprise(observed: Tensors, centre: Tensors, stds: Tensors, k: int) -> Tensor:
    """``-log p`` of the median of k releases per example, up to a constant.

    Args:
        observed: What was released.
        centre: What the noise was added to.
        stds: As in `gaussian_surprise`; the scale of the law is ``std / sqrt(2)``.
        k: Releases that the median was taken of.

    Returns:
        ``||z - f||_1 / scale`` for one release, else by the density of the sample median;
        ``(b,)``.
    """
    total = torch.zeros(len(observed[0]), device=observed[0].device)
    for z, f, std in zip(observed, centre, stds, strict=True):
        distance = (z - f).abs() / (std / math.sqrt(2))
        total = total + _median_surprise(distance, k).flatten(1).sum(1)
    return total


def gaussian_cell_surprise(low: Tensors, high: Tensors, centre: Tensors, stds: Tensors) -> Tensor:
    """``-log P`` that values around the centre fall between these ends, per example ``(b,)``.

    Where both ends are the same the value is known exactly, and its density counts.

    Args:
        low: Lower ends, possibly infinite; of each tensor.
        high: Upper ends, likewise.
        centre: What the noise was added to.
        stds: Standard deviations of the noise on each tensor, shaped to multiply it.
    """
    return _cell_surprise(low, high, centre, stds, torch.special.log_ndtr, lambda x: -x * x / 2)


def laplace_cell_surprise(low: Tensors, high: Tensors, centre: Tensors, stds: Tensors) -> Tensor:
    """As `gaussian_cell_surprise`, for Laplace noise of these standard deviations."""
    scales = tuple(std / math.sqrt(2) for std in stds)
    return _cell_surprise(low, high, centre, scales, _laplace_log_cdf, lambda x: -x.abs())


def _cell_surprise(
    low: Tensors,
    high: Tensors,
    centre: Tensors,
    scales: Tensors,
    log_cdf: Callable[[Tensor], Tensor],
    log_density: Callable[[Tensor], Tensor],
) -> Tensor:
    """For a symmetric law of scale 1, given by the logarithms of its functions."""
    total = torch.zeros(len(centre[0]), device=centre[0].device)
    for a, b, f, scale in zip(low, high, centre, scales, strict=True):
        ends = [((end - f) / scale).double().clamp(-FAR, FAR) for end in (a, b)]
        # In the upper tail both are nearly 1 and their difference is lost: mirror the cell.
        upper = ends[0] > 0
        lower = torch.where(upper, -ends[1], ends[0])
        higher = torch.where(upper, -ends[0], ends[1])
        most, least = log_cdf(higher), log_cdf(lower)
        gap = (most - least).clamp(min=NARROW)
        mass = most + torch.log(-torch.expm1(-gap))
        told = torch.where(a == b, log_density(ends[0]), mass)
        total = total - told.unsqueeze(-1).flatten(1).sum(1).to(total.dtype)
    return total


def _laplace_log_cdf(x: Tensor) -> Tensor:
    below = x.clamp(max=0) - math.log(2)
    return torch.where(x < 0, below, torch.log1p(-torch.exp(-x.clamp(min=0)) / 2))


def _median(stack: Tensor) -> Tensor:
    ordered = stack.sort(0).values
    k = len(stack)
    return (ordered[(k - 1) // 2] + ordered[k // 2]) / 2


def _median_surprise(distance: Tensor, k: int) -> Tensor:
    """``-log density`` of the median of k Laplace variables of scale 1, up to a constant.

    With ``q = exp(-a) / 2``, the tail beyond distance a: an odd ``k = 2n + 1`` has the density
    ``(q (1 - q))^n q``. An even ``k = 2n`` integrates over the gap between the two middle values,
    ``e^{-2na} (2^{-n} / n + integral over s in [0, a] of (e^s - 1/2)^{n-1})``; the integral obeys
    a recursion in n, scaled here by ``e^{-(n-1)a}`` so that nothing overflows.
    """
    a = distance.double()
    q = torch.exp(-a) / 2
    if k % 2:
        n = (k - 1) // 2
        surprise = (n + 1) * a - n * torch.log1p(-q)
    else:
        n = k // 2
        integral = a
        for m in range(1, n):
            integral = ((1 - q) ** m - q**m) / m - q * integral
        surprise = (n + 1) * a - torch.log(integral + q ** (n - 1) / (2 * n))
    return surprise.to(distance.dtype)
