"""How often each whole number is to be expected in each channel, learnt: a piece, not a defense."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splitbench.release import channel_axis

GAIN = 20.0  # by which the logits move faster than weights under the same step size
TOTAL = 2**16  # of the counts of a channel


class LearnedPrior(nn.Module):
    """A probability for each number from ``-limit`` to `limit`, one table for each channel.

    It is factorised: numbers are expected independently of each other. Rounded values have the
    table's probabilities. Values under uniform noise of width 1, which stand for them in training,
    have a density that interpolates the table linearly: exactly, if the value before the noise is
    spread evenly over the cell of each number.

    Args:
        channels: Of the tensor, >= 1.
        limit: Largest magnitude, >= 1.
    """

    counts: Tensor

    def __init__(self, *, channels: int, limit: int) -> None:
        super().__init__()
        self.limit = limit
        magnitude = torch.arange(-limit, limit + 1.0).abs().expand(channels, -1)
        self.logits = nn.Parameter(-math.log(2) / GAIN * magnitude)
        self.register_buffer("counts", torch.empty(magnitude.shape, dtype=torch.int64))
        self.settle()

    def bits(self, noisy: Tensor) -> Float[Tensor, " b"]:
        """Information of each example, differentiable in values and table.

        A value beyond the limit costs a bit more for each step, so that it is drawn back.
        """
        table = (GAIN * self.logits).softmax(1)
        shape = [1] * noisy.ndim
        shape[channel_axis(noisy)] = len(table)
        first = torch.arange(len(table), device=noisy.device).view(shape) * table.shape[1]
        place = noisy.clamp(-self.limit, self.limit) + self.limit
        below = place.detach().floor().clamp(max=2 * self.limit - 1)
        index, share = first + below.long(), place - below
        flat = table.flatten()
        expected = (1 - share) * flat[index] + share * flat[index + 1]
        each = (noisy.abs() - self.limit).relu() - expected.clamp(min=1e-30).log2()
        return each.flatten(1).sum(1)

    @torch.no_grad()
    def settle(self) -> None:
        """Turn the table into counts, which both sides then have to the bit."""
        table = (GAIN * self.logits).softmax(1)
        spare = TOTAL - table.shape[1]
        self.counts.copy_(1 + (table * spare).floor().long())

    def rows(self) -> tuple[tuple[int, ...], ...]:
        """The counts, as `EntropyCoded` takes them."""
        return tuple(tuple(row) for row in self.counts.tolist())
