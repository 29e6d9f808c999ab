"""How the rate of a link changes in time."""

import csv
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PACKET_BITS = 8 * 1500  # what one line of a list of packets stands for
SECONDS_NAMES = ("seconds", "time_s", "time", "timestamp")
MBPS_NAMES = ("mbps", "rate_mbps", "bandwidth_mbps", "throughput_mbps")


class TraceError(ValueError):
    """A file is no bandwidth trace that this version reads."""


@dataclass(frozen=True, kw_only=True)
class BandwidthTrace:
    """Rates that each hold until the next one begins; after the last it starts again.

    Attributes:
        seconds: When each rate begins, ascending, the first 0.
        mbps: Rates in 10^6 bits per second, >= 0, not all 0.
        duration_s: Length of the whole, beyond the last of `seconds`.
        source: Where it is from, for a reader; synthetic ones say so.
    """

    seconds: tuple[float, ...]
    mbps: tuple[float, ...]
    duration_s: float
    source: str

    def __post_init__(self) -> None:
        times, rates = np.array([*self.seconds, self.duration_s]), np.array(self.mbps)
        if len(self.seconds) != len(self.mbps) or not self.mbps or self.seconds[0] != 0:
            raise TraceError("a trace has one rate for each time, and begins at 0 seconds")
        if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
            raise TraceError("the times of a trace must ascend, and end before its duration")
        if not (np.isfinite(rates).all() and (rates >= 0).all() and rates.sum() > 0):
            raise TraceError("the rates of a trace must be finite, not negative, and not all 0")

    @cached_property
    def _times(self) -> NDArray[np.float64]:
        return np.array([*self.seconds, self.duration_s])

    @cached_property
    def _bits(self) -> NDArray[np.float64]:
        """Bits that have passed at each of `_times`."""
        passed = np.cumsum(np.diff(self._times) * np.array(self.mbps) * 1e6)
        return np.concatenate([[0.0], passed])

    def at(self, second: float) -> float:
        """The rate at a time, in 10^6 bits per second."""
        place = np.searchsorted(self._times, second % self.duration_s, side="right") - 1
        return self.mbps[min(int(place), len(self.mbps) - 1)]

    def finish_s(self, start_s: float, bits: float) -> float:
        """When the last of so many bits has left, if the first leaves at `start_s`."""
        if bits <= 0:
            return start_s
        rounds, second = divmod(start_s, self.duration_s)
        done = float(np.interp(second, self._times, self._bits)) + bits
        more, rest = divmod(done, self._bits[-1])
        if rest == 0:  # the last bit leaves in the round before, not after a pause in the next
            more, rest = more - 1, self._bits[-1]
        place = max(int(np.searchsorted(self._bits, rest, side="left")), 1)
        left = (rest - self._bits[place - 1]) / (self.mbps[place - 1] * 1e6)
        return float((rounds + more) * self.duration_s + self._times[place - 1] + left)

    @property
    def mean_mbps(self) -> float:
        """Mean rate."""
        return float(self._bits[-1] / self.duration_s / 1e6)

    @classmethod
    def from_csv(cls, text: str, *, source: str) -> "BandwidthTrace":
        """Two columns: seconds, and 10^6 bits per second, with or without a header.

        The times are shifted to begin at 0; the last rate holds as long as the median of the
        others.

        Raises:
            TraceError: Other columns, or no numbers.
        """
        times, rates = two_columns(text, SECONDS_NAMES, MBPS_NAMES, source=source)
        times = times - times[0]
        last = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
        return cls(
            seconds=tuple(times.tolist()),
            mbps=tuple(rates.tolist()),
            duration_s=float(times[-1]) + last,
            source=source,
        )

    @classmethod
    def from_packets(cls, text: str, *, source: str, bin_s: float = 0.1) -> "BandwidthTrace":
        """One line for each chance to send 1500 bytes: its time in milliseconds (Mahimahi's form).

        Args:
            text: The file.
            source: For a reader.
            bin_s: Chances are counted over so many seconds, > 0.

        Raises:
            TraceError: Another form.
        """
        try:
            times = np.array([int(line) for line in text.split()]) / 1000
        except ValueError as error:
            raise TraceError(f"{source}: want one whole number a line: {error}") from error
        if not times.size or times.min() < 0 or bin_s <= 0:
            raise TraceError(f"{source}: want times >= 0, and bin_s > 0")
        bins = max(int(np.ceil((times.max() + 1e-9) / bin_s)), 1)
        counts = np.bincount(np.minimum((times / bin_s).astype(int), bins - 1), minlength=bins)
        return cls(
            seconds=tuple((np.arange(bins) * bin_s).tolist()),
            mbps=tuple((counts * PACKET_BITS / bin_s / 1e6).tolist()),
            duration_s=bins * bin_s,
            source=source,
        )

    @classmethod
    def read(cls, path: Path) -> "BandwidthTrace":
        """A file: comma-separated values, or (one number a line) a list of packets.

        Raises:
            TraceError: It cannot be read, or has another form.
        """
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise TraceError(f"cannot read the trace {path}: {error}") from error
        if "," in text:
            return cls.from_csv(text, source=path.name)
        return cls.from_packets(text, source=path.name)

    @classmethod
    def synthetic(
        cls, *, mean_mbps: float, spread: float = 0.5, duration_s: int = 120, seed: int = 0
    ) -> "BandwidthTrace":
        """An invented trace: the logarithm of the rate wanders about its mean, second by second.

        Measured by nobody. Good for tests and for comparing policies with each other, not for
        saying what a network does.

        Args:
            mean_mbps: Of the whole trace, > 0.
            spread: Standard deviation of the logarithm, >= 0.
            duration_s: Seconds.
            seed: Of the draw.
        """
        draws = np.random.default_rng(seed).standard_normal(duration_s)
        level, logs = 0.0, []
        for draw in draws:
            level = 0.9 * level + spread * float(np.sqrt(1 - 0.9**2)) * draw
            logs.append(level)
        rates = np.exp(np.array(logs))
        rates *= mean_mbps / rates.mean()
        return cls(
            seconds=tuple(np.arange(duration_s, dtype=float).tolist()),
            mbps=tuple(rates.tolist()),
            duration_s=float(duration_s),
            source=f"synthetic, seed {seed}",
        )


def two_columns(
    text: str, first: tuple[str, ...], second: tuple[str, ...], *, source: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two columns of numbers: those that a header names, or the first two where there is none.

    Args:
        text: Comma-separated values; lines that begin with # are left out.
        first: Names of the first column, in small letters.
        second: Names of the second one.
        source: For a reader.

    Raises:
        TraceError: Other columns, or no numbers.
    """
    rows = [row for row in csv.reader(io.StringIO(text)) if row and not row[0].startswith("#")]
    places = (0, 1)
    if rows and not _is_number(rows[0][0]):
        names = [name.strip().lower() for name in rows.pop(0)]
        places = (_column(names, first, source), _column(names, second, source))
    try:
        found = np.array([[float(row[place]) for place in places] for row in rows])
    except (ValueError, IndexError) as error:
        raise TraceError(f"{source}: a row has no two numbers: {error}") from error
    if not rows:
        raise TraceError(f"{source}: no rows")
    return found[:, 0], found[:, 1]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _column(names: list[str], wanted: tuple[str, ...], source: str) -> int:
    for name in wanted:
        if name in names:
            return names.index(name)
    raise TraceError(f"{source}: columns {names}, want one of {wanted}")
