"""Every constant of a plan with its source, as the configuration files tell it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from omegaconf import OmegaConf

from experiments.plan_page.report import Report
from offloading.figure import Basis
from offloading.price_list import PriceList
from offloading.pricing import Pricing
from offloading.tier import Tier
from splitbench.link import Link

CHANGED = "set for this plan; the file says {}"


@dataclass(frozen=True)
class Constant:
    """One constant.

    Attributes:
        where: Tier, hop or list.
        name: With its unit.
        value: For a reader.
        basis: What it rests on.
        source: Where it is from.
    """

    where: str
    name: str
    value: str
    basis: Basis
    source: str


def heading(text: str) -> str:
    """The comment at the beginning of a configuration file."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def remarks(text: str) -> dict[str, str]:
    """The comment behind each key of a configuration file, by ``parent.key``."""
    found, parents = dict[str, str](), list[tuple[int, str]]()
    for line in text.splitlines():
        code, _, comment = line.partition(" #")
        key, colon, _ = code.strip().partition(":")
        if not colon or line.startswith("#"):
            continue
        depth = len(line) - len(line.lstrip())
        parents = [(d, k) for d, k in parents if d < depth]
        parents.append((depth, key))
        if comment:
            found[".".join(k for _, k in parents)] = comment.strip()
    return found


def constants(report: Report) -> Iterator[Constant]:
    """Of tiers, links, prices and workload."""
    scenario = report.planner.scenario
    for tier in scenario.tiers:
        yield from _tier(tier)
    for (near, far), hop in scenario.hops.items():
        where, source = f"{near} to {far}", _link_source(hop.link)
        link = hop.link
        rates = f"{link.up_mbps:g} up, {link.down_mbps:g} down"
        yield Constant(where, f"{link.name}, Mbit/s", rates, "assumed", source)
        yield Constant(where, "round trip, ms", f"{link.rtt_ms:g}", "assumed", source)
        if hop.radio_watts is not None:
            power = f"{hop.radio_watts:g}, and {hop.radio_watts_per_mbps:g} for each Mbit/s"
            yield Constant(where, "radio, W", power, "assumed", "set for this plan")
        if hop.up_usd_per_gb or hop.down_usd_per_gb:
            prices = f"{hop.up_usd_per_gb:g} up, {hop.down_usd_per_gb:g} back"
            yield Constant(where, "$ per 10^9 bytes", prices, "assumed", "price list")
    load = scenario.workload
    asked = f"{load.rate_per_s:g} from {load.devices} device{'s' if load.devices > 1 else ''}"
    yield Constant("workload", "requests per second", asked, "assumed", repr(load.arrivals))
    yield Constant("workload", "reply, bytes", f"{scenario.reply_bytes}", "assumed", "scenario")
    yield from prices_of(report.asked.config["price"])


def prices_of(price: Mapping[str, Any]) -> Iterator[Constant]:
    """The price list; a line has the remark of its file where its number is that of the file."""
    text = _named("price", str(price["name"]))
    said, original = remarks(text), dict(_flat(_read(text)))
    listed = PriceList.of(price)
    for key, value in _flat(price):
        if key in PriceList.__dataclass_fields__:
            continue
        source = said.get(key, f"{listed.source}, {listed.date}")
        if key in original and original[key] != value:
            source = CHANGED.format(original[key])
        yield Constant(str(price["name"]), key, f"{value:g}", "assumed", source)


def _tier(tier: Tier) -> Iterator[Constant]:
    said = heading(_named("tier", tier.name)) or "set for this plan"
    times = "its own profile" if tier.profile else f"{tier.slowdown:g} times the profiled machine"
    trust = "trusted" if tier.trusted else "not trusted"
    yield Constant(tier.name, f"time ({tier.kind}, {trust})", times, tier.times_basis, tier.source)
    yield Constant(tier.name, "memory, bytes", _limit(tier.room_bytes), "assumed", said)
    yield Constant(tier.name, "price", _pricing(tier.pricing), "assumed", "price list")
    if tier.cold_start is not None:
        start = tier.cold_start
        loading = "" if start.load_mb_per_s is None else f" and {start.load_mb_per_s:g} MB/s"
        told = f"{start.fixed_ms:g} ms{loading}"
        yield Constant(tier.name, "cold start", told, start.basis, start.source or said)
        kept = f"{start.keep_alive_s:g} s"
        yield Constant(tier.name, "idle instances are kept", kept, "assumed", said)
    if math.isfinite(tier.most_message_bytes):
        most = f"{tier.most_message_bytes:,.0f}"
        yield Constant(tier.name, "longest message, bytes", most, "assumed", said)
    if tier.watts is not None:
        yield Constant(tier.name, "power, W", f"{tier.watts:g}", "assumed", said)


def _limit(room_bytes: float) -> str:
    return f"{room_bytes:.3g}" if math.isfinite(room_bytes) else "no limit"


def _pricing(pricing: Pricing) -> str:
    name, _, rest = repr(pricing).partition("(")
    return f"{name.lower()}: {rest.rstrip(')')}" if rest.rstrip(")") else name.lower()


def _link_source(link: Link) -> str:
    """What the file of this link says, if the link has the rates of the file."""
    text = _named("link", link.name)
    if not text:
        return "set for this plan"
    node = _read(text)
    same = (link.up_mbps, link.down_mbps) == (node["up_mbps"], node["down_mbps"])
    changed = f"{node['up_mbps']:g} up, {node['down_mbps']:g} down"
    further = link.rtt_ms - node["rtt_ms"]
    more = f" {further:g} ms more round trip than that." if further else ""
    return (heading(text) if same else CHANGED.format(changed)) + more


@cache
def _named(group: str, name: str) -> str:
    """The text of the configuration file that describes this name; empty where none does."""
    for path in sorted((files("configs") / group).iterdir(), key=lambda path: path.name):
        text = path.read_text("utf-8") if path.name.endswith(".yaml") else ""
        if text and _read(text).get("name") == name:
            return text
    return ""


def _read(text: str) -> dict[str, Any]:
    node = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    return {str(key): value for key, value in node.items()} if isinstance(node, dict) else {}


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
