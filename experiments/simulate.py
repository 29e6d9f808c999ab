"""``splitbench simulate``: a plan under load."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from experiments.compose import apart
from experiments.console import Reporter
from experiments.errors import UserError
from experiments.explain import sentence
from experiments.leaderboard import write
from experiments.plan_report import refreshed
from experiments.planned import Planned, planned
from experiments.planning import composed
from offloading.figure import weakest
from offloading.scenario import ScenarioError
from offloading.simulation import Autoscaling, Interval, Simulated, TierLoad, simulate
from offloading.spread import TAILS

SCHEMA = 1
WIDTH = 140  # where there is no terminal to ask
OF_THE_PLAN = ("workload", "scenario")
PREDICTED = {"p50": "latency_ms", **{f"p{p}": f"latency_p{p}_ms" for p in TAILS}}
HELP = """\
Let requests come at random and wait, start what is cold, and pay for it: tails, cold starts, use of
the machines, and money of one plan.

usage: splitbench simulate PLAN.json [KEY=VALUE ...]

  plan=2                     number of a plan of the front; plan='all on the device' or another
                             baseline; the recommended one if it is not given
  requests=20000 seed=0      how many are simulated, of all devices together
  workload=NAME              one_user, camera, thousand_users, bursts, recorded, ...
  --config-dir=DIR           a folder of yours with more of these: DIR/workload/mine.yaml
  workload.devices=50        workload.arrivals.rate_per_s=2
  autoscaling.cloud.boot_s=60            machines come and go; otherwise they are always there
    .least=1 .most=1000 .busy=0.7 .every_s=10 .hold_s=300
  scenario.tiers.function.cold_start.keep_alive_s=60      scenario.tiers.cloud.pricing.parallel=4
  out=FILE                   simulated.json beside the plan if it is not given; then the report
                             beside the plan is written again, with the tail

Intervals are 95 %, from batches of requests. What the times of a plan hang on (links, devices)
cannot be changed here: make another plan.
"""


def main(arguments: Sequence[str]) -> int:
    """Simulate, print, write; user errors end in one sentence and exit code 2."""
    words = list(arguments)
    if {"-h", "--help"} & set(words):
        sys.stdout.write(HELP)
        return 0
    try:
        path, settings, asked = _asked(words)
        with Reporter("simulate").stage(f"{settings['requests']:,} requests"):
            found = _simulated(asked, settings)
        default = (path if path.is_dir() else path.parent) / "simulated.json"
        out = Path(settings["out"]) if settings["out"] else default
        write(out, document(asked, settings, found))
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        sys.stderr.write(f"error: {sentence(error)}\n")
        return 2
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    workload = asked.scenario.workload
    console.print(
        f"{found.placement}\n{workload.devices} device(s), {workload.rate_per_s:.4g} requests per "
        f"second in all, {workload.arrivals}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
    console.print(latency_table(asked, found))
    console.print(tier_table(found))
    console.print(
        f"{found.requests:,} requests, ${found.usd_per_million:.2f} per million (planned: "
        f"${asked.plan.figures['usd_per_million'].value:.2f})",
        highlight=False,
    )
    for name in found.overloaded:
        console.print(
            f"{name} is asked for more than it can do: its queue grows without end, and latencies "
            "say how long the simulation was and nothing else.",
            highlight=False,
        )
    plan = path / "plan.json" if path.is_dir() else path
    told = refreshed(plan, out, Reporter("simulate"), apart(words)[0])
    for line in (f"simulated: {out}", *([told] if told else [])):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    return 0


def document(asked: Planned, settings: dict[str, Any], found: Simulated) -> str:
    """What was found as JSON, and what it rests on."""
    bases = [phase.ms.basis for phase in asked.plan.phases]
    about = {
        "schema": SCHEMA,
        "basis": weakest(["predicted", *bases]),
        "plan": asked.plan.to_dict(),
        "workload": repr(asked.scenario.workload),
        "autoscaling": settings["autoscaling"],
    }
    return json.dumps({**about, **found.to_dict()}, indent=1, allow_nan=False)


def latency_table(asked: Planned, found: Simulated) -> Table:
    """Percentiles, beside what the plan predicted of its own workload."""
    table = Table()
    for name in ("latency", "ms", "95 % interval", "planned"):
        table.add_column(name, justify="right")
    for name, interval in found.latency_ms.items():
        figure = asked.plan.figures.get(PREDICTED.get(name, ""))
        planned_ms = "" if figure is None else f"{figure.value:.1f}"
        table.add_row(name, f"{interval.value:.1f}", _between(interval, ".1f"), planned_ms)
    return table


def tier_table(found: Simulated) -> Table:
    """One row for each tier."""
    table = Table()
    table.add_column("tier")
    for name in ("servers", "in use", "mean wait ms", "cold starts", "$ / million"):
        table.add_column(name, justify="right")
    for load in found.tiers:
        table.add_row(load.tier, *_cells(load))
    if found.traffic_usd_per_million:
        table.add_row("traffic", "", "", "", "", f"{found.traffic_usd_per_million:.2f}")
    return table


def _asked(words: Sequence[str]) -> tuple[Path, dict[str, Any], Planned]:
    folder, words = apart(words)
    paths = [word for word in words if "=" not in word]
    if len(paths) != 1:
        raise UserError("name one plan.json: splitbench simulate plan/plan.json [KEY=VALUE ...]")
    others = [word for word in words if "=" in word]
    of_plan = [w for w in others if re.split(r"[.=]", w.lstrip("+"))[0] in OF_THE_PLAN]
    own = [f"+{w}" if w.startswith("autoscaling.") else w for w in others if w not in of_plan]
    settings, _ = composed("simulate", own)
    for key in ("requests", "seed"):
        if not isinstance(settings[key], int) or settings[key] < 0:
            raise UserError(f"{key}={settings[key]}: want a whole number that is not negative")
    path = Path(paths[0])
    return path, settings, planned(path, settings["plan"], [*folder, *of_plan])


def _simulated(asked: Planned, settings: dict[str, Any]) -> Simulated:
    try:
        rules = {name: Autoscaling(**node) for name, node in settings["autoscaling"].items()}
    except (TypeError, ValueError) as error:
        raise UserError(f"autoscaling: {error}") from error
    try:
        return simulate(
            asked.plan,
            asked.scenario,
            requests=settings["requests"],
            seed=settings["seed"],
            autoscaling=rules,
        )
    except (ScenarioError, ValueError) as error:
        raise UserError(str(error)) from error


def _cells(load: TierLoad) -> list[str]:
    wait = "" if load.wait_ms is None else f"{load.wait_ms.value:.2f}"
    cold = ""
    if load.cold_share is not None:
        cold = f"{load.cold_share.value:.3%} ({_between(load.cold_share, '.3%')})"
    servers = f"{load.servers:.1f}".removesuffix(".0")
    return [servers, f"{load.utilisation:.1%}", wait, cold, f"{load.usd_per_million:.2f}"]


def _between(interval: Interval, form: str) -> str:
    return f"{max(interval.low, 0.0):{form}} to {interval.high:{form}}"
