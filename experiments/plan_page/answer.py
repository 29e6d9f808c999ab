"""The answer: what to do, drawn as a strip, and what baselines would do."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from experiments.plan_page.report import Report
from experiments.plan_page.words import LIMITS, NAMES, value
from offloading.constraints import Constraints
from offloading.figure import Figure, weakest
from offloading.plan import Phase, Plan
from offloading.sensitivity import SHARE

TILES = ("leakage", "usd_per_million", "accuracy", "device_joules")
CALLED = {"compute": "computes", "encode": "encodes", "decode": "decodes"}
WAITS = {"queue": "waits", "start": "starts"}
HOPPING = {"network": "network", "carry": "sends and receives"}


@dataclass(frozen=True)
class Part:
    """One tier or one hop of the strip.

    Attributes:
        hop: Whether it is a hop.
        title: Tier, or link.
        what: Its segment, or what travels.
        steps: What takes how long.
    """

    hop: bool
    title: str
    what: str
    steps: tuple[tuple[str, Figure], ...]


def headline(report: Report) -> str:
    """What to do, in one sentence."""
    chosen = report.outcome.recommended
    if chosen is None:
        return "No placement keeps all limits."
    placement = chosen.placement
    if placement.stays:
        return f"Keep the whole model on the {placement.tiers[0]}."
    others = " and ".join(placement.tiers[1:])
    near = placement.segments[0]
    if near.end == "input":
        return f"Send the image itself to the {others}."
    return f"Cut after {near.end}, and send the features to the {others}."


def reasons(report: Report) -> list[str]:
    """Why, in further sentences."""
    chosen, limits = report.outcome.recommended, report.asked.constraints
    if chosen is None:
        return [_nearest(name, found) for name, found in report.outcome.nearest.items()]
    count, all_of_them = int(report.keeps.sum()), report.outcome.considered
    least = f"this one has the least {NAMES.get(report.minimise, report.minimise)}"
    said = [
        f"{count:,} of {all_of_them:,} placements keep the limits ({limits.words()}); {least}."
        if limits.words() != "no limits"
        else f"Of {all_of_them:,} placements {least}; no limits were set."
    ]
    option = chosen.placement.option
    if option is not None and option.name not in ("undefended", "raw image"):
        said.append(f"What leaves the device: {option.name}.")
    elif chosen.placement.stays:
        said.append("Nothing that may be sent is better under these limits.")
    other = sum(not change.same for change in report.doubts)
    if report.doubts:
        said.append(
            f"Of {len(report.doubts)} changes of one constant by {SHARE:.0%} that move what was "
            f"asked for, {len(report.doubts) - other} leave it as it is."
        )
    return said


def _nearest(name: str, found: float | None) -> str:
    limit = LIMITS.get(name, name)
    if found is None:
        return f"Of {limit}: even without this limit, the others alone are too much."
    figure = "latency_p95_ms" if name == "deadline_ms" else name
    return f"Of {limit}: at least {value(figure, found)}, while all the other limits are kept."


def tiles(plan: Plan, limits: Constraints) -> list[tuple[str, str, Figure]]:
    """Name, key and figure of what the plan comes to."""
    names = ("latency_ms", limits.tail, *TILES)
    return [(NAMES[name], name, plan.figures[name]) for name in names if name in plan.figures]


def strip(report: Report, plan: Plan) -> list[Part]:
    """Tiers and hops in the order in which a request passes them, and the way back."""
    placement, found = plan.placement, list[Part]()
    for number, segment in enumerate(placement.segments):
        if number:
            near = placement.segments[number - 1]
            found.append(_hop(report, plan, near.tier, segment.tier, near.end, first=number == 1))
        mine = [phase for phase in plan.phases if phase.where == segment.tier]
        what = f"{segment.start} to {segment.end}"
        if segment.end == "input":
            what = "only sends the image"
        elif number == 0 and placement.stays:
            what = "the whole model"
        found.append(Part(False, segment.tier, what, _steps(mine)))
    if not placement.stays:
        far, near_tier = placement.tiers[-1], placement.tiers[0]
        there = {f"{a}>{b}" for a, b in pairwise(placement.tiers)}
        back = [p for p in plan.phases if p.kind in HOPPING and p.where not in there]
        reply = f"{report.planner.scenario.reply_bytes} B back"
        title = f"{far} to {near_tier}"
        total = Figure(sum(p.ms.value for p in back), weakest(p.ms.basis for p in back), "reply")
        found.append(Part(True, title, reply, (("reply", total),)))
    return found


def _hop(report: Report, plan: Plan, near: str, far: str, cut: str, *, first: bool) -> Part:
    option = plan.placement.option
    assert option is not None
    place = report.planner.profile.places[cut]
    length = option.payload_bytes if first else report.planner.costing.plain_bytes[place]
    mine = [phase for phase in plan.phases if phase.where == f"{near}>{far}"]
    steps = tuple((HOPPING[phase.kind], phase.ms) for phase in mine)
    name = option.name if first else "plain features"
    return Part(True, f"{near} to {far}", f"{value('payload_bytes', length)}, {name}", steps)


def _steps(phases: Sequence[Phase]) -> tuple[tuple[str, Figure], ...]:
    return tuple(({**CALLED, **WAITS}.get(p.kind, p.kind), p.ms) for p in phases)
