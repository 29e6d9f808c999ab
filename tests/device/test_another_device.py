"""Everything computes on another device what it computes on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import repeat

SCRIPT = str(Path(__file__).parent / "repeat.py")
VILLAINS = ["LeftBehind", "HalfMoved"]
ROUNDING = 2e-3  # of values around 1: a short training amplifies the last digit
TOGETHER = 32  # in one process and one test: starting one takes as long as many of them

NAMES = [name for name in repeat.everything() if name not in VILLAINS]


def repeated(names):
    """What came of each, by name."""
    command = [sys.executable, SCRIPT, *names]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {found["name"]: found for found in map(json.loads, told.splitlines())}
    assert list(found) == list(names)
    return found


def complaint(found):
    """What is wrong with what came of one of them; empty where nothing is."""
    if "error" in found:
        return found["error"]
    if found["device"] != "twin":
        return f"computed on {found['device']}"
    return "" if found["off"] < ROUNDING else f"off by {found['off']}"


@pytest.mark.parametrize("first", range(0, len(NAMES), TOGETHER), ids=lambda i: NAMES[i])
def test_they_compute_the_same_on_another_device(first):
    found = repeated(NAMES[first : first + TOGETHER])
    wrong = {name: complaint(one) for name, one in found.items() if complaint(one)}
    assert not wrong


def test_what_stays_behind_is_found():
    assert all("same device" in complaint(found) for found in repeated(VILLAINS).values())


@pytest.mark.parametrize(
    "found", [{"device": "cpu", "off": 0.0}, {"device": "twin", "off": 1.0}, {"error": "no"}]
)
def test_who_computes_elsewhere_or_something_else_is_found(found):
    assert complaint(found)
