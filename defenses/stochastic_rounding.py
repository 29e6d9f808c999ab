"""Few bits per released value, rounded at random."""

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from defenses.fine_tuned_server import FineTunedServer
from splitbench.codecs.grid import Grid
from splitbench.codecs.uniform import Uniform
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors
from splitbench.rng import uniform_like

# Below this probability the logarithm goes on as a straight line: a search that has left the
# features that are possible is told the way back instead of infinity.
RARE = 0.01


class StochasticRounding(FineTunedServer):
    """Rounds each value to one of the two levels around it, the nearer the likelier.

    ``2 ** bits`` even levels lie between the smallest and the largest value of each tensor of an
    example. A value at a share p of the way from one level to the next becomes the upper one with
    probability p, drawn afresh for every message: the release is unbiased, with variance
    ``p (1 - p) delta^2``. The codec packs the levels into real bits, and sends both ends along.

    Args:
        bits: Bits per value, 1 to 8.
        finetune_epochs: Epochs of fine-tuning the server to rounded features; 0 is post-hoc.
        learning_rate: First step size of the fine-tuning (Adam, cosine decay), > 0.
        batch_size: Images per fine-tuning step, > 0.

    Threat model:
        Whoever reads the messages, the server included, with the weights, the bits, and the
        ends of the range, which are sent. Secret is what is drawn for each message, which way a
        value was rounded.

    Guarantee:
        Empirical. The ends of the range are released in clear.

    Known to fall to:
        A decoder trained on rounded releases; averaging k releases of one input, which divides
        the variance by k and, unlike for rounding to the nearest, recovers the value in the end.

    Deviations from the paper:
        Only the released features are rounded, not weights or gradients; the range is that of
        each example. There is no setting at which it is off.

    References:
        Gupta, Agrawal, Gopalakrishnan, Narayanan. "Deep learning with limited numerical
        precision". ICML 2015. arXiv:1502.02551

    Example:
        >>> StochasticRounding(bits=2).levels
        4
    """

    stochastic: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = ("bits", "down")
    # Rounding on to some of the levels moves no mean: as if it had been done at once.
    nested: ClassVar[Literal["no", "all", "multiples"]] = "multiples"

    def __init__(
        self,
        *,
        bits: int,
        finetune_epochs: int = 0,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
    ) -> None:
        super().__init__(
            finetune_epochs=finetune_epochs, learning_rate=learning_rate, batch_size=batch_size
        )
        if not 1 <= bits <= 8:
            raise ValueError(f"bits={bits}: choose 1 to 8")
        self.bits = bits

    @property
    def levels(self) -> int:
        """Number of levels."""
        return int(2**self.bits)

    @property
    def codec(self) -> Uniform:
        """Packs the levels; has the same ones, and therefore rounds nothing."""
        return Uniform(bits=self.bits)

    @torch.no_grad()
    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Round.

        Returns:
            Tensors of the same shapes, whose smallest and largest values are those of `features`.
        """
        return tuple(self._rounded(f, generator) for f in features)

    def negative_log_likelihood(
        self, observed: Tensors, features: Tensors, *, observations: int = 1
    ) -> Float[Tensor, " b"] | None:
        """Exact ``-log p`` of the mean of k releases given the features, up to a constant.

        The mean says how many of the k roundings went up, a binomial number, and is sufficient.
        The range is taken as given: which feature has the smallest value of all, and which the
        largest, is not asked. Where the message has a probability below `RARE`, or none at all,
        the logarithm goes on as its tangent.
        """
        total = torch.zeros(len(observed[0]), device=observed[0].device)
        for z, f in zip(observed, features, strict=True):
            total = total + self._surprise(z, f, observations).flatten(1).sum(1).to(total)
        return total

    def guarantee(self) -> Guarantee:
        """Empirical."""
        return Guarantee("empirical", f"{self.bits} random bits per value; no formal guarantee")

    def _rounded(self, values: Tensor, generator: torch.Generator) -> Tensor:
        grid = self._grid(values)
        place = (values.double() - grid.low) / grid.step()
        codes = (place + uniform_like(place, generator)).floor()
        # The division may miss the last level by a hair, and the codec needs it where it is.
        codes = torch.where(values < grid.high, codes, self.levels - 1)
        return grid.values(codes.clamp(0, self.levels - 1))

    def _surprise(self, seen: Tensor, features: Tensor, k: int) -> Tensor:
        """Of each value, in nats."""
        with torch.no_grad():
            grid = self._grid(seen)
            # The mean of k levels is a whole number of k-ths of a step.
            steps = ((seen.double() - grid.low) / grid.step() * k).round()
            lower = (steps / k).floor()
            ups = steps - k * lower
        place = (features.double() - grid.low) / grid.step()
        inside = place.clamp(0, self.levels - 1)
        rise = inside - lower
        between = -ups * _log(rise) - (k - ups) * _log(1 - rise)
        # All k on one level: the value may lie on either side of it.
        surprise = torch.where(ups == 0, -k * _log(1 - rise.abs()), between)
        return surprise + k / RARE * (place - inside).abs()

    def _grid(self, values: Tensor) -> Grid:
        """Levels from the smallest to the largest value of each example."""
        axes = tuple(range(1, values.ndim))
        low, high = (end(values, axes, keepdim=True).double() for end in (torch.amin, torch.amax))
        return Grid(low + 0.0, high + 0.0, self.levels, ends=True)  # no negative zero


def _log(probability: Tensor) -> Tensor:
    """Logarithm, continued below `RARE` by its tangent; 0 from 1 on."""
    tangent = math.log(RARE) + probability / RARE - 1
    return torch.where(probability > RARE, probability.clamp(RARE, 1).log(), tangent)
