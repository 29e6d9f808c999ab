"""``splitbench measure``: plans run for real, and how far off their predictions are."""

import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from experiments.compose import apart, configured, plain
from experiments.console import Meter, Reporter
from experiments.errors import UserError
from experiments.explain import sentence
from experiments.leaderboard import write
from experiments.plan_file import chosen, read_document
from experiments.profile import machine
from experiments.scenario import only, scenario_of
from offloading.plan import Plan, PlanError
from offloading.profile import Profile
from offloading.scenario import Scenario

if TYPE_CHECKING:
    from offloading.measuring.result import Measured, Report

BULK_BYTES, BULK_MBPS = 100_000, 100.0  # where a prediction of the network is expected to hold
WIDTH = 160  # where there is no terminal to ask
HELP = """\
Run plans for real on this machine: each segment in a process of its own, real sockets, links that
are imitated and calibrated first. Compare the times with what was predicted for this machine's own
speed, and write all of it to a JSON file.

usage: splitbench measure PLAN.json [KEY=VALUE ...]

  PLAN.json                  made by `splitbench plan`
  plans=[0,2]                which of its plans; otherwise the recommended one and the baselines
  most=4                     how many of these
  backend=auto               netem or tun: a network stack for each side (needs root); proxy: shaped
                             sockets; analytic: no link, its formula is added
  requests=100 warmup=10     timed requests of each plan, and those before them
  stretch=1                  makes the device's part so many times slower, by sleeping
  --config-dir=DIR           a folder of yours that the plan's model, data or training is from
  calibrated=false           measure although a link is imitated badly, and say how badly
  out=FILE                   where to write; otherwise measured.json beside the plan, and the report
                             beside the plan is written again, with the errors

What the device, server or function of a plan really are is not here: tiers are taken to be this
machine. What is checked is everything else, the network and the way in which parts add up.
"""


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write; user errors end in one sentence and exit code 2."""
    words = list(arguments)
    if {"-h", "--help"} & set(words) or not words:
        sys.stdout.write(HELP)
        return 0 if words else 2
    from experiments.plan_report import refreshed
    from offloading.emulation.emulation import EmulationError
    from offloading.measuring.processes import MeasureError
    from offloading.runtime.errors import ArtefactError

    failures = (EmulationError, MeasureError, ArtefactError)
    try:
        own, rest = apart(words)
        if not rest:
            raise UserError("name a file that `splitbench plan` wrote")
        file, *overrides = rest
        config = plain(configured("measure", [*own, *overrides]))
        report, bulky = _measured(Path(file), config, own)
        out = Path(config["out"] or Path(file).parent / "measured.json")
        write(out, report.to_json())
    except (
        UserError,
        PlanError,
        *failures,
        HydraException,
        OmegaConfBaseException,
        OSError,
        ValueError,
    ) as error:
        sys.stderr.write(f"error: {sentence(error)}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("stopped; nothing was measured\n")
        return 130
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(report_table(report, bulky))
    for line in remarks(report):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    told = refreshed(Path(file), out, Reporter("measure"), own)
    for line in (f"measured: {out}", *([told] if told else [])):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    return 0


def report_table(report: "Report", bulky: set[str]) -> Table:
    """One row for each plan, and one for that which was measured twice."""
    table = Table(
        title=f"links: {report.backend}; {report.requests} requests each, "
        f"{report.warmup} before them; times in ms",
        caption="errors of the predicted median; parts: measured parts and calibrated links added "
        "up; * where the network is expected to be predicted well",
    )
    table.add_column("plan", overflow="fold")
    names = (
        "p50",
        "95 %",
        "p95",
        "p99",
        "predicted",
        "error",
        "parts",
        "on the way",
        "sent",
        "link",
    )
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("answered by", overflow="fold")
    for plan in (*report.plans, report.again):
        table.add_row(*_cells(plan, plan.name in bulky))
    return table


def remarks(report: "Report") -> list[str]:
    """What to make of it."""
    found = [
        f"two equal plans differ by {report.same_ms:+.2f} ms here; parts and links add up to the "
        f"whole within {report.composed_mape:.1%} on average"
    ]
    found += equality(report)
    if report.mape is not None:
        found.append(f"predictions are off by {report.mape:.1%} on average")
    for hop, link in report.calibrations.items():
        found.append(
            f"link {hop}: asked for {link.asked.up_mbps:g}/{link.asked.down_mbps:g} Mbit/s and "
            f"{link.asked.rtt_ms:g} ms, measured {link.measured.up_mbps:.4g}/"
            f"{link.measured.down_mbps:.4g} and {link.measured.rtt_ms:.4g}, at worst "
            f"{link.worst_error:+.1%} for 100 kB and more"
        )
    failed = [f"{p.name}: {why} ({n})" for p in report.plans for why, n in p.failures.items()]
    return [*found, *failed, *report.notes]


def equality(report: "Report") -> list[str]:
    """Which answers were held against the whole model's; one that differs would have ended it."""
    same = [plan for plan in report.plans if plan.answers.equal is not None]
    equal = sum(plan.answers.equal or 0 for plan in same)
    asked = sum(plan.end_to_end_ms.n for plan in same)
    told = [f"answers equal the whole model's, bit for bit: {equal} of {asked}"] if same else []
    reasons = {p.name: p.answers.not_compared for p in report.plans if p.answers.equal is None}
    return told + [f"answers of {name} were not compared: {why}" for name, why in reasons.items()]


def elsewhere(profile: Profile) -> str | None:
    """How the profile's machine differs from this one as it measures; None where it does not."""
    from offloading.measuring.processes import THREADS

    there = {**profile.machine, "threads": str(profile.threads)}
    here = {**machine(), "threads": str(THREADS)}
    other = [
        f"{name} {there.get(name, 'unknown')} there, {value} here"
        for name, value in here.items()
        if there.get(name) != value
    ]
    if not other:
        return None
    return (
        f"the profile was made elsewhere ({'; '.join(other)}), so predicted times are not this "
        "machine's: plan with a profile that was made here"
    )


def _cells(plan: "Measured", bulky: bool) -> list[str]:
    whole, low_high = plan.end_to_end_ms, plan.p50_interval_ms
    way = sum(plan.phases_ms[name].p50 for name in ("up", "down") if name in plan.phases_ms)
    predicted = "" if plan.predicted is None else f"{plan.predicted.total_ms:.1f}"
    return [
        plan.name,
        f"{whole.p50:.1f}",
        f"{low_high[0]:.1f}-{low_high[1]:.1f}",
        f"{whole.p95:.1f}",
        f"{whole.p99:.1f}",
        predicted,
        "" if plan.error is None else f"{plan.error:+.1%}{'*' if bulky else ''}",
        f"{plan.composed_error:+.1%}{'*' if bulky else ''}",
        f"{way:.1f}",
        f"{plan.sent_bytes:,.0f}",
        "" if plan.link_up_bytes is None else f"{plan.link_up_bytes:,.0f}",
        ", ".join(f"{who} {count}" for who, count in plan.answered_by.items()),
    ]


def _measured(file: Path, config: dict[str, Any], own: Sequence[str]) -> tuple["Report", set[str]]:
    """The report, and the names of the plans whose network should be predicted well."""
    from experiments.exporting import exported
    from offloading.measuring.prediction import PredictionError, at_host_speed
    from offloading.measuring.session import measure
    from offloading.measuring.subject import Setting, Subject

    document = read_document(file)
    asked = document["config"]
    note = elsewhere(Profile.from_json(json.dumps(document["profile"])))
    scenario = only(scenario_of(asked["scenario"], asked["workload"]), asked["only"])
    plans = chosen(document, config["plans"], int(config["most"]))
    reporter = Reporter("measure")
    setting = Setting(
        backend=config["backend"],
        requests=config["requests"],
        warmup=config["warmup"],
        seed=config["seed"],
        timeout_s=float(config["timeout_s"]),
        stretch=float(config["stretch"]),
        reply_bytes=scenario.reply_bytes,
        check=config["calibrated"],
        trust=tuple(config["trust"]),
    )
    with tempfile.TemporaryDirectory() as room:
        written, images = exported(plans, [*own, *document["run"]], config, Path(room), reporter)
        subjects = []
        for name, plan in plans.items():
            try:
                predicted = at_host_speed(plan, scenario, stretch=setting.stretch)
            except PredictionError as error:
                reporter.say(str(error))
                predicted = None
            subjects.append(
                Subject(
                    name=name,
                    folder=written[name].folder,
                    tiers=plan.placement.tiers,
                    predicted=predicted,
                    expected=written[name].expected,
                    not_compared=written[name].not_compared,
                )
            )
        links = {hop: way.link for hop, way in scenario.hops.items()}
        reporter.say("calibrating links, starting processes")
        with ExitStack() as stack:
            meters: list[Meter] = []

            def ready(_: object) -> None:
                stage = reporter.stage(f"measuring {len(plans)} plans")
                meters.append(stack.enter_context(stage))

            report = measure(
                subjects,
                images,
                links=links,
                setting=setting,
                on_request=lambda done, total: meters[0](done, total),
                on_servers=ready,
            )
    if note:
        report = dataclasses.replace(report, notes=(*report.notes, note))
    return report, {name for name, plan in plans.items() if is_bulky(plan, scenario)}


def is_bulky(plan: Plan, scenario: Scenario) -> bool:
    """Whether a plan sends so much so slowly that its way should be predicted well."""
    option, tiers = plan.placement.option, plan.placement.tiers
    if option is None or option.payload_bytes < BULK_BYTES:
        return False
    return scenario.hops[tiers[0], tiers[1]].link.up_mbps <= BULK_MBPS
