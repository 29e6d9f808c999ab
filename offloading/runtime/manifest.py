"""What an artefact says about itself, and about the plan that it is a part of."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from offloading.runtime.errors import ArtefactError
from splitbench.codecs.container import DTYPES, claimed_bytes
from splitbench.release import TensorSpec

SCHEMA = 1
ID_CHARACTERS = 16  # of a SHA-256, in hexadecimal digits
Fallback = Literal["none", "exit", "whole"]
OnFailure = Literal["fail", "local_exit"]


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """All that the segments of a plan agree on.

    Attributes:
        model: The node that describes it.
        image_shape: Channels, height, width.
        classes: Number of classes.
        cuts: Names, from the device outwards; one segment more than these.
        defense: The node of what protects the release at the first cut.
        codec: The node of what makes bytes of it, where the defense has no codec of its own.
        hops: The tensors that cross each cut, as they leave.
        bounds: Bytes of the largest message at each cut.
        seed: Of the run; what a defense initialises follows from it.
        on_failure: What the device does if no answer comes.
        fallback: What it then answers with.
        weights: SHA-256 of the weights of each segment.
    """

    model: Mapping[str, Any]
    image_shape: tuple[int, int, int]
    classes: int
    cuts: tuple[str, ...]
    defense: Mapping[str, Any]
    codec: Mapping[str, Any]
    hops: tuple[tuple[TensorSpec, ...], ...]
    bounds: tuple[int, ...]
    seed: int = 0
    on_failure: OnFailure = "fail"
    fallback: Fallback = "none"
    weights: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = {len(self.cuts), len(self.hops), len(self.bounds)}
        if counts != {len(self.cuts)} or not self.cuts:
            raise ArtefactError("want at least one cut, and tensors and a bound for each")
        if self.on_failure not in get_args(OnFailure) or self.fallback not in get_args(Fallback):
            raise ArtefactError(f"on_failure={self.on_failure!r}, fallback={self.fallback!r}")
        if (self.on_failure == "fail") != (self.fallback == "none"):
            raise ArtefactError("a device that answers by itself needs something to answer with")
        for specs in self.hops:
            if not specs or any(spec.dtype not in DTYPES for spec in specs):
                raise ArtefactError(f"a message holds {', '.join(DTYPES)}, not {specs}")

    @property
    def segments(self) -> int:
        """How many there are."""
        return len(self.cuts) + 1

    @property
    def id(self) -> str:
        """Names the plan: equal only where model, weights, cuts, defense and codecs are."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:ID_CHARACTERS]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One segment of a plan.

    Attributes:
        deployed: The plan.
        segment: Place of the segment; 0 runs on the device.
        versions: Of what wrote it, for a reader.
    """

    deployed: Deployed
    segment: int
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.segment < self.deployed.segments:
            raise ArtefactError(f"segment {self.segment} of {self.deployed.segments}")

    @property
    def is_last(self) -> bool:
        """Whether it returns logits."""
        return self.segment == self.deployed.segments - 1

    def to_json(self) -> str:
        """One JSON document."""
        values = {"schema": SCHEMA, "plan_id": self.deployed.id, **dataclasses.asdict(self)}
        return json.dumps(values, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """What `to_json` wrote.

        Raises:
            ArtefactError: Not JSON, another schema, other fields, or a plan that was changed.
        """
        try:
            raw = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ArtefactError(f"the manifest is no JSON document: {error}") from error
        if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
            found = raw.get("schema") if isinstance(raw, dict) else type(raw).__name__
            raise ArtefactError(f"the manifest has schema {found!r}, this program reads {SCHEMA}")
        try:
            made = cls(
                deployed=_deployed(raw["deployed"]),
                segment=_whole(raw["segment"]),
                versions={str(k): str(v) for k, v in raw["versions"].items()},
            )
            matches = raw["plan_id"] == made.deployed.id
        except ArtefactError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ArtefactError(f"not a manifest: {type(error).__name__}: {error}") from error
        if not matches:
            raise ArtefactError("the manifest was changed: its plan is not the one that it names")
        return made


def _deployed(raw: Mapping[str, Any]) -> Deployed:
    channels, height, width = (_whole(size) for size in raw["image_shape"])
    return Deployed(
        **{
            **raw,
            "image_shape": (channels, height, width),
            "classes": _whole(raw["classes"]),
            "cuts": tuple(str(name) for name in raw["cuts"]),
            "hops": tuple(tuple(_spec(spec) for spec in specs) for specs in raw["hops"]),
            "bounds": tuple(_whole(bound) for bound in raw["bounds"]),
            "seed": _whole(raw["seed"]),
            "weights": tuple(str(digest) for digest in raw["weights"]),
        }
    )


def _spec(raw: Mapping[str, Any]) -> TensorSpec:
    spec = TensorSpec(
        str(raw["name"]), tuple(_whole(size) for size in raw["shape"]), str(raw["dtype"])
    )
    if spec.dtype in DTYPES:
        claimed_bytes([spec])
    return spec


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ArtefactError(f"the manifest has {value!r} where a number of things belongs")
    return value
