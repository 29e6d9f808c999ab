"""What a model takes on one machine, cut by cut."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offloading.carrying import Carrying
from offloading.cold_starts import ColdStarts
from offloading.spread import TAILS, Spread

SCHEMA = 1


class ProfileError(ValueError):
    """A file is no profile that this version reads, or does not fit the question."""


@dataclass(frozen=True, kw_only=True)
class CutProfile:
    """One cut: what crosses, and what either side takes for one image.

    Attributes:
        name: As `splitbench.split.Cut` names it.
        shapes: Of the live tensors, without the batch axis.
        bytes: Of the live tensors in their own type.
        head_flops, tail_flops: Floating point operations of either side.
        head_params, tail_params: Parameters of either side.
        head_ms, tail_ms: Times of either side, each timed as a whole.
        head_memory_bytes, tail_memory_bytes: Parameters, buffers, and the tensors that are alive at
            the worst moment.
    """

    name: str
    shapes: tuple[tuple[int, ...], ...]
    bytes: int
    head_flops: int
    tail_flops: int
    head_params: int
    tail_params: int
    head_ms: Spread
    tail_ms: Spread
    head_memory_bytes: int
    tail_memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A model on a machine.

    Attributes:
        model: The model, for a reader, as its configuration describes it.
        image_shape: Channels, height, width.
        machine: What was measured: processor, versions, ...
        threads: Of torch meanwhile.
        cuts: In topological order, from ``input`` to ``output``.
        whole_ms: The undivided model, timed among the parts.
        again_ms: The same once more: how far two equal things differ here.
        measured: Whether the times were taken on the machine; otherwise they were derived.
        carrying: What the runtime takes here to carry messages; None where nobody measured it.
        cold: What it takes here to start a function that runs the model; None likewise.
    """

    model: str
    image_shape: tuple[int, int, int]
    machine: Mapping[str, str]
    threads: int
    cuts: tuple[CutProfile, ...]
    whole_ms: Spread
    again_ms: Spread
    measured: bool = True
    carrying: Carrying | None = None
    cold: ColdStarts | None = None
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        names = [cut.name for cut in self.cuts]
        if names[:1] != ["input"] or names[-1:] != ["output"] or len({*names}) != len(names):
            raise ProfileError(f"cuts {names}: want distinct ones, from 'input' to 'output'")

    @cached_property
    def places(self) -> dict[str, int]:
        """Place of each cut by its name."""
        return {cut.name: place for place, cut in enumerate(self.cuts)}

    def at(self, name: str) -> CutProfile:
        """One cut.

        Raises:
            ProfileError: It was not profiled.
        """
        return self.cuts[self.place(name)]

    def place(self, name: str) -> int:
        """Where a cut is in the order from ``input`` to ``output``.

        Raises:
            ProfileError: It was not profiled.
        """
        if name not in self.places:
            known = ", ".join(self.places)
            raise ProfileError(f"cut {name!r} was not profiled; profiled are {known}")
        return self.places[name]

    @cached_property
    def segments_ms(self) -> NDArray[np.float64]:
        """Median time from cut i to cut j > i, ``(cuts, cuts)``; 0 below the diagonal.

        A head and a tail are what was measured. What lies between two cuts is the mean of the
        differences of heads and of tails, which is a prediction.
        """
        heads = np.array([cut.head_ms.p50 for cut in self.cuts])
        tails = np.array([cut.tail_ms.p50 for cut in self.cuts])
        between = ((heads[None] - heads[:, None]) + (tails[:, None] - tails[None])) / 2
        between[0], between[:, -1] = heads, tails
        between[0, -1] = self.whole_ms.p50
        found: NDArray[np.float64] = np.triu(np.maximum(between, 0.0), 1)
        return found

    @cached_property
    def late_ms(self) -> NDArray[np.float64]:
        """How much longer than its median a segment takes at `TAILS`, ``(tails, cuts, cuts)``."""
        return np.stack([self._late_ms(percentile) for percentile in TAILS])

    def _late_ms(self, percentile: int) -> NDArray[np.float64]:
        heads, ends = (
            np.array([each.at(percentile) / max(each.p50, 1e-9) for each in times])
            for times in ([c.head_ms for c in self.cuts], [c.tail_ms for c in self.cuts])
        )
        whole = self.whole_ms.at(percentile) / self.whole_ms.p50
        share = np.full((len(self.cuts),) * 2, whole)
        share[0, 1:-1], share[1:-1, -1] = heads[1:-1], ends[1:-1]
        found: NDArray[np.float64] = self.segments_ms * (share - 1)
        return found

    def to_json(self) -> str:
        """One JSON document."""
        return json.dumps(dataclasses.asdict(self), indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Profile":
        """Read one back.

        Raises:
            ProfileError: Not JSON, another schema, or other fields.
        """
        try:
            raw = json.loads(text)
        except json.JSONDecodeError as error:
            raise ProfileError(f"not a JSON document: {error}") from error
        if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
            found = raw.get("schema") if isinstance(raw, dict) else type(raw).__name__
            raise ProfileError(f"profile has schema {found!r}, this version reads {SCHEMA}")
        try:
            return cls(
                **{
                    **raw,
                    "image_shape": tuple(raw["image_shape"]),
                    "cuts": tuple(_cut(cut) for cut in raw["cuts"]),
                    "whole_ms": Spread(**raw["whole_ms"]),
                    "again_ms": Spread(**raw["again_ms"]),
                    "carrying": Carrying(**raw["carrying"]) if raw.get("carrying") else None,
                    "cold": ColdStarts.from_dict(raw["cold"]) if raw.get("cold") else None,
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ProfileError(f"not a profile: {error}") from error
        except ValueError as error:
            raise ProfileError(str(error)) from error

    @classmethod
    def read(cls, path: Path) -> "Profile":
        """Read a file, of this machine or of another one.

        Raises:
            ProfileError: It cannot be read, or is no profile.
        """
        try:
            return cls.from_json(path.read_text())
        except OSError as error:
            raise ProfileError(f"cannot read the profile {path}: {error.strerror}") from error
        except ProfileError as error:
            raise ProfileError(f"{path}: {error}") from error


def same_model(profiles: Sequence[Profile]) -> None:
    """Refuse profiles of different models.

    Raises:
        ProfileError: They do not have the same cuts with the same tensors.
    """
    outlines = {tuple((cut.name, cut.shapes) for cut in p.cuts): p.model for p in profiles}
    if len(outlines) > 1:
        raise ProfileError(f"profiles of different models: {', '.join(outlines.values())}")


def _cut(raw: dict[str, Any]) -> CutProfile:
    times = {side: Spread(**raw[side]) for side in ("head_ms", "tail_ms")}
    return CutProfile(**{**raw, **times, "shapes": tuple(tuple(s) for s in raw["shapes"])})
