"""Where a run is followed while it goes: nowhere, or Weights & Biases."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from experiments.errors import UserError
from splitbench.record import Record, Scores


class Tracking(ABC):
    """Follows one job."""

    @abstractmethod
    def start(self, config: Mapping[str, Any], name: str) -> None:
        """A job begins."""

    @abstractmethod
    def curve(self, name: str, step: int, loss: float) -> None:
        """One step of a training."""

    @abstractmethod
    def cell(self, record: Record, scores: Scores | None) -> None:
        """A cell is finished."""

    @abstractmethod
    def finish(self, records: Sequence[Record]) -> None:
        """The job is finished."""


class NoTracking(Tracking):
    """Follows nothing."""

    def start(self, config: Mapping[str, Any], name: str) -> None:
        """Do nothing."""

    def curve(self, name: str, step: int, loss: float) -> None:
        """Do nothing."""

    def cell(self, record: Record, scores: Scores | None) -> None:
        """Do nothing."""

    def finish(self, records: Sequence[Record]) -> None:
        """Do nothing."""


class WandbTracking(Tracking):
    """Logs configuration, curves, records and a table with images to Weights & Biases.

    Args:
        project: Project name.
        entity: Team or user; None is the account's default.
        group: Groups the jobs of one sweep.
        mode: ``offline`` writes to `folder` (upload later with ``wandb sync``), ``online`` needs
            a key (``WANDB_API_KEY`` or ``wandb login``), ``disabled`` does nothing.
        folder: Where offline runs are kept.
    """

    def __init__(
        self,
        *,
        project: str,
        entity: str | None,
        group: str | None,
        mode: Literal["online", "offline", "disabled"],
        folder: str,
    ) -> None:
        self.project = project
        self.entity = entity
        self.group = group
        self.mode = mode
        self.folder = folder
        self._run: Any = None
        self._rows: list[list[Any]] = []

    def start(self, config: Mapping[str, Any], name: str) -> None:
        """Open the run, without ever asking anything."""
        import wandb

        if self.mode == "online" and not wandb.api.api_key:
            raise UserError(
                "tracking=wandb with mode=online needs a key: set WANDB_API_KEY or run "
                "`wandb login`, or use WANDB_MODE=offline"
            )
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        self._rows = []
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            group=self.group,
            name=name,
            mode=self.mode,
            dir=self.folder,
            config=dict(config),
            reinit="finish_previous",
            settings=wandb.Settings(silent=True, console="off"),
        )

    def curve(self, name: str, step: int, loss: float) -> None:
        """Log one point of a curve, each with its own step axis."""
        self._run.log({f"curve/{name}": loss, f"step/{name}": step})

    def cell(self, record: Record, scores: Scores | None) -> None:
        """Log the cell's numbers and its first guess beside the truth."""
        import wandb

        cell = record.cell
        prefix = f"{cell.cut}/{cell.attack_name}"
        if cell.secret != "image":
            prefix = f"{prefix}/{cell.secret}"
        self._run.log({f"{prefix}/{k}": v.mean for k, v in record.leakage.items()})
        picture = None if scores is None or not len(scores.guesses) else wandb.Image(_pair(scores))
        leak = record.leakage.get("L")
        self._rows.append(
            [
                cell.cut,
                cell.defense_name,
                cell.attack_name,
                leak and leak.mean,
                record.status,
                picture,
            ]
        )

    def finish(self, records: Sequence[Record]) -> None:
        """Log the table with images and close the run."""
        import wandb

        columns = ["cut", "defense", "attack", "L", "status", "truth | guess"]
        self._run.log({"cells": wandb.Table(columns=columns, data=self._rows)})
        self._run.summary["cells"] = len(records)
        self._run.finish()


def _pair(scores: Scores) -> Any:
    """Truth and guess of the first targets, side by side, as an image array ``(h, w, c)``."""
    import numpy as np

    rows = np.concatenate([scores.truths, scores.guesses], axis=3)
    tall = np.concatenate(list(rows), axis=1).transpose(1, 2, 0)
    return tall[..., 0] if tall.shape[2] == 1 else tall
