"""``splitbench plan``: where to cut a model, and where to run the parts."""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from experiments.console import Reporter
from experiments.divided import Divided, divided
from experiments.errors import UserError
from experiments.explain import sentence
from experiments.leaderboard import write
from experiments.plan_file import SCHEMA
from experiments.plan_page.render import render
from experiments.plan_page.words import between, over, ranking
from experiments.planning import Question, question
from offloading.costing import IMPOSSIBLE
from offloading.figure import Figure
from offloading.outcome import Judged, Outcome
from offloading.plan import Plan
from offloading.sensitivity import SHARE, Change, changes, shaken

SHOWN = 12  # plans of the front in the terminal
WIDTH = 160  # where there is no terminal to ask
HELP = """\
Place the parts of a model on device, edge, cloud machine and function: the exact front of latency,
leakage, money and accuracy over all placements, and the one to take under your limits.

usage: splitbench plan [KEY=VALUE ...]

  model=NAME data=NAME       which model on which data; records must have measured it
  records=PATH               a folder of `splitbench run`, or a leaderboard.csv
  scenario=NAME              tiers and links: phone_5g, phone_lte, jetson_wifi, laptop_fiber, ...
    scenario.tiers.phone.slowdown=4       scenario.tiers.phone.profile=phone.json
    scenario.hops.phone.edge.link.up_mbps=3
  workload=NAME price=NAME   what is asked, and what it costs
  --config-dir=DIR           a folder of yours with more of these: DIR/price/mine.yaml is price=mine
  limits.deadline_ms=100     for limits.percentile of the requests: 50, 90, 95 or 99
  limits.leakage=0.3         most L at any tier that is not trusted
  limits.usd_per_million=5   limits.accuracy_drop=0.01   limits.device_joules=0.5
  limits.at_least=layer2     stays on the device
  minimise=latency_ms        what to have the least of within the limits
  only=[phone,cloud]         tiers that may be used
  profile=FILE               made by `splitbench profile`; otherwise made here
  out=plan                   where plan.json, front.csv and report.html go

Numbers are marked: measured, predicted (computed from measurements), or assumed.
"""


def main(arguments: Sequence[str]) -> int:
    """Plan, print, write; user errors end in one sentence and exit code 2."""
    words = list(arguments)
    if {"-h", "--help"} & set(words):
        sys.stdout.write(HELP)
        return 0
    try:
        asked = question(words, Reporter("plan"))
        try:
            outcome = asked.planner.outcome(asked.constraints, minimise=asked.config["minimise"])
        except ValueError as error:
            raise UserError(str(error)) from error
        doubts = changes(asked.planner, asked.constraints, minimise=asked.config["minimise"])
        folder = Path(asked.config["out"])
        write(folder / "plan.json", document(asked, outcome))
        write(folder / "front.csv", front_csv(outcome))
        division = divided(asked)
        page = render(asked, outcome, doubts, minimise=asked.config["minimise"], division=division)
        write(folder / "report.html", page)
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        sys.stderr.write(f"error: {sentence(error)}\n")
        return 2
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(front_table(asked, outcome))
    for line in (*verdict(asked, outcome), *division_words(division), *doubt_words(doubts)):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    for name in ("plan.json", "front.csv", "report.html"):
        console.print(f"{name.partition('.')[0]}: {folder / name}")
    return 0


def document(asked: Question, outcome: Outcome) -> str:
    """The plan as JSON: what was asked, and every plan of the fronts with its figures.

    ``front``, ``front_within`` and ``recommended`` are places in ``plans``.
    """
    chosen = outcome.recommended
    plans = [judged.plan for judged in outcome.listed]
    if chosen is not None and chosen not in plans:
        plans.append(chosen)
    places = {plan.placement: place for place, plan in enumerate(plans)}
    return json.dumps(
        {
            "schema": SCHEMA,
            "config": asked.config,
            "run": list(asked.run),
            "model": asked.evidence.model,
            "records": asked.evidence.source,
            "profile": json.loads(asked.planner.profile.to_json()),
            "limits": asked.constraints.words(),
            "considered": outcome.considered,
            "recommended": None if chosen is None else places[chosen.placement],
            "front": [places[judged.plan.placement] for judged in outcome.front],
            "front_within": [places[judged.plan.placement] for judged in outcome.front_within],
            "plans": [plan.to_dict() for plan in plans],
            "baselines": {
                name: judged.plan.to_dict()
                for name, judged in outcome.baselines.items()
                if not set(IMPOSSIBLE) & set(judged.exceeded)  # nobody can run those
            },
        },
        indent=1,
        allow_nan=False,
    )


def front_csv(outcome: Outcome) -> str:
    """The front, what is on the front within the limits alone, and the baselines, a line each."""
    import pandas as pd

    known = len(outcome.front)
    lines = [
        {"kind": "front" if place < known else "within limits", **_line(judged)}
        for place, judged in enumerate(outcome.listed)
    ]
    lines += [{"kind": name, **_line(judged)} for name, judged in outcome.baselines.items()]
    return pd.DataFrame(lines).to_csv(index=False)


def front_table(asked: Question, outcome: Outcome) -> Table:
    """Recommended plan, baselines, and the beginning of the front: first what keeps the limits."""
    scenario, limits = asked.planner.scenario, asked.constraints
    more = max(len(outcome.listed) - SHOWN, 0)
    within = "" if limits.none else f", {len(outcome.front_within)} on that within the limits"
    table = Table(
        title=f"{asked.planner.profile.model}, {scenario.name}, {limits.words()}",
        caption=f"{outcome.considered:,} placements, {len(outcome.front)} of them on the front"
        + within
        + (f" ({more} more in front.csv)" if more else "")
        + "; ~ predicted, ? rests on an assumption",
    )
    table.add_column("")
    table.add_column("placement", overflow="fold")
    for name in (
        "p50 ms",
        f"{_percentile(limits.tail)} ms",
        "L",
        "$ / million",
        "accuracy",
        "bytes",
    ):
        table.add_column(name, justify="right")
    table.add_column("exceeds", overflow="fold")
    for mark, judged in _rows(outcome):
        table.add_row(
            mark, str(judged.plan.placement), *_cells(judged.plan, limits.tail), _over(judged)
        )
    return table


def verdict(asked: Question, outcome: Outcome) -> Iterator[str]:
    """What to do, in a sentence or two."""
    plan = outcome.recommended
    if plan is None:
        yield f"No placement keeps all limits ({asked.constraints.words()})."
        for name, value in outcome.nearest.items():
            least = "impossible whatever it is" if value is None else f"least possible {value:.4g}"
            yield f"  {name}: {least}, while all other limits are kept"
        return
    figures, tail = plan.figures, asked.constraints.tail
    if plan.placement.stays:
        yield "Keep the whole model on the device: nothing that may be sent is better."
    elif plan.placement.segments[0].end == "input":
        option = plan.placement.option
        yield f"Send the image ({option.name if option else ''}): cutting the model buys nothing."
    else:
        yield f"Take: {plan.placement}."
    yield (
        f"  {figures['latency_ms'].value:.1f} ms "
        f"({_percentile(tail)} {figures[tail].value:.1f}), "
        f"L {_leakage(figures['leakage'])}, ${figures['usd_per_million'].value:.2f} per million, "
        f"accuracy {figures['accuracy'].value:.1%}"
    )
    yield f"  prices of {asked.prices}"
    for name, judged in outcome.baselines.items():
        ratio = judged.plan.figures["latency_ms"].value / figures["latency_ms"].value
        said = f"{ratio:.2f} times its latency" if math.isfinite(ratio) else "overloaded"
        but = f", but exceeds {over(judged.exceeded)}" if judged.exceeded else ""
        yield f"  {name}: {said}{but}"


def division_words(division: Divided | None) -> Iterator[str]:
    """What the graph of the model would allow, if it were not cut at one place."""
    if division is not None:
        yield f"  fastest division of the graph, undefended, by operations: {division}"


def doubt_words(doubts: Sequence[Change]) -> Iterator[str]:
    """How far the recommendation hangs on single constants."""
    if not doubts:
        return
    other = [change for change in doubts if not change.same]
    yield (
        f"Of {len(doubts)} changes of one constant by {SHARE:.0%} that move what was asked for, "
        f"{len(doubts) - len(other)} leave the recommendation as it is."
    )
    worst = shaken(doubts)
    if worst is None:
        yield "  Only one placement keeps the limits: there is no ranking to compare."
    elif worst.tau == 1:
        yield "  None of them changes the ranking of the placements within the limits."
    else:
        yield f"  The ranking changes most with {worst.constant}: {ranking(worst)}."
    for change in other:
        instead = change.recommended or "nothing keeps the limits"
        loss = f", {change.loss_ms:.1f} ms faster" if change.loss_ms is not None else ""
        yield f"  {change.constant}: {instead}{loss}"


def _rows(outcome: Outcome) -> Iterator[tuple[str, Judged]]:
    if outcome.recommended is not None:
        yield "take", Judged(outcome.recommended, ())
    for name, judged in outcome.baselines.items():
        yield name, judged
    within = {judged.plan.placement for judged in outcome.front_within}
    listed = sorted(outcome.listed, key=lambda judged: judged.plan.placement not in within)
    for judged in listed[:SHOWN]:
        yield "", judged


def _over(judged: Judged) -> str:
    return ", ".join(name.removesuffix("_ms") for name in judged.exceeded)


def _leakage(figure: Figure) -> str:
    interval = between("leakage", figure)
    return f"{figure.value:.2f} ({interval})" if interval else f"{figure.value:.2f}"


def _percentile(latency: str) -> str:
    return latency.removeprefix("latency_").removesuffix("_ms")


def _cells(plan: Plan, tail: str) -> list[str]:
    forms = {
        "latency_ms": ".1f",
        tail: ".1f",
        "leakage": ".2f",
        "usd_per_million": ".2f",
        "accuracy": ".1%",
        "payload_bytes": ",.0f",
    }
    marks = {"measured": "", "predicted": "~", "assumed": "?"}
    figures = plan.figures
    return [f"{figures[k].value:{form}}{marks[figures[k].basis]}" for k, form in forms.items()]


def _line(judged: Judged) -> dict[str, Any]:
    plan = judged.plan
    values = {name: figure.value for name, figure in plan.figures.items()}
    bases = {f"{name}_basis": figure.basis for name, figure in plan.figures.items()}
    exceeds = ", ".join(judged.exceeded)
    return {"placement": str(plan.placement), "exceeds": exceeds, **values, **bases}
