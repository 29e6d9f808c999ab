"""Everything computes on another device what it computes on the CPU."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import repeat

SCRIPT = str(Path(__file__).parent / "repeat.py")
VILLAINS = ["LeftBehind", "HalfMoved"]
ROUNDING = 2e-3  # of values around 1: a short training amplifies the last digit
TOGETHER = 12  # in one process: starting one takes as long as a few of them

NAMES = list(repeat.everything())


@cache
def computed(group):
    """What came of those that are computed together, by name."""
    first = group * TOGETHER
    command = [sys.executable, SCRIPT, *NAMES[first : first + TOGETHER]]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {found["name"]: found for found in map(json.loads, told.splitlines())}


def repeated(name):
    """What came of one of them."""
    return computed(NAMES.index(name) // TOGETHER)[name]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in VILLAINS])
def test_it_computes_the_same_on_another_device(name):
    found = repeated(name)
    assert "error" not in found, found["error"]
    assert found["device"] == "twin"
    assert found["off"] < ROUNDING


@pytest.mark.parametrize("villain", VILLAINS)
def test_what_stays_behind_is_found(villain):
    assert "same device" in repeated(villain)["error"]
