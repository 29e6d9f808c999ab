"""``splitbench explain``: what a plan's numbers rest on, and why not another placement."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from experiments.compose import about, configured, plain
from experiments.console import Reporter
from experiments.errors import UserError
from experiments.explain import sentence
from experiments.leaderboard import write
from experiments.plan_file import read_document
from experiments.plan_page.reasons import why_not
from experiments.plan_page.report import Report
from experiments.plan_page.words import LIMITS, MARKS, NAMES, between, marked, value
from experiments.plan_report import page, restored
from offloading.plan import Placement, Plan
from offloading.planner import Index, NoSuchPlanError

NEAR = 12  # placements named where one was not found
WIDTH = 160  # where there is no terminal to ask
HELP = """\
Print the phases of the recommended placement with what each number rests on, and, for any other
placement, why it is not the recommended one: limits that it exceeds, a placement that is nowhere
worse, or how far it is behind.

usage: splitbench explain PLAN.json [KEY=VALUE ...]

  PLAN.json                  what `splitbench plan` wrote
  why=7                      a placement: its number among the data lines of front.csv (1 is the
                             first; fronts and baselines)
  "why='phone > edge @ relu2 : undefended'"
                             or TIERS @ CUTS : OPTION; 'phone' alone runs everything
  why=[7,12]                 several
  report=true                write report.html beside the plan again, with measured.json,
                             simulated.json and adapted.json
  --config-dir=DIR           as the plan was made with
"""


def main(arguments: Sequence[str]) -> int:
    """Explain; user errors end in one sentence and exit code 2."""
    words = list(arguments)
    if {"-h", "--help"} & set(words) or not words:
        sys.stdout.write(HELP)
        return 0 if words else 2
    try:
        own, file, overrides = about(words, "a file that `splitbench plan` wrote")
        config = plain(configured("explain", [*own, *overrides]))
        report = restored(read_document(Path(file)), Reporter("explain"), own)
        others = [(each, find(report, each)) for each in asked_for(config["why"])]
        if config["report"]:
            write(Path(file).parent / "report.html", page(report, Path(file)))
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        sys.stderr.write(f"error: {sentence(error)}\n")
        return 2
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    _tell_recommended(console, report)
    for each, index in others:
        console.print(f"\nWhy not {each}?", highlight=False, markup=False)
        _tell(console, report, index)
    return 0


def asked_for(why: Any) -> list[str]:
    """The placements of the setting ``why``: one, or a list of them."""
    return [str(each) for each in (why if isinstance(why, list) else [why])]


def find(report: Report, words: str) -> Index:
    """The placement that a user names.

    Raises:
        UserError: There is none of this kind; the message says which there are.
    """
    planner = report.planner
    try:
        if words.strip().isdigit():
            return planner.index_of(_numbered(report, int(words)))
        tiers, _, rest = words.partition("@")
        cuts, _, option = rest.partition(":")
        names = [name.strip() for name in tiers.split(">")]
        ends = [name.strip() for name in cuts.split(",") if name.strip()]
        return planner.find(tiers=names, ends=ends, option=option.strip() or None)
    except NoSuchPlanError as error:
        raise UserError(f"{error}; {_known(report)}") from error


def _numbered(report: Report, number: int) -> Placement:
    """One line of front.csv: the fronts, then the baselines."""
    judged = [*report.outcome.listed, *report.outcome.baselines.values()]
    if not 1 <= number <= len(judged):
        raise UserError(f"front.csv has the lines 1 to {len(judged)}, not {number}")
    return judged[number - 1].plan.placement


def _known(report: Report) -> str:
    """Options by cut, and routes."""
    planner = report.planner
    routes = ", ".join(" > ".join(t.name for t in r) for r in planner.scenario.routes())
    options = sorted({f"{option.cut} : {option.name}" for option in planner.options})
    more = f", ... ({len(options)} in all)" if len(options) > NEAR else ""
    return f"routes are {routes}; options are {', '.join(options[:NEAR])}{more}"


def _tell_recommended(console: Console, report: Report) -> None:
    chosen = report.chosen
    limits = report.asked.constraints.words()
    if chosen is None:
        console.print(f"Nothing keeps all limits ({limits}).", highlight=False, markup=False)
        for name, least in report.outcome.nearest.items():
            console.print(f"  {_nearest(name, least)}", highlight=False, markup=False)
        return
    what = NAMES.get(report.minimise, report.minimise)
    title = f"Recommended, for the least {what} under {limits}: {report.planner.placement(chosen)}"
    console.print(title, highlight=False, markup=False)
    console.print(phase_table(report.planner.plan(chosen)))
    for line in figure_lines(report.planner.plan(chosen)):
        console.print(f"  {line}", highlight=False, markup=False)
    signs = ", ".join(f"{sign} {basis}" for basis, sign in MARKS.items())
    console.print(f"  ({signs})", highlight=False, markup=False)


def _tell(console: Console, report: Report, index: Index) -> None:
    said = why_not(report, index)
    lines = [str(report.planner.placement(index)), f"{said[0].upper()}{said[1:]}."]
    for line in (*lines, *figure_lines(report.planner.plan(index))):
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


def phase_table(plan: Plan) -> Table:
    """One row for each phase, with what it rests on and its source."""
    table = Table()
    for name in ("phase", "where"):
        table.add_column(name, overflow="fold")
    table.add_column("median ms", justify="right")
    table.add_column("rests on")
    table.add_column("source", overflow="fold")
    for phase in plan.phases:
        ms = phase.ms
        shown = value("latency_ms", ms.value).removesuffix("\N{NO-BREAK SPACE}ms")
        table.add_row(phase.kind, phase.where, shown, f"{MARKS[ms.basis]} {ms.basis}", ms.source)
    return table


def figure_lines(plan: Plan) -> Iterator[str]:
    """Each figure of a plan with its source."""
    for name, figure in plan.figures.items():
        source = f" ({figure.source})" if figure.source else ""
        interval = f", 95 % {between(name, figure)}" if between(name, figure) else ""
        yield f"{NAMES.get(name, name)}: {marked(name, figure)} {figure.basis}{interval}{source}"


def _nearest(name: str, least: float | None) -> str:
    limit = LIMITS.get(name, name)
    if least is None:
        return f"{limit}: the other limits alone are too much"
    figure = "latency_p95_ms" if name == "deadline_ms" else name
    return f"{limit}: at least {value(figure, least)}, while all other limits are kept"
