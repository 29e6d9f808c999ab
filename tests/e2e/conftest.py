"""One finished run that several tests read."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import QUICK, command, environment


@pytest.fixture(scope="session")
def splitbench() -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            env=environment(**extra),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def finished(splitbench, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """An uninterrupted run."""
    runs = tmp_path_factory.mktemp("runs")
    done = splitbench("run", *QUICK, f"paths.runs={runs}")
    assert done.returncode == 0, done.stderr
    return runs, done
