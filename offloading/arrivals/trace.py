"""Requests as somebody recorded them, minute by minute."""

import csv
import math
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offloading.workload import Arrivals

SAMPLE = Path(__file__).parents[1] / "assets" / "synthetic_minutes.csv"
MINUTE_S = 60.0
MEASURED = 200_000  # arrivals from which the variability of a trace is taken, at most


class TraceError(ValueError):
    """A file is no trace of requests per minute, or lacks what was asked for."""


class Trace(Arrivals):
    """Recorded numbers of requests per minute, over and over.

    Within a minute requests come at independent times, since nobody recorded more: how variable
    the times between them are is measured on that assumption.

    Args:
        path: A csv file as `minute_counts` reads it; empty takes a sample, which is made up.
        function: Beginning of the ``HashFunction`` of one row; empty takes all rows together.
        scale: By which the numbers of requests are multiplied, > 0.
    """

    def __init__(self, *, path: str = "", function: str = "", scale: float = 1.0) -> None:
        if not 0 < scale < math.inf:
            raise ValueError(f"scale={scale}: must be positive and finite")
        self.path = path
        self.function = function
        self.scale = scale

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Requests in each minute, as they were recorded.

        Raises:
            TraceError: The file cannot be read, or nothing was recorded.
        """
        path = Path(self.path) if self.path else SAMPLE
        found = minute_counts(path, self.function)
        if not found.any():
            raise TraceError(f"{path}: no requests in {found.size} minutes")
        return found

    @cached_property
    def rate_per_s(self) -> float:  # type: ignore[override]  # nobody sets what is recorded
        """Mean over the whole trace, times `scale`."""
        return float(self.scale * self.counts.mean() / MINUTE_S)

    @cached_property
    def variability(self) -> float:
        """Measured over one pass of the trace, or the beginning of it where it is long."""
        expected = self.scale * float(self.counts.sum())
        count = int(min(max(expected, 1_000.0), MEASURED))
        gaps = np.diff(self.times(count, rng=np.random.default_rng(0)), prepend=0.0)
        return float(gaps.var() / gaps.mean() ** 2)

    def times(self, count: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
        """As many as were recorded in each minute, times `scale`, rounded up or down by chance."""
        passes: list[NDArray[np.float64]] = []
        found = 0
        while found < count:
            arrived = np.floor(self.scale * self.counts + rng.random(self.counts.size))
            minutes = np.repeat(np.arange(self.counts.size), arrived.astype(np.int64))
            within = np.sort(minutes + rng.random(minutes.size))
            passes.append((len(passes) * self.counts.size + within) * MINUTE_S)
            found += minutes.size
        return np.concatenate([np.zeros(0), *passes])[:count]


def minute_counts(path: Path, function: str = "") -> NDArray[np.int64]:
    """Read requests per minute in the format of the Azure Functions trace of 2019.

    One row for each function and day: ``HashOwner,HashApp,HashFunction,Trigger,1,2,...,1440``,
    where the numbered columns are minutes. Lines that begin with ``#`` are skipped.

    Args:
        path: The file.
        function: Beginning of the ``HashFunction`` of the one row that is wanted; empty adds all
            rows up.

    Raises:
        TraceError: It cannot be read, has another format, or not just one such row.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(line for line in file if not line.startswith("#"))
            minutes = [name for name in rows.fieldnames or () if name.isdecimal()]
            if "HashFunction" not in (rows.fieldnames or ()) or not minutes:
                raise TraceError(f"{path}: want a column HashFunction and one for each minute")
            total, matched = np.zeros(len(minutes), dtype=np.int64), 0
            for row in rows:
                if str(row["HashFunction"]).startswith(function):
                    total += _counts(row, minutes, path)
                    matched += 1
    except OSError as error:
        raise TraceError(f"cannot read the trace {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path} is not a csv file: {error}") from error
    if not matched or (function and matched > 1):
        raise TraceError(f"{path}: {matched} rows whose HashFunction begins with {function!r}")
    return total


def _counts(row: dict[str, str], minutes: list[str], path: Path) -> NDArray[np.int64]:
    try:
        found = np.array([int(row[minute]) for minute in minutes], dtype=np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise TraceError(f"{path}, {row['HashFunction']}: not a number: {error}") from error
    if (found < 0).any():
        raise TraceError(f"{path}, {row['HashFunction']}: less than no requests in a minute")
    return found
