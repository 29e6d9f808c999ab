"""A Laplace law for every element of the live tensors: a piece, not a defense."""

import math

from defenses.learnt_buffers import LearntBuffers
from defenses.noise_laws import median
from defenses.noise_scale import QUIETEST
from splitbench.release import Tensors


class LaplaceLaw(LearntBuffers):
    """Location and standard deviation of each element of the live tensors."""

    @property
    def locations(self) -> Tensors:
        """Medians, one tensor ``(*shape)`` for each live one.

        Raises:
            RuntimeError: Nothing was fitted or loaded yet.
        """
        return self._kept("location")

    @property
    def stds(self) -> Tensors:
        """Standard deviations, likewise: ``sqrt(2)`` times the scales."""
        return self._kept("std")

    def fit(self, samples: Tensors) -> None:
        """By maximum likelihood, element by element.

        An element on which the samples agree gets a share of the mean scale all the same: without
        noise it would be released in clear.

        Args:
            samples: For each live tensor ``(n, *shape)``.
        """
        self._buffers.clear()
        for i, values in enumerate(samples):
            (location,) = median([(value,) for value in values])
            std = math.sqrt(2) * (values - location).abs().mean(0)
            self.register_buffer(f"location_{i}", location)
            self.register_buffer(f"std_{i}", std.clamp(min=QUIETEST * float(std.mean())))

    def _kept(self, name: str) -> Tensors:
        if not self._buffers:
            raise RuntimeError("the law of the noise is unknown: call fit() before protect()")
        return tuple(self.get_buffer(f"{name}_{i}") for i in range(len(self._buffers) // 2))
