"""Runs of the real command line, in processes of their own."""

import json
import os
import sys
from pathlib import Path

QUICK = ["debug=smoke", "cuts=[relu1,relu3]"]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "experiments.cli", *arguments]


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", **extra}


def records(runs: Path) -> dict[str, dict]:
    """All records of a results folder by cell id, without what a clock decides."""
    found = {}
    for path in sorted((runs / "cells").glob("*.json")):
        record = json.loads(path.read_text())
        timeless = {
            k: v for k, v in record["cost"].items() if not k.endswith(("_ms", "_p95", "seconds"))
        }
        found[path.stem] = {**record, "cost": timeless}
    return found
