"""The report of a plan as one HTML page that asks nothing of the network."""

from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from experiments.divided import Divided
from experiments.page.drawing import asset, embedded
from experiments.plan_page import (
    answer,
    depth,
    fronts,
    knee,
    phases,
    policies,
    rates,
    regions,
    timeline,
    words,
)
from experiments.plan_page.checks import Checks
from experiments.plan_page.checks import drawings as checked
from experiments.plan_page.drawing import Drawing
from experiments.plan_page.reasons import alternatives, why_not
from experiments.plan_page.report import Report
from experiments.plan_page.sources import constants
from experiments.planning import Question
from offloading.outcome import Outcome
from offloading.sensitivity import SHARE, Change, shaken

HERE = "experiments.plan_page"
SHOWN = 15  # plans of the front within the limits


def render(
    asked: Question,
    outcome: Outcome,
    doubts: Sequence[Change],
    *,
    minimise: str = "latency_ms",
    checks: Checks | None = None,
    division: Divided | None = None,
) -> str:
    """Make the page.

    Args:
        asked: What was asked.
        outcome: What planning found.
        doubts: What wrong constants do to it.
        minimise: What the recommended plan has the least of.
        checks: What was measured, simulated and played again of it since.
        division: The fastest division of the model's graph; None leaves it out.

    Returns:
        HTML without a single external reference; the same question gives the same text.
    """
    report = Report(asked, outcome, tuple(doubts), minimise)
    since = checks or Checks()
    drawn = [d for d in _drawings(report, since) if d is not None]
    chosen, limits = outcome.recommended, asked.constraints
    return _template().render(
        report=report,
        headline=answer.headline(report),
        reasons=answer.reasons(report),
        tiles=[] if chosen is None else answer.tiles(chosen, limits),
        strip=[] if chosen is None else answer.strip(report, chosen),
        checks=since,
        policies=[] if since.adapted is None else list(policies.rows(since.adapted)),
        drawn={drawing.name: drawing for drawing in drawn},
        volume=knee.volume(report),
        division=division,
        doubts=[change for change in doubts if not change.same],
        share=f"{SHARE:.0%}",
        shaken=shaken(doubts),
        others=[
            (report.planner.plan(index), why_not(report, index)) for index in alternatives(report)
        ],
        constants=list(constants(report)),
        columns=("latency_ms", limits.tail, "leakage", "usd_per_million", "accuracy"),
        shown=SHOWN,
        figures={
            d.name: Markup(embedded(d.figure.to_plotly_json()))  # noqa: S704  # <, >, & are escaped
            for d in drawn
        },
        css=asset("experiments.page", "page.css") + asset(HERE, "plan.css"),
        script=asset("experiments.page", "draw.js") + asset(HERE, "plan.js"),
        plotly=Markup(get_plotlyjs()),  # noqa: S704  # the library's own code
    )


def _drawings(report: Report, since: Checks) -> list[Drawing | None]:
    limits = report.asked.constraints
    return [
        *checked(since, deadline_ms=limits.deadline_ms, percentile=limits.percentile),
        phases.drawing(report),
        *fronts.drawings(report),
        regions.drawing(report),
        depth.drawing(report),
        rates.drawing(report),
        None if since.adapted is None else timeline.drawing(since.adapted),
    ]


def _template() -> Template:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        loader=FunctionLoader(lambda name: (files(HERE) / name).read_text("utf-8")),
    )
    environment.globals.update(
        value=words.value,
        between=words.between,
        over=words.over,
        ranking=words.ranking,
        short=words.short,
        marks=words.MARKS,
        means=words.MEANS,
        names=words.NAMES,
    )
    return environment.get_template("plan.html.j2")
