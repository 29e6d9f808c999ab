"""Peak memory of a run against the number of target images."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

TARGETS = (1000, 6000)
SETTINGS = (
    "model=six_conv",
    "cuts=[relu11]",  # the largest release: 200 kB of each image
    "training.epochs=1",
    "data.sizes.train=500",
    "data.sizes.auxiliary=500",
    "data.sizes.calibration=300",
    "attack=inverse_network_lite",
    "attack.steps=10",
)


def peak(*arguments: str) -> float:
    """Largest resident memory of one ``splitbench run``, in MB."""
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.cli", "run", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"splitbench run {' '.join(arguments)} failed")
    return usage.ru_maxrss / 1000


def measure() -> Iterator[str]:
    """The same job on few targets and on many."""
    found = []
    for targets in TARGETS:
        with tempfile.TemporaryDirectory() as folder:
            found.append(peak(*SETTINGS, f"data.sizes.target={targets}", f"paths.runs={folder}"))
    few, many = found
    released = (TARGETS[1] - TARGETS[0]) * 0.2007
    yield (
        f"{TARGETS[0]} targets {few:.0f} MB, {TARGETS[1]} targets {many:.0f} MB: "
        f"{many / few:.2f} x, where what they release grows by {released:.0f} MB"
    )
