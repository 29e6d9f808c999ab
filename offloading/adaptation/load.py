"""How many requests of others wait at the server, over time."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offloading.bandwidth import SECONDS_NAMES, TraceError, two_columns

WAITING_NAMES = ("waiting", "requests waiting", "requests_waiting", "requests", "load")


@dataclass(frozen=True, kw_only=True)
class Load:
    """Numbers that each hold until the next one begins; the last one holds for ever.

    Attributes:
        seconds: When each begins, ascending, the first 0.
        waiting: Requests that wait, >= 0.
        source: Where they are from, for a reader.
    """

    seconds: tuple[float, ...]
    waiting: tuple[float, ...]
    source: str

    def __post_init__(self) -> None:
        times, numbers = np.array(self.seconds), np.array(self.waiting)
        if times.shape != numbers.shape or not times.size or times[0] != 0:
            raise TraceError(f"{self.source}: the first line of a load must be of second 0")
        if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
            raise TraceError(f"{self.source}: the times of a load must ascend")
        if not (np.isfinite(numbers).all() and (numbers >= 0).all()):
            raise TraceError(f"{self.source}: the requests that wait must be numbers >= 0")

    @property
    def is_nothing(self) -> bool:
        """Whether nobody ever waits."""
        return not any(self.waiting)

    def at(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Requests that wait at some times >= 0, ``(n,)``."""
        places = np.searchsorted(self.seconds, seconds, side="right") - 1
        return np.array(self.waiting, dtype=np.float64)[places]

    def words(self) -> str:
        """How many wait, for a reader."""
        least, most = min(self.waiting), max(self.waiting)
        many = f"{most:g}" if least == most else f"{least:g} to {most:g}"
        return f"{many} requests of others waiting at the server ({self.source})"

    @classmethod
    def constant(cls, waiting: float) -> "Load":
        """The same number at all times.

        Raises:
            TraceError: It is no number >= 0.
        """
        return cls(seconds=(0.0,), waiting=(waiting,), source=f"load={waiting:g}")

    @classmethod
    def read(cls, path: Path) -> "Load":
        """A file with two columns: seconds, and requests that wait; with or without a header.

        Raises:
            TraceError: It cannot be read, or has another form.
        """
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise TraceError(f"cannot read the load {path}: {error}") from error
        times, waiting = two_columns(text, SECONDS_NAMES, WAITING_NAMES, source=path.name)
        return cls(seconds=tuple(times.tolist()), waiting=tuple(waiting.tolist()), source=path.name)
