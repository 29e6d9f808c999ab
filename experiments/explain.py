"""Hydra's errors in one sentence, with the remedy."""

import difflib
from collections.abc import Iterable

from hydra.core.override_parser.overrides_parser import OverrideParseException
from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

SHOWN = 60  # choices named in a sentence
# What optional plugins bring to hydra's groups, and the extra that installs them.
EXTRAS = {
    "hydra/sweeper/optuna": "optuna",
    "hydra/launcher/ray": "ray",
    "hydra/launcher/submitit_local": "slurm",
    "hydra/launcher/submitit_slurm": "slurm",
}


def sentence(error: BaseException) -> str:
    """What went wrong, and what to do about it."""
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _no_choice(error.missing_cfg_file, list(error.options or ()))
    if isinstance(error, OverrideParseException):
        return f"cannot read '{error.override}': write KEY=VALUE; quote commas, spaces and brackets"
    if isinstance(cause, OmegaConfBaseException) and cause.key is not None:
        return _no_key(str(cause.full_key), _siblings(cause))
    text = " ".join(str(error).split())
    if isinstance(error, HydraException) and cause is not None and str(cause) not in text:
        return f"{text} ({cause})"
    return text


def _no_choice(file: str, options: list[str]) -> str:
    group, _, name = file.rpartition("/")
    if file in EXTRAS:
        return f"{group}={name} is not installed: pip install '.[{EXTRAS[file]}]' brings it"
    return f"there is no {group} '{name}'{_meant(name, options)}; choose from {_some(options)}"


def _no_key(key: str, siblings: list[str]) -> str:
    parent, _, name = key.rpartition(".")
    where = f"{parent} has" if parent else "there is"
    meant = _meant(name, siblings)
    return f"{where} no setting '{name}'{meant}; choose from {_some(siblings)}"


def _siblings(error: OmegaConfBaseException) -> list[str]:
    found = error.parent_node.keys() if hasattr(error.parent_node, "keys") else ()
    hidden = "_target_", "_partial_", "hydra"
    return [str(key) for key in found if key not in hidden]


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _some(names: list[str]) -> str:
    if not names:
        return "nothing: it holds no settings"
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN else ""
    return ", ".join(sorted(names)[:SHOWN]) + more
