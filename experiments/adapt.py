"""``splitbench adapt``: what changing the plan is worth while the network changes."""

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra.errors import HydraException
from numpy.typing import NDArray
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from experiments.compose import apart, configured, plain
from experiments.console import Reporter
from experiments.errors import UserError
from experiments.explain import sentence
from experiments.leaderboard import write
from experiments.plan_file import read_document
from experiments.plan_page.adapted import SCHEMA
from experiments.plan_report import refreshed
from experiments.scenario import only, scenario_of
from offloading.adaptation.estimator import HarmonicMean
from offloading.adaptation.menu import Choice, Menu, MenuError
from offloading.adaptation.policy import Bandit, Policy, Static
from offloading.adaptation.policy import Table as TablePolicy
from offloading.adaptation.replay import Clairvoyant, Replay, latencies, replay
from offloading.bandwidth import BandwidthTrace, TraceError
from offloading.figure import Basis, weakest
from offloading.plan import Plan, PlanError
from splitbench.link import Link

WIDTH = 140  # where there is no terminal to ask
HELP = """\
Play a recorded network again, and let the device change between the plans of a file: by a table
that was worked out before, or by a bandit that knows no profile, against always the same plan and
against somebody who knows what comes.

usage: splitbench adapt PLAN.json [MORE.json ...] [KEY=VALUE ...]

  PLAN.json                  made by `splitbench plan`; the plans of its front are the menu. A front
                             is for one rate: name more files, planned for slower and faster links
  trace=FILE                 seconds,Mbps a line; or one time in ms for each packet (Mahimahi)
  mean_mbps=6 spread=0.8     of the invented trace that is taken where no file is named
  leakage=0.3                most L; what leaks more is not on the menu, however slow the network
  deadline_ms=100            to count what is late
  out=FILE                   every request of every policy; otherwise adapted.json beside the plan
                             (the first), and the report there is written again, with the timeline
"""


def main(arguments: Sequence[str]) -> int:
    """Replay, print, write; user errors end in one sentence and exit code 2."""
    words = list(arguments)
    if {"-h", "--help"} & set(words) or not words:
        sys.stdout.write(HELP)
        return 0 if words else 2
    try:
        own, rest = apart(words)
        files = [word for word in rest if "=" not in word]
        overrides = [word for word in rest if "=" in word]
        if not files:
            raise UserError("name a file that `splitbench plan` wrote")
        config = plain(configured("adapt", [*own, *overrides]))
        documents = [read_document(Path(file)) for file in files]
        menu, trace, found = _replayed(documents, config)
        out = Path(config["out"] or Path(files[0]).parent / "adapted.json")
        invented = config["trace"] is None
        write(out, document(menu, trace, found, basis=_basis(documents), invented=invented))
    except (
        UserError,
        PlanError,
        TraceError,
        MenuError,
        HydraException,
        OmegaConfBaseException,
        OSError,
        ValueError,
    ) as error:
        sys.stderr.write(f"error: {sentence(error)}\n")
        return 2
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(replay_table(menu, trace, found))
    told = refreshed(Path(files[0]), out, Reporter("adapt"), own)
    for line in (f"adapted: {out}", *([told] if told else [])):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    return 0


def replay_table(menu: Menu, trace: BandwidthTrace, found: Sequence[Replay]) -> Table:
    """One row for each policy."""
    refused = f"; {len(menu.refused)} plans leak more than {menu.leakage_limit:g}"
    table = Table(
        title=f"{len(menu)} plans over {trace.source}, {trace.mean_mbps:.3g} Mbit/s on average"
        + (refused if menu.refused else ""),
        caption="regret: how much longer than the best plan of the menu at that moment; always: "
        "the plan that is best at the usual rate, and the one that is best over the whole trace",
    )
    table.add_column("policy", overflow="fold")
    for name in ("mean ms", "p95 ms", "regret ms", "late", "changes / min"):
        table.add_column(name, justify="right")
    for each in found:
        table.add_row(
            each.policy,
            f"{each.latency_ms.mean():.1f}",
            f"{np.quantile(each.latency_ms, 0.95):.1f}",
            f"{each.mean_regret_ms:.1f}",
            f"{each.violations:.1%}" if math.isfinite(each.deadline_ms) else "",
            f"{each.changes_per_minute:.1f}",
        )
    return table


def document(
    menu: Menu, trace: BandwidthTrace, found: Sequence[Replay], *, basis: Basis, invented: bool
) -> str:
    """Every request of every policy, as JSON.

    Args:
        menu: The plans.
        trace: The network.
        found: What came of each policy.
        basis: What the times of the plans rest on.
        invented: Whether nobody recorded the trace.
    """
    return json.dumps(
        {
            "schema": SCHEMA,
            "basis": basis,
            "trace": trace.source,
            "invented": invented,
            "mean_mbps": trace.mean_mbps,
            "leakage_limit": menu.leakage_limit,
            "plans": [dataclasses.asdict(choice) for choice in menu.choices],
            "refused": list(menu.refused),
            "policies": [_plain(each) for each in found],
        },
        allow_nan=False,
    )


def _plain(found: Replay) -> dict[str, Any]:
    """Arrays as lists; what is not finite is null."""
    raw: dict[str, Any] = {}
    for field in dataclasses.fields(found):
        value = getattr(found, field.name)
        if isinstance(value, np.ndarray):
            raw[field.name] = [v if math.isfinite(v) else None for v in value.tolist()]
        elif field.name != "plans":
            finite = not isinstance(value, float) or math.isfinite(value)
            raw[field.name] = value if finite else None
    return raw | {
        "mean_regret_ms": found.mean_regret_ms,
        "violations": found.violations,
        "unavoidable": found.unavoidable,
        "changes_per_minute": found.changes_per_minute,
    }


def _replayed(
    documents: Sequence[dict[str, Any]], config: dict[str, Any]
) -> tuple[Menu, BandwidthTrace, list[Replay]]:
    named = {each.name: each for document in documents for each in _choices(document)}
    limits = documents[0]["config"]["limits"]
    limit = config["leakage"] if config["leakage"] is not None else limits["leakage"]
    menu = Menu([*named.values()], leakage_limit=1.0 if limit is None else float(limit))
    deadline = config["deadline_ms"] or limits["deadline_ms"] or math.inf
    rate = float(config["mean_mbps"] or next(iter(_own_links(documents[0]).values())).up_mbps)
    trace = _trace(config, rate)
    times = np.arange(0.0, trace.duration_s, 1 / float(config["requests_per_s"]))
    if len(times) < 2:
        raise UserError("the trace ends before the second request: raise requests_per_s")
    policies = _policies(menu, trace, times, config, rate)
    return menu, trace, [replay(p, menu, trace, times, deadline_ms=deadline) for p in policies]


def _choices(document: dict[str, Any]) -> list[Choice]:
    """The plans of a file, each taken apart with the link for which it was made."""
    own = _own_links(document)
    usual = next(iter(own.values()))
    plans = [Plan.from_dict(each) for each in document["plans"]]
    return [Choice.of(p, own.get("".join(p.placement.tiers[1:2]), usual)) for p in plans]


def _basis(documents: Sequence[dict[str, Any]]) -> Basis:
    """Of the weakest time of all plans; a replay of them is at best a prediction."""
    plans = [Plan.from_dict(each) for document in documents for each in document["plans"]]
    return weakest(["predicted", *(phase.ms.basis for plan in plans for phase in plan.phases)])


def _own_links(document: dict[str, Any]) -> dict[str, Link]:
    """Links from the device, by the tier that they lead to.

    Raises:
        UserError: There are none.
    """
    asked = document["config"]
    scenario = only(scenario_of(asked["scenario"], asked["workload"]), asked["only"])
    device = scenario.tiers[0].name
    own = {far: hop.link for (near, far), hop in scenario.hops.items() if near == device}
    if not own:
        raise UserError(f"{scenario.name}: nothing leaves {device!r}, so there is nothing to adapt")
    return own


def _policies(
    menu: Menu,
    trace: BandwidthTrace,
    times: NDArray[np.float64],
    config: dict[str, Any],
    rate: float,
) -> list[Policy]:
    """The table, the bandit, single plans, and who knows all.

    A single plan is the best one at the usual rate, which may not be the rate of the trace. So
    that no policy shines only beside a bad choice, the best one over the trace is there as well.
    """
    window, margin = int(config["window"]), float(config["margin"])
    usual = int(menu.latency_ms(rate).argmin())
    afterwards = int(latencies(menu, trace, times, 0 * times).mean(1).argmin())
    dwell = float(config["dwell_s"])
    return [
        TablePolicy(menu, HarmonicMean(window=window), mbps=rate, margin=margin, dwell_s=dwell),
        Bandit(menu, HarmonicMean(window=window), mbps=rate),
        *(Static(menu, choice) for choice in dict.fromkeys((usual, afterwards))),
        Clairvoyant(menu, trace),
    ]


def _trace(config: dict[str, Any], rate: float) -> BandwidthTrace:
    if config["trace"] is not None:
        return BandwidthTrace.read(Path(config["trace"]))
    return BandwidthTrace.synthetic(
        mean_mbps=rate,
        spread=float(config["spread"]),
        duration_s=int(config["duration_s"]),
        seed=int(config["seed"]),
    )
