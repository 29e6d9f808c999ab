"""A placement, and what it is expected to take."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from offloading.figure import Figure
from offloading.option import Option

SCHEMA = 1
PhaseKind = Literal["compute", "encode", "decode", "network", "carry", "queue", "start"]


class PlanError(ValueError):
    """A file is no plan that this version reads."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A consecutive part of a model on one tier.

    Attributes:
        tier: Its name.
        start: Cut after which it begins; ``input`` for the first.
        end: Cut at which it ends; ``output`` for the last.
        weight_bytes: Of its parameters, which a cold start reads.
    """

    tier: str
    start: str
    end: str
    weight_bytes: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Which part of a model runs where, and how its features travel.

    Attributes:
        segments: From the device outwards; where the first ends at ``input`` the device sends the
            image itself.
        option: What leaves the device; None where it runs the whole model.
    """

    segments: tuple[Segment, ...]
    option: Option | None

    def __post_init__(self) -> None:
        if (len(self.segments) == 1) != (self.option is None) or not self.segments:
            raise ValueError("whatever leaves the device needs an option, and nothing else does")
        for near, far in zip(self.segments, self.segments[1:], strict=False):
            if near.end != far.start:
                raise ValueError(
                    f"{near.tier} ends at {near.end}, {far.tier} begins at {far.start}"
                )

    @property
    def stays(self) -> bool:
        """Whether the device runs the whole model."""
        return self.option is None

    @property
    def tiers(self) -> tuple[str, ...]:
        """Names of the tiers in use."""
        return tuple(segment.tier for segment in self.segments)

    def __str__(self) -> str:
        if self.option is None:
            return f"all on {self.segments[0].tier}"
        near, *others = self.segments
        first = f"{near.tier} to {near.end}" if near.end != "input" else f"{near.tier} sends image"
        ways = ", ".join(f"{s.tier} to {s.end}" for s in others)
        return f"{first} ({self.option.name}), {ways}"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One part of the latency of a request that is sent.

    Attributes:
        kind: What happens.
        where: A tier, or ``near>far`` of a hop (``far>near`` on the way back).
        ms: Median.
        tail_ms: How much longer one in twenty takes.
    """

    kind: PhaseKind
    where: str
    ms: Figure
    tail_ms: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A placement with its predictions.

    Attributes:
        placement: What it is about.
        scenario: Its name.
        model: The model's, as the profile has it.
        figures: ``latency_ms`` (median, the mean over images that are sent and that are not),
            ``latency_p90_ms``, ``latency_p95_ms``, ``latency_p99_ms`` (90 and 99 where the profile
            has enough runs), ``usd_per_million``, ``leakage``, ``accuracy``, ``accuracy_drop``,
            ``payload_bytes``, ``device_joules`` (where power is known).
        phases: Of a request that is sent; their sum is its median latency.
    """

    placement: Placement
    scenario: str
    model: str
    figures: Mapping[str, Figure]
    phases: tuple[Phase, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON document; what is infinite (nobody keeps up) is None."""
        found = {"schema": SCHEMA, **dataclasses.asdict(self)}
        for figure in (*found["figures"].values(), *(phase["ms"] for phase in found["phases"])):
            if math.isinf(figure["value"]):
                figure["value"] = None
        return found

    def to_json(self) -> str:
        """One JSON document."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    @classmethod
    def from_dict(cls, raw: Any) -> "Plan":
        """What `to_dict` wrote.

        Raises:
            PlanError: Another schema, or other fields.
        """
        if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
            found = raw.get("schema") if isinstance(raw, dict) else type(raw).__name__
            raise PlanError(f"plan has schema {found!r}, this version reads {SCHEMA}")
        try:
            return cls(
                placement=_placement(raw["placement"]),
                scenario=str(raw["scenario"]),
                model=str(raw["model"]),
                figures={key: _figure(value) for key, value in raw["figures"].items()},
                phases=tuple(Phase(**{**p, "ms": _figure(p["ms"])}) for p in raw["phases"]),
                notes=tuple(raw["notes"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise PlanError(f"not a plan: {error}") from error

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """Read a file.

        Raises:
            PlanError: It cannot be read, or is no plan.
        """
        try:
            return cls.from_dict(json.loads(path.read_text()))
        except OSError as error:
            raise PlanError(f"cannot read the plan {path}: {error.strerror}") from error
        except json.JSONDecodeError as error:
            raise PlanError(f"{path} is not a JSON document: {error}") from error


def _figure(raw: dict[str, Any]) -> Figure:
    return Figure(**{**raw, "value": math.inf if raw["value"] is None else raw["value"]})


def _placement(raw: dict[str, Any]) -> Placement:
    option = raw["option"]
    if option is not None:
        figures = ("leakage", "accuracy", "accuracy_drop")
        option = Option(**{**option, **{name: Figure(**option[name]) for name in figures}})
    return Placement(segments=tuple(Segment(**s) for s in raw["segments"]), option=option)
