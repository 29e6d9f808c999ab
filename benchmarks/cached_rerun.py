"""A run that finds everything done against the run that did it."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator


def seconds(*arguments: str) -> float:
    """Wall time of one ``splitbench run``."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "experiments.cli", "run", *arguments],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    return time.perf_counter() - began


def measure() -> Iterator[str]:
    """One job of the demo, from nothing and again."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = (
            "cuts=[relu1,pool1,relu2,pool2,relu3,relu4]",
            f"paths.runs={folder}",
        )
        first, again = seconds(*arguments), seconds(*arguments)
    yield f"first {first:.1f} s, again {again:.2f} s: {first / again:.0f} x"
