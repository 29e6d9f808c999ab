"""Suites are frozen: a version belongs to its content, whatever way the settings came."""

from collections.abc import Mapping
from typing import Any

from experiments.store import digest

CUSTOM = "custom"  # as in `splitbench.leaderboard.board`, which takes a second to import
# What each version of a suite consists of, by `content`. Never change one: add a version.
FROZEN: Mapping[str, str] = {
    "smoke-2": "c7c0d48531c4937d",
    "lite-7": "cdc6583b0105aebe",
    "gpu_lite-5": "5855d668d621afdf",
    "standard-5": "d230f7788905e371",
    "full-5": "bf32534289ffaa99",
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
