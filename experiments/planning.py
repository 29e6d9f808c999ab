"""From configuration to a planner: what `plan`, `explain` and the report share."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import open_dict

from experiments.compose import build, configured, plain
from experiments.console import Reporter
from experiments.errors import UserError
from experiments.leaderboard import write
from experiments.options import Evidence, evidence
from experiments.profile import describe, image_shape_and_classes, machine, profile_of
from experiments.scenario import only, scenario_of
from experiments.store import digest
from offloading.constraints import Constraints
from offloading.enumeration import TooManyError
from offloading.planner import Planner
from offloading.price_list import PriceList
from offloading.profile import Profile, ProfileError, same_model
from offloading.scenario import Scenario

ENCODED = 100  # images, to see how long they are as JPEG
# Groups and settings that a run has as well: with them a plan can be exported.
OF_A_RUN = ("data", "model", "training", "seed")


@dataclass(frozen=True)
class Question:
    """A plan's configuration, and what was built from it.

    Attributes:
        config: Resolved.
        planner: Ready to be asked.
        constraints: The limits.
        evidence: What is known about leakage.
        run: Overrides of `splitbench run` that name the same model and data.
    """

    config: dict[str, Any]
    planner: Planner
    constraints: Constraints
    evidence: Evidence
    run: tuple[str, ...]

    @property
    def prices(self) -> PriceList:
        """Whose they are, and when they were read."""
        return price_list(self.config["price"])


def composed(name: str, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """A resolved configuration, and which file was chosen in each group."""
    config = configured(name, overrides, hydra=True)
    choices = {str(key): str(value) for key, value in config.hydra.runtime.choices.items()}
    with open_dict(config):
        del config["hydra"]
    return plain(config), choices


def question(overrides: Sequence[str], reporter: Reporter) -> Question:
    """Build the planner that a command line describes.

    Raises:
        UserError: A setting is wrong, records are missing, or do not fit the model.
    """
    config, choices = composed("plan", overrides)
    return ask(config, choices, overrides, reporter)


def ask(
    config: dict[str, Any],
    choices: dict[str, str],
    overrides: Sequence[str],
    reporter: Reporter,
    *,
    profile: Profile | None = None,
) -> Question:
    """The same of a configuration that is resolved already, perhaps with a profile at hand."""
    price_list(config["price"])
    scenario = only(scenario_of(config["scenario"], config["workload"]), config["only"])
    config = with_starts(config, scenario)
    profile = profile or _profile(config, reporter)
    try:
        same_model([profile, *(t.profile for t in scenario.tiers if t.profile)])
        known = evidence(
            Path(config["records"]),
            profile,
            model=config["model_name"] or choices["model"],
            data=choices["data"],
            images=lambda: build(config["data"]).load().target.images(slice(0, ENCODED)),
        )
        planner = Planner(scenario, profile, known.options, accuracy=known.accuracy)
        constraints = limits(config["limits"])
        planner.check_runs(constraints)
        if constraints.at_least:
            profile.at(constraints.at_least)
        if config["minimise"] == "device_joules" or math.isfinite(constraints.device_joules):
            _check_watts(scenario)
    except (ProfileError, TooManyError) as error:
        raise UserError(str(error)) from error
    return Question(config, planner, constraints, known, run_overrides(overrides))


def with_starts(config: dict[str, Any], scenario: Scenario) -> dict[str, Any]:
    """The configuration with the cold starts that were measured, for who reads the plan later."""
    starts = {
        tier.name: {"_target_": "offloading.tier.ColdStart", **asdict(tier.cold_start)}
        for tier in scenario.tiers
        if tier.cold_start is not None and tier.cold_start.basis != "assumed"
    }
    tiers = {
        name: {**node, **({"cold_start": starts[name]} if name in starts else {})}
        for name, node in config["scenario"]["tiers"].items()
    }
    return {**config, "scenario": {**config["scenario"], "tiers": tiers}}


def price_list(node: dict[str, Any]) -> PriceList:
    """Whose prices they are.

    Raises:
        UserError: They say no name, date or source.
    """
    try:
        return PriceList.of(node)
    except ValueError as error:
        raise UserError(f"price list {node.get('name', '')}: {error}") from error


def limits(node: dict[str, Any]) -> Constraints:
    """The limits that are not null.

    Raises:
        UserError: One is no number of its kind.
    """
    try:
        return Constraints(**{key: value for key, value in node.items() if value is not None})
    except (TypeError, ValueError) as error:
        raise UserError(f"limits: {error}") from error


def run_overrides(overrides: Sequence[str]) -> tuple[str, ...]:
    """Those of a plan's overrides that a run understands too."""
    return tuple(
        word
        for word in overrides
        if word.lstrip("+~").partition("=")[0].partition(".")[0].partition("@")[0] in OF_A_RUN
    )


def _check_watts(scenario: Scenario) -> None:
    """Refuse a question about energy that the scenario cannot answer.

    Raises:
        UserError: A power is not known.
    """
    missing = scenario.unknown_watts()
    if missing:
        raise UserError(
            "the energy of a request is not known: set "
            + ", ".join(f"scenario.{name}" for name in missing)
            + " in watts, or leave tiers out with only=[...]"
        )


def _profile(config: dict[str, Any], reporter: Reporter) -> Profile:
    """The profile that is named, or one of this machine, which is kept."""
    if config["profile"]:
        found = Profile.read(Path(config["profile"]))
        wanted = describe(config["model"], found.image_shape)
        if found.model != wanted:
            raise UserError(f"{config['profile']} is of {found.model}, not of {wanted}")
        return found
    keys = ("model", "granularity", "runs", "threads", "seed", "carrying")
    shape, classes = image_shape_and_classes(config)
    about = {key: config[key] for key in keys} | {"shape": shape, "classes": classes}
    path = Path(config["paths"]["runs"]) / "profiles" / f"{digest({**about, **machine()})}.json"
    if path.is_file():
        return Profile.read(path)
    made = profile_of({**config, "image_shape": shape, "classes": classes}, reporter)
    write(path, made.to_json())
    reporter.say(f"profile of {describe(config['model'], shape)} on this machine: {path}")
    return made
