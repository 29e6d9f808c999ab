"""Uniform quantisation grids with exact cells."""

from typing import NamedTuple

import torch
from torch import Tensor


class Grid(NamedTuple):
    """Cells of equal width between two ends.

    With ``ends`` false, `levels` cells divide [low, high] and each is represented by its middle;
    the outer cells also take everything beyond. With ``ends`` true the outer *levels* lie on low
    and high, so that both are represented exactly; the outer cells are half as wide, and nothing
    lies beyond.

    Arithmetic is in float64, where float32 values, levels and cell ends do not collide, and in a
    fixed order of single operations, so that every device computes the same bits. The ends of a
    cell are not approximate: `codes` compares with the very numbers that `cell` returns.

    Attributes:
        low: Lower end, float64, broadcasts with the values.
        high: Upper end, not below `low`.
        levels: Number of levels, at least 2.
        ends: The outer levels lie on the ends.
    """

    low: Tensor
    high: Tensor
    levels: int
    ends: bool

    @property
    def _shift(self) -> float:
        """How far the first cell begins before `low`, in steps."""
        return 0.5 if self.ends else 0.0

    def step(self) -> Tensor:
        """Width of a cell; 1 where low equals high, so that it can be divided by."""
        width = (self.high - self.low) / (self.levels - 1 if self.ends else self.levels)
        return torch.where(width > 0, width, 1.0)

    def edge(self, codes: Tensor) -> Tensor:
        """Where the cell of each code begins."""
        return (codes - self._shift).mul_(self.step()).add_(self.low)

    def codes(self, values: Tensor) -> Tensor:
        """Cell of each float32 value: whole numbers in [0, levels), as float64."""
        exact = values.double()
        last = self.levels - 1
        guess = (exact - self.low).div_(self.step()).add_(self._shift).floor_().clamp_(0, last)
        # The division may be off by one where a value lies on an edge; the edges decide.
        codes = guess - 1
        codes += exact >= self.edge(guess)
        codes += exact >= self.edge(guess + 1)
        return codes.clamp_(0, last)

    def values(self, codes: Tensor) -> Tensor:
        """Level of each code, float32."""
        level = (codes + (0.5 - self._shift)).mul_(self.step()).add_(self.low)
        if self.ends:
            level = torch.where(codes == self.levels - 1, self.high, level.minimum(self.high))
        return level.float()

    def cell(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Smallest and largest float32 value with each code."""
        first = _first_float32_from(self.edge(codes))
        last = torch.nextafter(
            _first_float32_from(self.edge(codes + 1)), torch.tensor(-torch.inf, device=codes.device)
        )
        if self.ends:
            return torch.maximum(first, self.low.float()), torch.minimum(last, self.high.float())
        first = torch.where(codes == 0, -torch.inf, first)
        return first, torch.where(codes == self.levels - 1, torch.inf, last)


def _first_float32_from(bound: Tensor) -> Tensor:
    """Smallest float32 number that is not below a float64 bound."""
    rounded = bound.float()
    up = torch.nextafter(rounded, torch.tensor(torch.inf, device=bound.device))
    return torch.where(rounded.double() < bound, up, rounded)
