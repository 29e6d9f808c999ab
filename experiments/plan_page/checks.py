"""What was measured or simulated of a plan since it was made, beside what it predicted."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plotly import graph_objects as go

from experiments.errors import UserError
from experiments.plan_page.adapted import Adapted, read_adapted
from experiments.plan_page.beside import read_beside
from experiments.plan_page.drawing import Drawing, Key, empty, limit_line, safe
from experiments.plan_page.words import long
from offloading.emulation.calibration import TOLERANCE

BESIDE = ("measured.json", "simulated.json", "adapted.json")
SCHEMA = 1  # of measured.json and simulated.json
MARGIN = 0.03  # of an axis before its zero: room for what takes hardly any time
LEAST_SHARE = 1e-4  # of requests: where the tail ends


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One placement that was run for real.

    Attributes:
        name: As the plan names it.
        p50_ms, p95_ms: End to end.
        low_ms, high_ms: Bootstrap interval (95 %) of the median.
        predicted_ms: For the machine on which it ran; None where nobody can say.
    """

    name: str
    p50_ms: float
    p95_ms: float
    low_ms: float
    high_ms: float
    predicted_ms: float | None

    @property
    def error(self) -> float | None:
        """Of the prediction, relative; positive where it is too high."""
        return None if self.predicted_ms is None else self.predicted_ms / self.p50_ms - 1


@dataclass(frozen=True, kw_only=True)
class Tail:
    """How late requests of a simulation are.

    Attributes:
        placement: As the plan names it.
        workload: What was asked.
        requests: That were counted.
        latency_ms: Ascending.
        share_above: Of the requests that take longer.
    """

    placement: str
    workload: str
    requests: int
    latency_ms: tuple[float, ...]
    share_above: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.latency_ms or len(self.latency_ms) != len(self.share_above):
            raise ValueError("a tail needs as many latencies as shares, and some")


@dataclass(frozen=True)
class Checks:
    """All that was found out since.

    Attributes:
        measured: Placements that were run; those that the plan does not have are left out.
        conditions: How they were run, in a sentence.
        tail: Of a simulation; None where there is none of a placement of this plan.
        adapted: A network played again; None where there is none of this plan's front.
    """

    measured: tuple[Measured, ...] = ()
    conditions: str = ""
    tail: Tail | None = None
    adapted: Adapted | None = None


def read_checks(folder: Path, known: Collection[str], front: Collection[str] = ()) -> Checks:
    """What lies beside a plan in measured.json, simulated.json and adapted.json, if anything.

    Args:
        folder: Where the plan is.
        known: Its placements, as it names them: files may be left from another plan.
        front: Those of them from which `splitbench adapt` makes a menu.

    Raises:
        UserError: A file is none of this version.
    """
    found, conditions, tail = tuple[Measured, ...](), "", None
    raw = read_beside(folder / BESIDE[0], schema=SCHEMA)
    try:
        if raw is not None:
            all_of_them = [_measured(plan) for plan in raw["plans"]]
            found = tuple(plan for plan in all_of_them if plan.name in known)
            conditions = _conditions(raw)
        raw = read_beside(folder / BESIDE[1], schema=SCHEMA)
        if raw is not None and str(raw["placement"]) in known:
            tail = Tail(
                placement=str(raw["placement"]),
                workload=str(raw["workload"]),
                requests=int(raw["requests"]),
                latency_ms=tuple(map(float, raw["tail"]["latency_ms"])),
                share_above=tuple(map(float, raw["tail"]["share_above"])),
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{folder}: not what was measured or simulated: {error!r}") from error
    return Checks(found, conditions, tail, read_adapted(folder / BESIDE[2], front))


def drawings(checks: Checks, *, deadline_ms: float, percentile: int) -> list[Drawing]:
    """Predicted against measured, and the tail of a simulation; those that there are."""
    made = []
    if any(plan.predicted_ms is not None for plan in checks.measured):
        made.append(_scatter(checks))
    if checks.tail is not None:
        made.append(_tail(checks.tail, deadline_ms, percentile))
    return made


def _conditions(raw: dict[str, Any]) -> str:
    """How it was measured, and what makes the figures doubtful."""
    said = (
        f"{int(raw['requests'])} requests each over links imitated by {raw['backend']}; "
        f"two equal plans differed by {abs(float(raw['same_ms'])):.2f} ms"
    )
    errors = {hop: float(link["worst_error"]) for hop, link in raw.get("calibrations", {}).items()}
    poor = [f"{hop} {e:+.0%}" for hop, e in errors.items() if abs(e) > TOLERANCE]
    host = raw.get("host", {})
    load, cores = (float(host.get(name) or 0) for name in ("load", "cores"))
    return "; ".join(
        [
            said,
            *([f"links were imitated badly, in time by {', '.join(poor)}"] if poor else []),
            *([f"the machine was busy, load {load:g} on {cores:g} cores"] if load > cores else []),
        ]
    )


def _measured(raw: dict[str, Any]) -> Measured:
    low, high = raw["p50_interval_ms"]
    predicted = raw["predicted"]
    return Measured(
        name=str(raw["name"]),
        p50_ms=float(raw["end_to_end_ms"]["p50"]),
        p95_ms=float(raw["end_to_end_ms"]["p95"]),
        low_ms=float(low),
        high_ms=float(high),
        predicted_ms=None if predicted is None else float(predicted["total_ms"]),
    )


def _scatter(checks: Checks) -> Drawing:
    shown = [plan for plan in checks.measured if plan.predicted_ms is not None]
    figure = empty("predicted median (ms)", "measured median (ms)")
    most = 1.1 * max(max(plan.predicted_ms or 0.0, plan.high_ms) for plan in shown)
    figure.add_trace(
        go.Scatter(
            x=[0, most],
            y=[0, most],
            mode="lines",
            line={"color": "var(--quiet)", "dash": "dot", "width": 1.3},
            hoverinfo="skip",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[plan.predicted_ms for plan in shown],
            y=[plan.p50_ms for plan in shown],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [max(plan.high_ms - plan.p50_ms, 0.0) for plan in shown],
                "arrayminus": [max(plan.p50_ms - plan.low_ms, 0.0) for plan in shown],
                "color": "var(--s1)",
            },
            mode="markers+text",
            text=[f"<b>{number}</b>" for number, _ in enumerate(shown, start=1)],
            textposition=_sides([plan.predicted_ms or 0.0 for plan in shown]),
            marker={"size": 9, "color": "var(--s1)"},
            hovertext=[f"{safe(p.name)}<br>{long(p.p50_ms)} ms measured" for p in shown],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    )
    figure.update_xaxes(range=[-MARGIN * most, most])
    figure.update_yaxes(range=[-MARGIN * most, most])
    errors = [abs(plan.error) for plan in shown if plan.error is not None]
    return Drawing(
        name="measured",
        figure=figure,
        reading=f"Predictions of {len(shown)} placements are off by "
        f"{sum(errors) / len(errors):.1%} on average; on the dotted line they would be exact."
        if len(shown) > 1
        else f"The prediction is off by {errors[0]:.1%}; on the dotted line it would be exact.",
        keys=tuple(Key(p.name, "var(--s1)", str(n)) for n, p in enumerate(shown, start=1)),
        rests=f"• measured: {checks.conditions}. The prediction is for the machine of the "
        "measurement, not for the tiers of the scenario",
    )


def _sides(predicted_ms: Sequence[float]) -> list[str]:
    """Where numbers stand: neighbours on two sides of the line, so that none covers another."""
    order = sorted(range(len(predicted_ms)), key=lambda number: predicted_ms[number])
    return ["bottom right" if order.index(i) % 2 else "top left" for i in range(len(order))]


def _tail(tail: Tail, deadline_ms: float, percentile: int) -> Drawing:
    figure = empty("latency (ms)", "share of requests that takes longer")
    figure.add_trace(
        go.Scatter(
            x=list(tail.latency_ms),
            y=list(tail.share_above),
            mode="lines",
            line={"color": "var(--s3)", "width": 2},
            hovertemplate="%{y:.3%} take longer than %{x:,.4g} ms<extra></extra>",
        )
    )
    least = max(min(tail.share_above, default=LEAST_SHARE), LEAST_SHARE)
    figure.update_yaxes(type="log", range=[math.log10(least), 0.05], tickformat=".3~%", dtick=1)
    if math.isfinite(deadline_ms):
        limit_line(figure, deadline_ms, f"limit of p{percentile}", across=False)
    pairs = list(zip(tail.latency_ms, tail.share_above, strict=True))
    late = next((ms for ms, share in pairs if share <= 0.05), tail.latency_ms[-1])
    return Drawing(
        name="tail",
        figure=figure,
        reading=f"One request in twenty takes longer than {long(late)} ms.",
        keys=(Key(f"{tail.placement}: {tail.requests:,} requests", "var(--s3)"),),
        rests=f"~ a simulation of {tail.workload}, with the plan's own times; as far as those are "
        "assumed, so is this",
    )
