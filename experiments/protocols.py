"""Suites are frozen: a version belongs to its content, whatever way the settings came."""

from collections.abc import Mapping
from typing import Any

from experiments.store import digest

CUSTOM = "custom"  # as in `splitbench.leaderboard.board`, which takes a second to import
# What each version of a suite consists of, by `content`. Never change one: add a version.
FROZEN: Mapping[str, str] = {
    "smoke": "ee2fce66f79974ed",
    "lite-6": "f8995cb360fc563e",
    "gpu_lite-4": "2364798486386a0a",
    "standard-4": "f2a3419ca443ad41",
    "full-4": "79af3f7a9f80016c",
}


def protocol(config: Mapping[str, Any]) -> str:
    """The suite's version, or ``custom`` where the attacks are not exactly those of that version.

    Args:
        config: All settings of a job, resolved.
    """
    named = str(config["protocol"])
    return named if not config.get("attack") and FROZEN.get(named) == content(config) else CUSTOM


def content(config: Mapping[str, Any]) -> str:
    """Names a suite by all settings of all its attacks, and who runs which of them."""
    return digest({"attacks": config["attacks"], "without": config["without"]})
