"""Documents that other commands leave beside a plan."""

import json
from pathlib import Path
from typing import Any

from experiments.errors import UserError


def read_beside(path: Path, *, schema: int) -> dict[str, Any] | None:
    """A JSON document; None where there is no such file.

    Args:
        path: Of the file.
        schema: The version that it must be of.

    Raises:
        UserError: It is no document, or of another version.
    """
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text(), parse_constant=_refuse)
    except ValueError as error:  # also of text that is no UTF-8
        raise UserError(f"{path} is not a JSON document: {error}") from error
    if not isinstance(raw, dict) or raw.get("schema") != schema:
        raise UserError(f"{path} is of another version: make it again")
    return raw


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")
