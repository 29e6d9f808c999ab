"""The settings of a run that no class of its own checks."""

from collections.abc import Mapping
from typing import Any

from experiments.errors import UserError
from splitbench.threat_model import Access

KEYS = frozenset({
    "attack", "attacks", "auxiliary", "claimed", "codec", "cuts", "data", "defense", "device",
    "gallery", "inferences", "latency", "metric_examples", "metrics", "model", "model_name",
    "paths", "protocol", "seed", "target_role", "targets", "threads", "threat", "tracking",
    "training", "without",
})  # fmt: skip
TARGET_ROLES = ("target", "train")
_LEAST = {"seed": 0, "gallery": 0, "targets": 1, "threads": 1}
_MAY_BE_NULL = frozenset({"targets", "threads"})
_WITH_SETTINGS = {
    "latency": "latency.runs=10",
    "metric_examples": "metric_examples.lpips=32",
    "without": "'+without.inverse_network=architecture'",
}
_LEAST_LATENCY = {"runs": 1, "warmup": 0, "threads": 1}


def check_settings(config: Mapping[str, Any]) -> None:
    """Refuse what would be ignored, or fail only after the work has begun.

    Raises:
        UserError: A key that nothing reads, or a value that is not the number it should be.
    """
    if config["target_role"] not in TARGET_ROLES:
        raise UserError(f"target_role={config['target_role']!r}: choose from {TARGET_ROLES}")
    unknown = sorted(set(config) - KEYS)
    if unknown:
        raise UserError(f"nothing reads the setting '{unknown[0]}': leave it out")
    for key, example in _WITH_SETTINGS.items():
        if not isinstance(config[key], Mapping):
            raise UserError(f"{key}={config[key]!r}: it has settings of its own; say {example}")
    for key, least in _LEAST.items():
        if config[key] is not None or key not in _MAY_BE_NULL:
            _whole(key, config[key], least)
    for key, least in _LEAST_LATENCY.items():
        _whole(f"latency.{key}", config["latency"].get(key), least)
    for key, value in config["metric_examples"].items():
        _whole(f"metric_examples.{key}", value, 1)
    for attack, access in config["without"].items():
        if attack not in config["attacks"] or access not in [*Access]:
            raise UserError(
                f"without.{attack}={access}: want an attack of the suite, and one of "
                f"{', '.join(Access)}"
            )
    for role, size in (config["data"].get("sizes") or {}).items():
        if isinstance(size, bool) or not isinstance(size, int | float):
            raise UserError(
                f"data.sizes.{role}={size!r}: want a number of images, or a share between 0 and 1"
            )


def _whole(key: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{key}={value!r}: want a whole number, at least {least}")
