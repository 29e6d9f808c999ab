"""What the runtime itself takes to carry a message from one machine to the next."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Bytes = TypeVar("Bytes", float, NDArray[np.float64])
_MB = 1e6


@dataclass(frozen=True, kw_only=True)
class Carrying:
    """Framing, checksums, and threads that have to wake up: what a link's formula leaves out.

    Attributes:
        up_ms: For a message without any content, at both ends together, >= 0.
        up_ms_per_mb: For each 10^6 bytes of it, >= 0.
        down_ms: For the reply, >= 0.
        late_ms: How much longer than the median both ways take in one of twenty requests, >= 0.
    """

    up_ms: float
    up_ms_per_mb: float
    down_ms: float
    late_ms: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 <= value < math.inf for value in asdict(self).values()):
            raise ValueError(f"{self}: want finite times, none of them negative")

    def there_ms(self, message_bytes: Bytes) -> Bytes:
        """Of a message of so many bytes."""
        return self.up_ms + message_bytes * (self.up_ms_per_mb / _MB)

    @classmethod
    def fitted(
        cls,
        sizes: Sequence[float],
        up_ms: Sequence[float],
        down_ms: Sequence[float],
        late_ms: Sequence[float],
    ) -> "Carrying":
        """From the medians of messages of several sizes over a way that takes no time itself.

        Args:
            sizes: In bytes.
            up_ms: Of each size, there.
            down_ms: Of each size, back.
            late_ms: By how much one of twenty is later, both ways together.

        Raises:
            ValueError: No sizes.
        """
        if not len(sizes):
            raise ValueError("want messages of at least one size")
        design = np.stack([np.ones(len(sizes)), np.asarray(sizes, dtype=np.float64) / _MB], axis=1)
        (constant, per_mb), _ = nnls(design, np.maximum(np.asarray(up_ms, dtype=np.float64), 0.0))
        return cls(
            up_ms=float(constant),
            up_ms_per_mb=float(per_mb),
            down_ms=max(float(np.median(down_ms)), 0.0),
            late_ms=max(float(np.median(late_ms)), 0.0),
        )


def between(ends: Sequence[tuple[Carrying, float]]) -> Carrying:
    """What both ends of a hop take together, of which each does an equal part.

    Args:
        ends: What was measured on a machine like each end, and by how much slower that end is.
    """
    parts = [(asdict(found), slower / len(ends)) for found, slower in ends]
    names = asdict(ends[0][0])
    return Carrying(**{name: sum(found[name] * share for found, share in parts) for name in names})
