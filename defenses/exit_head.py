"""The classifier of an early exit: a piece, not a defense."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from defenses.learnt_buffers import LearntBuffers
from splitbench.release import Tensors

COLDEST, HOTTEST, TEMPERATURES = 0.05, 20.0, 200  # among which the best one is chosen
QUIETEST = 0.01  # no deviation counts for less than this share of their root mean square


class ExitHead(LearntBuffers):
    """A linear classifier with calibrated probabilities, and how sure is sure.

    Nothing is known of it before it is fitted or loaded: its size is the cut's.
    """

    def take(self, linear: nn.Linear, mean: Tensor, scale: Tensor, temperature: Tensor) -> None:
        """Keep a trained classifier, as one linear map of pooled features; it is never sure.

        Args:
            linear: Standardised pooled features to logits.
            mean: That was subtracted from each, ``(n,)``.
            scale: By which each was divided then, ``(n,)``.
            temperature: By which logits are divided.
        """
        self._buffers.clear()
        weight = linear.weight.detach() / scale
        self.register_buffer("weight", weight / temperature)
        self.register_buffer("bias", (linear.bias.detach() - weight @ mean) / temperature)
        self.be_sure_from(torch.tensor(torch.inf, dtype=torch.float64, device=mean.device))

    def be_sure_from(self, odds: Tensor) -> None:
        """Set the logarithm of the least odds of the likeliest class that count as sure."""
        self.register_buffer("threshold", odds)

    def forward(self, rows: Float[Tensor, "b n"]) -> Float[Tensor, "b classes"]:
        """Pooled features to calibrated logits.

        Raises:
            RuntimeError: Nothing was fitted or loaded yet.
        """
        if not self._buffers:
            raise RuntimeError("the exit was not trained: call fit() before anything is answered")
        return functional.linear(rows, self.get_buffer("weight"), self.get_buffer("bias"))

    def sure(self, logits: Float[Tensor, "b classes"]) -> Bool[Tensor, " b"]:
        """Where the largest probability is large enough."""
        return log_odds(logits) >= self.get_buffer("threshold")


def pooled(features: Tensors, side: int) -> Float[Tensor, "b n"]:
    """Averages over a grid (of images), over all tokens, or vectors as they are; side by side."""
    return torch.cat([_pooled(values.float(), side) for values in features], dim=1)


def moments(rows: Float[Tensor, "m n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Mean and deviation of each column; what hardly moves is not blown up."""
    deviation = rows.std(0, correction=0)
    typical = deviation.square().mean().sqrt()
    return rows.mean(0), deviation.clamp(min=float(QUIETEST * typical) or 1.0)


def best_temperature(
    logits: Float[Tensor, "b classes"], labels: Int[Tensor, " b"]
) -> Float[Tensor, ""]:
    """By which logits must be divided for the least cross-entropy."""
    ends = torch.tensor([COLDEST, HOTTEST], dtype=torch.float64).log()
    tried = torch.linspace(float(ends[0]), float(ends[1]), TEMPERATURES).exp()
    losses = [functional.cross_entropy(logits / t, labels) for t in tried.tolist()]
    return tried[int(torch.stack(losses).argmin())].to(logits.device)


def log_odds(logits: Float[Tensor, "b classes"]) -> Float[Tensor, " b"]:
    """Of the likeliest class against all others: rises with its probability, and never rounds to 1.

    So that of many images that are sure some are surer.
    """
    top, place = logits.double().max(1, keepdim=True)
    others = logits.double().scatter(1, place, -torch.inf)
    return top[:, 0] - others.logsumexp(1)


def thresholds(odds: Sequence[Float[Tensor, " n"]], total: int) -> list[Float[Tensor, ""]]:
    """The least log odds that count as sure at each exit, for so many of these images to leave.

    Each exit takes an equal part, the surest of those that reach it; the first exits take one more
    where the division leaves a rest. As `total` rises no threshold does: more leave at each exit,
    and fewer reach the next.

    Args:
        odds: Of the same images at each exit, in order; the same whatever the total.
        total: How many leave, in [1, n].
    """
    reach = torch.ones_like(odds[0], dtype=torch.bool)
    found: list[Tensor] = []
    for k, values in enumerate(odds):
        count = (total + len(odds) - 1 - k) // len(odds)
        surest = values[reach].sort(descending=True).values
        # Ties may have let more leave before: then whoever reaches this exit leaves here.
        ends = values.new_tensor([torch.inf]), surest, values.new_full((count,), -torch.inf)
        found.append(torch.cat(ends)[count])
        reach = reach & (values < found[-1])
    return found


def _pooled(values: Tensor, side: int) -> Tensor:
    if values.ndim == 4:
        height, width = (min(side, s) for s in values.shape[2:])
        return functional.adaptive_avg_pool2d(values, (height, width)).flatten(1)
    return values.mean(1) if values.ndim == 3 else values.flatten(1)
