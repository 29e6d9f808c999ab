"""Everything computes on another device what it computes on the CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = str(Path(__file__).parent / "repeat.py")
VILLAINS = ["LeftBehind", "HalfMoved"]
ROUNDING = 2e-3  # of values around 1: a short training amplifies the last digit


def repeat(*arguments):
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


NAMES = json.loads(repeat("--list"))


@pytest.fixture(scope="module")
def repeated():
    return {found["name"]: found for found in map(json.loads, repeat().splitlines())}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in VILLAINS])
def test_it_computes_the_same_on_another_device(repeated, name):
    found = repeated[name]
    assert "error" not in found, found["error"]
    assert found["device"] == "twin"
    assert found["off"] < ROUNDING


@pytest.mark.parametrize("villain", VILLAINS)
def test_what_stays_behind_is_found(repeated, villain):
    assert "same device" in repeated[villain]["error"]
