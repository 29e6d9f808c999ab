"""What `splitbench adapt` left beside a plan."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from experiments.errors import UserError
from experiments.plan_page.beside import read_beside
from offloading.adaptation.replay import Replay
from offloading.figure import Basis

SCHEMA = 3  # of adapted.json
STATIC, CLAIRVOYANT = "always ", "clairvoyant"  # how the names of those begin that adapt nothing
ROUNDING_MS = 1e-6


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A recorded network played again, with several policies.

    Attributes:
        trace: Where the network is from.
        invented: Whether nobody recorded it.
        basis: What the times rest on.
        load: Of the server, for a reader.
        limits: Of the menu, for a reader.
        refused: How many plans exceed them.
        replays: One for each policy, all of the same requests.
    """

    trace: str
    invented: bool
    basis: Basis
    load: str
    limits: str
    refused: int
    replays: tuple[Replay, ...]

    @property
    def adaptive(self) -> list[Replay]:
        """Those that change the plan, and know only what a device sees."""
        return [r for r in self.replays if not r.policy.startswith((STATIC, CLAIRVOYANT))]

    @property
    def static(self) -> list[Replay]:
        """Those that always take the same plan."""
        return [r for r in self.replays if r.policy.startswith(STATIC)]

    @property
    def deadline_ms(self) -> float | None:
        """By which requests should be answered; None where there is none."""
        deadline = self.replays[0].deadline_ms
        return deadline if np.isfinite(deadline) else None

    @property
    def moving(self) -> list[Replay]:
        """Those whose plan may change, who knows the network last."""
        return [*self.adaptive, *(r for r in self.replays if r.policy == CLAIRVOYANT)]


def read_adapted(path: Path, front: Collection[str] = ()) -> Adapted | None:
    """The document, if it is there and of this plan.

    Args:
        path: Of the file.
        front: Plans of the plan file beside it: a menu without them was made of another one.

    Raises:
        UserError: It is none of this version, or was damaged.
    """
    raw = read_beside(path, schema=SCHEMA)
    if raw is None:
        return None
    try:
        names = tuple(str(plan["name"]) for plan in raw["plans"])
        if not {*front} <= {*names, *map(str, raw["refused"])}:
            return None
        found = Adapted(
            trace=str(raw["trace"]),
            invented=bool(raw["invented"]),
            basis=get_args(Basis)[get_args(Basis).index(raw["basis"])],
            load=str(raw["load"]),
            limits=str(raw["limits"]),
            refused=len(dict(raw["refused"])),
            replays=tuple(_replay(each, names) for each in raw["policies"]),
        )
        _check(found)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: not what was played again: {error!r}") from error
    return found


def _replay(raw: dict[str, Any], plans: tuple[str, ...]) -> Replay:
    deadline = raw["deadline_ms"]
    return Replay(
        policy=str(raw["policy"]),
        plans=plans,
        seconds=_numbers(raw["seconds"]),
        mbps=_numbers(raw["mbps"]),
        waiting=_numbers(raw["waiting"]),
        estimates_mbps=_numbers(raw["estimates_mbps"]),
        chosen=np.array([range(len(plans)).index(n) for n in raw["chosen"]], dtype=np.int64),
        latency_ms=_numbers(raw["latency_ms"]),
        best_ms=_numbers(raw["best_ms"]),
        deadline_ms=np.inf if deadline is None else float(deadline),
    )


def _numbers(raw: list[float | None]) -> NDArray[np.float64]:
    """Null stands for what is not finite: an estimate that nobody made."""
    return np.array([np.nan if each is None else float(each) for each in raw])


def _check(found: Adapted) -> None:
    """That every request has all its numbers, and that they can be true."""
    if not found.adaptive:
        raise ValueError("no policy that adapts")
    seconds = found.replays[0].seconds
    if len(seconds) < 2 or not (np.diff(seconds) > 0).all():
        raise ValueError("the times of requests do not ascend")
    for each in found.replays:
        told = (
            *(each.seconds, each.mbps, each.waiting),
            *(each.chosen, each.latency_ms, each.best_ms),
        )
        if {len(values) for values in (*told, each.estimates_mbps)} != {len(seconds)}:
            raise ValueError(f"{each.policy}: not one number for each request")
        if not (np.isfinite(told).all() and np.min(told) >= 0 and (each.seconds == seconds).all()):
            raise ValueError(f"{each.policy}: not of the same requests, or below zero")
        if each.regret_ms.min() < -ROUNDING_MS:
            raise ValueError(f"{each.policy}: faster than the best plan")
