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

from experiments.compose import apart, configured, plain, without
from experiments.console import Reporter
from experiments.errors import UserError
from experiments.explain import sentence
from experiments.leaderboard import write
from experiments.plan_file import read_document
from experiments.plan_page.adapted import SCHEMA
from experiments.plan_report import refreshed
from experiments.planning import limits
from experiments.scenario import only, scenario_of
from offloading.adaptation.estimator import HarmonicMean
from offloading.adaptation.load import Load
from offloading.adaptation.menu import Choice, Menu, MenuError
from offloading.adaptation.policy import Bandit, Policy, Static
from offloading.adaptation.policy import Table as TablePolicy
from offloading.adaptation.replay import Clairvoyant, Replay, latencies, replay
from offloading.bandwidth import BandwidthTrace, TraceError
from offloading.constraints import Constraints, strictest
from offloading.figure import Basis, weakest
from offloading.plan import Plan, PlanError
from offloading.profile import Profile, ProfileError, same_model
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
  load=FILE                  seconds,requests of others that wait at the server a line; or a number
  leakage=0.3                most L. What exceeds it, or a limit of any of the files, is not on the
                             menu, however slow the network
  deadline_ms=100            to count what is late; the one limit that a plan may exceed
  out=FILE                   every request of every policy; otherwise adapted.json beside the plan
                             (the first), and the report there is written again, with the timeline
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Played:
    """A network played again.

    Attributes:
        menu: The plans.
        limits: That they keep.
        trace: The network.
        load: At the server.
        basis: What the times of the plans rest on.
        invented: Whether nobody recorded the trace.
        replays: What came of each policy.
    """

    menu: Menu
    limits: Constraints
    trace: BandwidthTrace
    load: Load
    basis: Basis
    invented: bool
    replays: tuple[Replay, ...]


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
        played = _played(documents, config)
        out = Path(config["out"] or Path(files[0]).parent / "adapted.json")
        write(out, document(played))
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
    console.print(replay_table(played))
    told = refreshed(Path(files[0]), out, Reporter("adapt"), own)
    for line in (f"adapted: {out}", *([told] if told else [])):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    return 0


def replay_table(played: Played) -> Table:
    """One row for each policy."""
    menu, trace = played.menu, played.trace
    load = "" if played.load.is_nothing else f", {played.load.words()}"
    refused = f"; {len(menu.refused)} exceed the limits ({played.limits.words()})"
    table = Table(
        title=f"{len(menu)} plans over {trace.source}, {trace.mean_mbps:.3g} Mbit/s on average"
        + load
        + (refused if menu.refused else ""),
        caption="regret: how much longer than the best plan of the menu at that moment; always: "
        "the plan that is best at the usual rate, and the one that is best over the whole trace",
    )
    table.add_column("policy", overflow="fold")
    for name in ("mean ms", "p95 ms", "regret ms", "late", "changes / min"):
        table.add_column(name, justify="right")
    for each in played.replays:
        table.add_row(
            each.policy,
            f"{each.latency_ms.mean():.1f}",
            f"{np.quantile(each.latency_ms, 0.95):.1f}",
            f"{each.mean_regret_ms:.1f}",
            f"{each.violations:.1%}" if math.isfinite(each.deadline_ms) else "",
            f"{each.changes_per_minute:.1f}",
        )
    return table


def document(played: Played) -> str:
    """Every request of every policy, as JSON."""
    return json.dumps(
        {
            "schema": SCHEMA,
            "basis": played.basis,
            "trace": played.trace.source,
            "invented": played.invented,
            "mean_mbps": played.trace.mean_mbps,
            "load": played.load.words(),
            "limits": played.limits.words(),
            "plans": [_choice(choice) for choice in played.menu.choices],
            "refused": played.menu.refused,
            "policies": [_plain(each) for each in played.replays],
        },
        allow_nan=False,
    )


def _choice(choice: Choice) -> dict[str, Any]:
    return without(dataclasses.asdict(choice), "exceeds")  # those on the menu exceed nothing


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


def _played(documents: Sequence[dict[str, Any]], config: dict[str, Any]) -> Played:
    profile = _profile(documents)
    asked = _asked(documents, config, profile)
    kept = dataclasses.replace(asked, deadline_ms=math.inf)  # by which policies are judged
    menu = _menu(documents, kept, profile)
    deadline = float(config["deadline_ms"] or asked.deadline_ms)
    rate = float(config["mean_mbps"] or next(iter(_own_links(documents[0]).values())).up_mbps)
    trace, load = _trace(config, rate), _load(config)
    times = np.arange(0.0, trace.duration_s, 1 / float(config["requests_per_s"]))
    if len(times) < 2:
        raise UserError("the trace ends before the second request: raise requests_per_s")
    waiting = load.at(times)
    policies = _policies(menu, trace, times, waiting, config, rate)
    return Played(
        menu=menu,
        limits=kept,
        trace=trace,
        load=load,
        basis=_basis(documents),
        invented=config["trace"] is None,
        replays=tuple(
            replay(policy, menu, trace, times, load=waiting, deadline_ms=deadline)
            for policy in policies
        ),
    )


def _profile(documents: Sequence[dict[str, Any]]) -> Profile:
    """Of the model, for the order of its cuts.

    Raises:
        UserError: The files are of different models, or lack it.
    """
    try:
        profiles = [Profile.from_json(json.dumps(each["profile"])) for each in documents]
        same_model(profiles)
    except ProfileError as error:
        raise UserError(f"the plans cannot be on one menu: {error}") from error
    except KeyError as error:
        raise UserError(f"a plan lacks its {error}: make it again") from error
    return profiles[0]


def _asked(
    documents: Sequence[dict[str, Any]], config: dict[str, Any], profile: Profile
) -> Constraints:
    """The strictest limits of all files and of the command line.

    Raises:
        UserError: A limit is none of this version.
    """
    most = None if config["leakage"] is None else float(config["leakage"])
    try:
        told = [limits(each["config"]["limits"]) for each in documents]
        return strictest([*told, limits({"leakage": most})], profile)
    except (ProfileError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the limits of a plan cannot be read: {error!r}") from error


def _menu(documents: Sequence[dict[str, Any]], kept: Constraints, profile: Profile) -> Menu:
    """The plans of all files; where several have a plan, it must keep the limits in all of them."""
    choices = [each for document in documents for each in _choices(document, kept, profile)]
    last = sorted(choices, key=lambda choice: bool(choice.exceeds))
    return Menu([*{each.name: each for each in last}.values()], leakage_limit=kept.leakage)


def _choices(document: dict[str, Any], kept: Constraints, profile: Profile) -> list[Choice]:
    """The plans of a file, each taken apart with the link for which it was made."""
    own = _own_links(document)
    usual = next(iter(own.values()))
    plans = [Plan.from_dict(each) for each in document["plans"]]
    return [
        Choice.of(
            plan,
            own.get("".join(plan.placement.tiers[1:2]), usual),
            exceeds=kept.exceeded(plan, profile),
        )
        for plan in plans
    ]


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
    waiting: NDArray[np.float64],
    config: dict[str, Any],
    rate: float,
) -> list[Policy]:
    """The table, the bandit, single plans, and who knows all.

    A single plan is the best one at the usual rate of an idle server, which may not be what the
    trace has. So that no policy shines only beside a bad choice, the best one over the trace is
    there as well.
    """
    window, margin = int(config["window"]), float(config["margin"])
    usual = int(menu.latency_ms(rate).argmin())
    afterwards = int(latencies(menu, trace, times, waiting).mean(1).argmin())
    dwell = float(config["dwell_s"])
    return [
        TablePolicy(menu, HarmonicMean(window=window), mbps=rate, margin=margin, dwell_s=dwell),
        Bandit(menu, HarmonicMean(window=window), mbps=rate),
        *(Static(menu, choice) for choice in dict.fromkeys((usual, afterwards))),
        Clairvoyant(menu, trace, dict(zip(times.tolist(), waiting.tolist(), strict=True))),
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


def _load(config: dict[str, Any]) -> Load:
    told = config["load"]
    if told is None or isinstance(told, int | float):
        return Load.constant(told or 0)
    return Load.read(Path(told))
