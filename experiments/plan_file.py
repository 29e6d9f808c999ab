"""Reading what `splitbench plan` wrote.

A plan.json may come from somebody else. It holds a configuration from which objects are built, so
it may name only what belongs to this project: whoever names another class could run anything.
"""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.errors import UserError
from experiments.planning import OF_A_RUN
from offloading.plan import Plan, PlanError

SCHEMA = 3
OURS = ("offloading", "splitbench")
MODELS = "splitbench.models"  # the only functions of ours that configurations name


def read_document(file: Path) -> dict[str, Any]:
    """The whole document.

    Raises:
        UserError: It cannot be read, is something else, or names what is not of this project.
    """
    try:
        document = json.loads(file.read_text())
    except OSError as error:
        raise UserError(f"cannot read the plan {file}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{file} is not a JSON document: {error}") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise UserError(f"{file} is no plan of this version: make one with `splitbench plan`")
    told = document.get("config", {}), document.get("run", [])
    for reason in (*_strange(told[0]), *_strange_overrides(told[1])):
        raise UserError(f"{file} {reason}; make the plan on this machine instead")
    return document


def _strange(node: Any) -> Iterator[str]:
    """What of a configuration is not of this project."""
    if isinstance(node, str) and "${" in node:
        yield f"has {node!r} where a value was written"
    if isinstance(node, list):
        for part in node:
            yield from _strange(part)
    if isinstance(node, dict):
        if "_target_" in node and not _is_ours(str(node["_target_"])):
            yield f"names {node['_target_']}, which is not of {' or '.join(OURS)}"
        for part in node.values():
            yield from _strange(part)


def _strange_overrides(run: Any) -> Iterator[str]:
    for word in run if isinstance(run, list) else [run]:
        key = str(word).partition("=")[0].lstrip("+~")
        if key.partition(".")[0].partition("@")[0] not in OF_A_RUN or "_target_" in str(word):
            yield f"has the override {word!r}"
        if "${" in str(word):
            yield f"has the override {word!r}"


def _is_ours(target: str) -> bool:
    module, _, name = target.rpartition(".")
    if module.partition(".")[0] not in OURS:
        return False
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return False
    made_here = str(getattr(found, "__module__", "")).partition(".")[0] in OURS
    return made_here and callable(found) and (isinstance(found, type) or module == MODELS)


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
