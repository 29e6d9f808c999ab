"""What a run says while it goes: a progress bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SECONDS_BETWEEN_LINES = 15.0


class Meter(Protocol):
    """Shows how far one stage has come."""

    def __call__(self, step: int, steps: int, loss: float | None = None) -> None:
        """Report one step, and the loss where there is one."""


class Reporter:
    """Says what a job does, on standard error."""

    def __init__(self, label: str, *, interactive: bool | None = None) -> None:
        """Prefix everything with `label`; bars only where there is a terminal."""
        self.label = label
        self.console = Console(stderr=True, highlight=False)
        self.interactive = sys.stderr.isatty() if interactive is None else interactive

    def say(self, text: str) -> None:
        """One line."""
        self._print(escape(text))

    def fail(self, text: str) -> None:
        """One line about something that did not succeed."""
        self._print(f"[red]failed[/red] {escape(text)}")

    def _print(self, markup: str) -> None:
        self.console.print(f"[dim]\\[{escape(self.label)}][/dim] {markup}", soft_wrap=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[Meter]:
        """Meter one stage from its first step to its last."""
        with self._bar(name) if self.interactive else self._lines(name) as meter:
            yield meter

    @contextmanager
    def _bar(self, name: str) -> Iterator[Meter]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(f"[dim]\\[{self.label}][/dim] {name}", total=None, loss="")

            def meter(step: int, steps: int, loss: float | None = None) -> None:
                progress.update(task, completed=step, total=steps, loss=_said(loss).lstrip(", "))

            yield meter

    @contextmanager
    def _lines(self, name: str) -> Iterator[Meter]:
        began = said = time.monotonic()
        last: tuple[int, float | None] | None = None

        def meter(step: int, steps: int, loss: float | None = None) -> None:
            nonlocal said, last
            last = steps, loss
            now = time.monotonic()
            if now - said >= SECONDS_BETWEEN_LINES and step < steps:
                said = now
                left = (now - began) / step * (steps - step)
                self.say(f"{name}: step {step} of {steps}{_said(loss)}, {left:.0f} s left")

        yield meter
        seconds = time.monotonic() - began
        end = f", {last[0]} steps{_said(last[1])}" if last is not None else ""
        self.say(f"{name}: done in {seconds:.1f} s{end}")


def _said(loss: float | None) -> str:
    return "" if loss is None else f", loss {loss:.4g}"
