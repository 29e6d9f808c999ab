"""The file that `splitbench plan` writes, read by the commands that go on from it."""

import json
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from offloading.plan import Plan, PlanError

SCHEMA = 1


def read_document(file: Path) -> dict[str, Any]:
    """The whole document.

    Raises:
        UserError: It cannot be read, or is something else.
    """
    try:
        document = json.loads(file.read_text())
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{file} is no plan of `splitbench plan`: {error}") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UserError(f"{file} is no plan of `splitbench plan` that this version reads")
    return document


def chosen(document: dict[str, Any], wanted: list[int] | None, most: int) -> dict[str, Plan]:
    """Plans of a file by name: those named, or the recommended one and the baselines.

    Raises:
        UserError: There is no such plan.
        PlanError: The file holds something else.
    """
    try:
        plans = [Plan.from_dict(each) for each in document["plans"]]
        baselines = [Plan.from_dict(each) for each in document["baselines"].values()]
        recommended = document["recommended"]
    except (KeyError, TypeError, AttributeError) as error:
        raise PlanError(f"not what `splitbench plan` writes: {error!r} is missing") from error
    if wanted is not None:
        if not all(isinstance(i, int) and 0 <= i < len(plans) for i in wanted):
            raise UserError(f"plans={wanted}: the file has plans 0 to {len(plans) - 1}")
        picked = [plans[i] for i in wanted]
    else:
        picked = [*([] if recommended is None else [plans[recommended]]), *baselines]
    named = {str(plan.placement): plan for plan in picked}
    return dict([*named.items()][: most if wanted is None else None])
