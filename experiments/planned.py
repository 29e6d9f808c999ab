"""A plan that was written, with the scenario that it was made for."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.compose import apart
from experiments.errors import UserError
from experiments.plan_file import read_document
from experiments.planning import composed
from experiments.scenario import only, scenario_of
from offloading.plan import Plan, PlanError
from offloading.scenario import Scenario

# What a plan's phases do not hang on: the rest asks for another plan.
FREE = ("pricing", "cold_start", "down_usd_per_gb", "up_usd_per_gb", "jitter_ms", "trusted")


@dataclasses.dataclass(frozen=True)
class Planned:
    """What a plan.json holds.

    Attributes:
        plan: The one that was asked for.
        scenario: As it was planned for, changed as the command line says.
    """

    plan: Plan
    scenario: Scenario


def planned(path: Path, which: int | str | None, overrides: Sequence[str]) -> Planned:
    """Read a plan.json.

    Args:
        path: The file, or the folder that has it.
        which: Number of a plan of the front, name of a baseline, or None for the recommended one.
        overrides: Of `workload` and of `scenario`, and perhaps ``--config-dir``.

    Raises:
        UserError: It cannot be read, has no such plan, or an override does not fit it.
    """
    document = read_document(path / "plan.json" if path.is_dir() else path)
    try:
        plan = Plan.from_dict(_chosen(document, which))
        config = _changed(document["config"], overrides)
        scenario = scenario_of(config["scenario"], config["workload"])
        return Planned(plan, only(scenario, config.get("only")))
    except (KeyError, TypeError, PlanError) as error:
        raise UserError(f"{path}: not a plan of this version: {error}") from error


def _chosen(document: Mapping[str, Any], which: int | str | None) -> Any:
    plans, baselines = document["plans"], document["baselines"]
    wanted = document["recommended"] if which is None else which
    if wanted is None:
        raise UserError(
            f"nothing was recommended; take plan=0 to plan={len(plans) - 1}, or {_some(baselines)}"
        )
    if isinstance(wanted, int) and 0 <= wanted < len(plans):
        return plans[wanted]
    if wanted in baselines:
        return baselines[wanted]
    raise UserError(
        f"there is no plan {wanted}; take plan=0 to plan={len(plans) - 1}, or {_some(baselines)}"
    )


def _some(names: Mapping[str, Any]) -> str:
    return " or ".join(f"plan='{name}'" for name in names)


def _changed(config: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The plan's own configuration; a workload that is named takes the place of its own."""
    own = {key: config[key] for key in ("scenario", "workload", "only")}
    folder, overrides = apart(overrides)
    parsed = OverridesParser.create().parse_overrides(overrides)
    named = [each for each in parsed if each.key_or_group == "workload"]
    if named:
        words = [*folder, *(str(each.input_line) for each in named)]
        own["workload"] = composed("plan", words)[0]["workload"]
    found = OmegaConf.create(own)
    OmegaConf.set_struct(found, True)
    for each in parsed:
        if each not in named:
            _check_free(each)
            try:
                OmegaConf.update(found, each.key_or_group, each.value(), force_add=each.is_add())
            except OmegaConfBaseException as error:
                raise UserError(f"the plan has no setting {each.key_or_group}") from error
    changed: dict[str, Any] = OmegaConf.to_container(found, resolve=True)  # type: ignore[assignment]
    for tier in changed["scenario"]["tiers"].values():
        tier["profile"] = None  # its times are in the plan; the file may be elsewhere
    return changed


def _check_free(override: Override) -> None:
    group, *path = override.key_or_group.split(".")
    if group == "workload" or (group == "scenario" and {*path} & {*FREE}):
        return
    raise UserError(
        f"{override.input_line}: the times of a plan hang on it; make another plan with "
        f"`splitbench plan {override.input_line}`"
    )
