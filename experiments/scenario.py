"""From configuration to the scenario of a plan."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.compose import build, without
from experiments.errors import UserError
from offloading.profile import Profile, ProfileError
from offloading.scenario import Hop, Scenario, ScenarioError
from offloading.tier import Tier


def scenario_of(node: Mapping[str, Any], workload: Mapping[str, Any]) -> Scenario:
    """Build tiers, hops and workload.

    Args:
        node: What the group `scenario` describes.
        workload: What the group `workload` describes.

    Raises:
        UserError: They do not fit together, or a number is out of its range.
    """
    try:
        return Scenario(
            name=str(node["name"]),
            tiers=tuple(_tier(name, tier) for name, tier in node["tiers"].items()),
            hops={
                (near, far): _hop(hop)
                for near, ways in node["hops"].items()
                for far, hop in ways.items()
            },
            workload=build(dict(workload)),
            reply_bytes=int(node["reply_bytes"]),
        )
    except (ScenarioError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"scenario {node.get('name')}: {error}") from error


def only(scenario: Scenario, names: list[str] | None) -> Scenario:
    """The same without the tiers that are not named.

    Raises:
        UserError: There is no such tier, or no device is left.
    """
    if names is None:
        return scenario
    known = [tier.name for tier in scenario.tiers]
    unknown = [name for name in names if name not in known]
    if unknown or known[0] not in names:
        raise UserError(f"only={names}: want {known[0]!r}, the device, and some of {known[1:]}")
    return dataclasses.replace(
        scenario,
        tiers=tuple(tier for tier in scenario.tiers if tier.name in names),
        hops={key: hop for key, hop in scenario.hops.items() if {*key} <= {*names}},
    )


def _tier(name: str, node: Mapping[str, Any]) -> Tier:
    tier = build(without(dict(node), "profile"))
    if not isinstance(tier, Tier):
        raise UserError(f"scenario.tiers.{name}: must describe an offloading.tier.Tier")
    if not node.get("profile"):
        return tier
    try:
        profile = Profile.read(Path(node["profile"]))
    except ProfileError as error:
        raise UserError(f"scenario.tiers.{name}.profile: {error}") from error
    return tier.with_profile(profile, f"profile {node['profile']}")


def _hop(node: Mapping[str, Any]) -> Hop:
    link, further = build(node["link"]), float(node.get("extra_rtt_ms", 0.0))
    longer = dataclasses.replace(link, rtt_ms=link.rtt_ms + further)
    return Hop(link=longer, **without(dict(node), "link", "extra_rtt_ms"))
