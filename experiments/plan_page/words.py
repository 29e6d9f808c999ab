"""Numbers of a plan for a reader, each with what it rests on."""

import math
from collections.abc import Iterable

from experiments.page.words import milliseconds, rate, size
from offloading.figure import Basis, Figure
from offloading.plan import Placement, Plan
from offloading.sensitivity import Change

MARKS: dict[Basis, str] = {"measured": "•", "predicted": "~", "assumed": "?"}
MEANS: dict[Basis, str] = {
    "measured": "measured, here or in a record",
    "predicted": "computed from measurements",
    "assumed": "at least one constant behind it was not measured",
}
NAMES = {
    "latency_ms": "median latency",
    "latency_p90_ms": "90th percentile",
    "latency_p95_ms": "95th percentile",
    "latency_p99_ms": "99th percentile",
    "leakage": "leakage L",
    "usd_per_million": "$ per million requests",
    "accuracy": "accuracy",
    "accuracy_drop": "loss of accuracy",
    "payload_bytes": "bytes from the device",
    "device_joules": "energy on the device",
}
LEAST_MS = 0.01
LIMITS = {
    "memory": "what memory holds",
    "load": "what a tier can serve",
    "message": "the longest message that a tier accepts",
    "functions": "what a function does (it runs the last part only)",
    "deadline_ms": "the deadline",
    "leakage": "leakage",
    "usd_per_million": "price",
    "accuracy_drop": "loss of accuracy",
    "device_joules": "energy",
    "at_least": "what must stay on the device",
}


def value(name: str, number: float) -> str:
    """A figure of a plan with its unit, without what it rests on."""
    if not math.isfinite(number):
        return "overloaded" if name.startswith("latency") else "unknown"
    if name.endswith("_ms") and 0 < abs(number) < LEAST_MS:
        return f"< {LEAST_MS}\N{NO-BREAK SPACE}ms"
    if name.endswith("_ms"):
        return f"{long(number)}\N{NO-BREAK SPACE}ms"
    if name == "usd_per_million":
        return dollars(number)
    if name in ("accuracy", "accuracy_drop"):
        return f"{100 * number:.1f}\N{NO-BREAK SPACE}%"
    if name == "payload_bytes":
        return size(number)
    if name == "device_joules":
        return f"{number:.3g}\N{NO-BREAK SPACE}J"
    return rate(number)


def long(number: float) -> str:
    """A duration in milliseconds without the unit, thousands apart."""
    return f"{number:,.0f}" if number >= 1000 else milliseconds(number)


def dollars(number: float) -> str:
    """Dollars, with cents where they are few."""
    return f"${number:,.0f}" if number >= 1000 else f"${number:.2f}"


def marked(name: str, figure: Figure) -> str:
    """The same with its mark, for plain text."""
    return value(name, figure.value) + MARKS[figure.basis]


def between(name: str, figure: Figure) -> str:
    """The 95 % interval of a figure; empty where it has none."""
    if figure.low is None or figure.high is None:
        return ""
    return f"{value(name, figure.low)} to {value(name, figure.high)}"


def over(exceeded: Iterable[str]) -> str:
    """Limits that are exceeded, for a reader."""
    return ", ".join(LIMITS.get(name, name) for name in exceeded)


def ranking(change: Change) -> str:
    """What a wrong constant does to the order of the placements."""
    tau = "none" if change.tau is None else f"{change.tau:.2f}"
    return f"Kendall's tau {tau}, {change.best:.0%} of the ten best stay among them"


def told(plan: Plan) -> str:
    """A placement and its main figures in a line, as plotly shows it."""
    names = ("latency_ms", "leakage", "usd_per_million", "accuracy", "payload_bytes")
    said = [f"{NAMES[name]} {marked(name, plan.figures[name])}" for name in names]
    return f"{plan.placement}\n" + "\n".join(said)


def short(placement: Placement) -> str:
    """A placement for a label: ``relu2, gaussian noise > edge``."""
    if placement.option is None:
        return "all on the device"
    near, *others = placement.segments
    first = near.end if near.end != "input" else "image"
    ways = " > ".join(s.tier if s is others[-1] else f"{s.tier} to {s.end}" for s in others)
    return f"{first} ({placement.option.name}) > {ways}"
