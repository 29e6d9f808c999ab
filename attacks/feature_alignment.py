"""How far two samples of releases are apart as distributions: a piece, not an attack."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # torch's own name for it

from splitbench.release import Tensors

QUIETEST = 0.1  # no deviation counts for less than this share of their root mean square
WIDTHS = (0.125, 0.25, 0.5, 1.0, 2.0)  # of the kernels, in units of the mean squared distance


class Reference:
    """Observed releases, as something to be distributed like.

    Args:
        observed: Tensors of at least two releases.
        measure: ``moments`` or ``mmd``, see `mismatch`.
    """

    def __init__(self, observed: Tensors, measure: Literal["moments", "mmd"]) -> None:
        """Standardise the observations."""
        self.measure = measure
        self._mean = [rows.mean(0) for rows in map(_rows, observed)]
        self._scale = [_deviation(_rows(tensor)) for tensor in observed]
        self._rows = self.standardised(observed)
        self._covariances = [_covariance(rows) for rows in self._rows]
        self._spreads = [_spread(rows) for rows in self._rows]

    def mismatch(self, released: Tensors, *, generator: torch.Generator) -> Tensor:
        """Distance of a batch of releases from the observed ones; differentiable.

        ``moments``: Huber's distance (so that no gradient explodes) of the means and deviations of
        all values and of the covariances of the channels, in units of the observed deviations.
        ``mmd``: squared maximum mean discrepancy between the batch and as many observed releases,
        drawn at random, with a sum of Gaussian kernels. Summed over the tensors of a release.
        """
        total = torch.zeros(())
        for i, rows in enumerate(self.standardised(released)):
            if self.measure == "moments":
                mean = rows.mean(0)
                total = total + F.smooth_l1_loss(mean, torch.zeros_like(mean))
                total = total + F.smooth_l1_loss(_spread(rows), self._spreads[i])
                total = total + F.smooth_l1_loss(_covariance(rows), self._covariances[i])
            else:
                drawn = torch.randint(len(self._rows[i]), (len(rows),), generator=generator)
                total = total + _discrepancy(rows.flatten(1), self._rows[i][drawn].flatten(1))
        return total

    def standardised(self, tensors: Tensors) -> list[Tensor]:
        """Each tensor as ``(b, channels, positions)``, in units of the observed deviations."""
        parts = zip(map(_rows, tensors), self._mean, self._scale, strict=True)
        return [(rows - mean) / scale for rows, mean, scale in parts]


def _rows(values: Tensor) -> Tensor:
    """Maps, tokens and vectors as ``(b, channels, positions)``."""
    values = values.float()
    if values.ndim == 3:
        return values.transpose(1, 2)
    return values.unsqueeze(-1).flatten(2)


def _deviation(rows: Tensor) -> Tensor:
    """Deviation of each channel, bounded from below; 1 where nothing moves at all."""
    deviation = (rows - rows.mean(0)).square().mean((0, 2)).sqrt()[:, None]
    typical = float(deviation.square().mean().sqrt())
    return deviation.clamp(min=QUIETEST * typical) if typical else torch.ones_like(deviation)


def _spread(rows: Tensor) -> Tensor:
    """Deviation of each value; smooth also where there is none."""
    return (rows.var(0) + 1e-6).sqrt()


def _covariance(rows: Tensor) -> Tensor:
    """Covariance of the channels over examples and positions."""
    flat = rows.transpose(0, 1).flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    return flat @ flat.T / flat.shape[1]


def _discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two samples of equal size, without the diagonals."""
    n = len(first)
    both = torch.cat([first, second])
    squares = both.square().sum(1)
    distance = (squares[:, None] + squares - 2 * both @ both.T).clamp(min=0)
    unit = distance.detach().sum() / (2 * n * (2 * n - 1)) + 1e-12
    kernel = torch.stack([(-distance / (width * unit)).exp() for width in WIDTHS]).sum(0)
    kernel = kernel - torch.diag(torch.diagonal(kernel))
    same = (kernel[:n, :n].sum() + kernel[n:, n:].sum()) / (n * (n - 1))
    discrepancy: Tensor = same - 2 * kernel[:n, n:].mean()
    return discrepancy
