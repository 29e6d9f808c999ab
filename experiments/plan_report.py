"""The report of a plan that was written, with what was found out since."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from experiments.console import Reporter
from experiments.divided import divided
from experiments.errors import UserError
from experiments.explain import sentence
from experiments.leaderboard import write
from experiments.plan_file import read_document
from experiments.plan_page.checks import BESIDE, read_checks
from experiments.plan_page.render import render
from experiments.plan_page.report import Report
from experiments.planning import Question, ask, composed
from offloading.plan import Plan
from offloading.profile import Profile, ProfileError
from offloading.sensitivity import changes


def page(report: Report, plan: Path) -> str:
    """The report with what lies beside the plan: measured.json, simulated.json, adapted.json.

    Raises:
        UserError: One of them is none of this version.
    """
    asked, outcome = report.asked, report.outcome
    front = _front(report)
    baselines = {str(judged.plan.placement) for judged in outcome.baselines.values()}
    found = read_checks(plan.parent, front | baselines, front)
    doubts = changes(asked.planner, asked.constraints, minimise=report.minimise)
    return render(
        asked, outcome, doubts, minimise=report.minimise, checks=found, division=divided(asked)
    )


def restored(raw: dict[str, Any], reporter: Reporter, own: Sequence[str] = ()) -> Report:
    """What the document was made from, asked once more.

    Raises:
        UserError: The document was changed, or records have gone.
    """
    asked = rebuilt(raw, reporter, own)
    try:
        minimise = str(raw["config"]["minimise"])
        outcome = asked.planner.outcome(asked.constraints, minimise=minimise)
    except (KeyError, ValueError) as error:
        raise UserError(f"the plan cannot be made again: {error}") from error
    return Report(asked, outcome, minimise=minimise)


def rebuilt(raw: dict[str, Any], reporter: Reporter, own: Sequence[str] = ()) -> Question:
    """The planner again, from the configuration and the profile in the document.

    Raises:
        UserError: The document was changed, or records have gone.
    """
    try:
        run = [str(word) for word in raw["run"]]
        _, choices = composed("plan", [*own, *run])
        profile = Profile.from_json(json.dumps(raw["profile"]))
        return ask(raw["config"], choices, run, reporter, profile=profile)
    except (ProfileError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the plan cannot be made again: {error}") from error


def refreshed(plan: Path, found: Path, reporter: Reporter, own: Sequence[str] = ()) -> str | None:
    """Write report.html beside a plan again, after something was found out about the plan.

    The report is worth less than what was found, which is written already: so nothing is raised
    where the report cannot be made.

    Args:
        plan: The file.
        found: What was written; another place than beside the plan is not looked at.
        reporter: Says what takes long.
        own: ``--config-dir``, where a folder of the user's has what the plan was made with.

    Returns:
        A line for the user: where the report is, or why it is as it was. None where there was no
        reason to write it.
    """
    if found.name not in BESIDE or found.resolve().parent != plan.resolve().parent:
        return None
    out = plan.parent / "report.html"
    try:
        raw = read_document(plan)
        report = restored(raw, reporter, own)
        _check_same(raw, report)
        write(out, page(report, plan))
    except (UserError, HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        return f"{out} was not written again: {sentence(error)}"
    return f"report: {out}"


def _front(report: Report) -> set[str]:
    """Names of the plans that a plan file lists."""
    outcome = report.outcome
    plans = [judged.plan for judged in outcome.listed]
    plans += [] if outcome.recommended is None else [outcome.recommended]
    return {str(plan.placement) for plan in plans}


def _check_same(raw: dict[str, Any], report: Report) -> None:
    """That today's records give the plans of the file, of which something was found out.

    Raises:
        UserError: They give others.
    """
    if {str(Plan.from_dict(each).placement) for each in raw["plans"]} != _front(report):
        raise UserError("records have changed and give another front: make the plan again")
