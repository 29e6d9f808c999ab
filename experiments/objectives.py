"""What a search is told of a finished job: what it leaks, how often it is right, what it sends."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.types import RunMode
from omegaconf import DictConfig

from experiments.errors import UserError

if TYPE_CHECKING:
    from splitbench.leaderboard import Evidence, Row


class Objectives(NamedTuple):
    """What hydra's return value is for a sweeper that searches, in this order.

    Attributes:
        leakage: L of the strongest attack, raised to what follows from the release itself; what the
            leaderboard ranks by. To be minimised.
        accuracy: Of the task with the defense on, in [0, 1]. To be maximised.
        payload_bytes: Of the mean message. To be minimised.
    """

    leakage: float
    accuracy: float
    payload_bytes: float


class UnrankedError(UserError):
    """A job of which the leaderboard would not rank the row: to a search it is a failed trial."""


def searching(hydra: DictConfig) -> bool:
    """Whether the jobs of this command line are started by a sweeper that learns from them.

    Args:
        hydra: Hydra's own settings. Optuna's sweeper has directions to search in; those that only
            enumerate have none, and ignore what a job returns.
    """
    return bool(hydra.mode == RunMode.MULTIRUN and "direction" in hydra.sweeper)


def check_one_cut(config: Mapping[str, Any]) -> None:
    """Refuse a search over jobs of several cuts, before any work.

    A mean over cuts would be the leakage of no system, and could be lowered by moving what leaks
    from a shallow cut to a deep one.

    Raises:
        UserError: The cuts are not one.
    """
    wanted = config["cuts"]
    many = wanted in ("module", "tensor", "all") if isinstance(wanted, str) else len(wanted) != 1
    if many:
        raise UserError(f"cuts={wanted}: a search looks at one cut; name one, such as cuts=[relu2]")


def objectives(evidence: "Iterable[Evidence]") -> Objectives:
    """The objectives of one job, from its records alone.

    Args:
        evidence: All cells of a job at one cut, those that failed included.

    Raises:
        UnrankedError: A cell failed, or the leaderboard would not rank the row: what looks private
            for want of an attack that worked is no point of a front.
    """
    from splitbench.leaderboard import boards  # a second of imports, which only searches need

    rows = [row for board in boards(evidence) for row in board.rows]
    if len(rows) != 1:
        raise UserError(f"a search wants jobs of one row each, this one has {len(rows)}")
    (row,) = rows
    reasons = list(_doubts(row))
    leak, accuracy, payload = row.closed, row.accuracy, row.payload_bytes_mean
    if reasons or leak is None or accuracy is None or payload is None:
        why = "; ".join(reasons) or "no attack recovered anything to measure"
        raise UnrankedError(f"{row.label} at {row.cut} is no point of the search: {why}")
    return Objectives(leak.mean, accuracy.mean, payload)


def _doubts(row: "Row") -> Iterable[str]:
    """Why a row is not ranked. The undefended one is not either, but is sound."""
    from splitbench.leaderboard import UNRANKED

    for entry in row.attacks:
        if entry.failed:
            yield f"{entry.name} failed ({entry.note})"
    if row.naive or row.keyless:
        yield "its adversary does not know the defense, or lacks its key"
    flags = sorted((UNRANKED - {"incomplete"}) & {*row.flags})
    if flags:
        yield f"flagged {', '.join(flags)}"
