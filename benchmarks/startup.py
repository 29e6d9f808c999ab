"""How long a user waits for ``splitbench --help``."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

RUNS = 7


def seconds(*command: str) -> float:
    """Median wall time of a command."""
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure() -> Iterator[str]:
    """Compare the help with a bare interpreter and with importing torch."""
    bare = seconds(sys.executable, "-c", "pass")
    help_ = seconds(sys.executable, "-m", "experiments.cli", "--help")
    heavy = seconds(sys.executable, "-c", "import torch")
    yield (
        f"--help {help_:.2f} s: {help_ / bare:.1f} x a bare interpreter, "
        f"{help_ / heavy:.2f} x importing torch"
    )
