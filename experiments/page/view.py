"""What the page shows of one board."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from experiments.page import words
from experiments.page.flags import explain
from experiments.page.gallery import Panel, Picture, data_uri, panels
from experiments.page.operating import Line, operating
from experiments.page.plots import Series, curves_of, lines_of
from splitbench.guarantee import Guarantee
from splitbench.leaderboard import UNRANKED, Board, Entry, Inferred, Row
from splitbench.record import Interval

TEASED = 7  # cuts in the teaser: with the original, two lines of four
REASONS = {
    **words.MEASURES,
    "accuracy": "Accuracy",
    "payload_bytes": "Payload",
    "end_to_end_ms": "Time",
}


@dataclass(frozen=True)
class AttackLine:
    """One attack against one defense, at every cut."""

    name: str
    floor: bool
    entries: tuple[tuple[Entry | None, bool], ...]


class View:
    """What the template shows of one board."""

    def __init__(self, board: Board, number: int, commands: Mapping[str, str]) -> None:
        """Show a board; `commands` are those of all jobs, by job id."""
        self.board = board
        self.id = f"b{number}"
        self.commands = sorted({commands[job] for job in board.jobs if job in commands})

    @cached_property
    def curves(self) -> tuple[Series, ...]:
        """Lines of the figures, in the order of the legend."""
        return curves_of(self.board, lines_of(self.board))

    @cached_property
    def lines(self) -> tuple[Series, ...]:
        """Defenses with their settings and adversaries over the cuts, each drawn as its curve."""
        look = {id(row): curve.number for curve in self.curves for row in curve.rows}
        return tuple(replace(line, number=look[id(line.rows[0])]) for line in lines_of(self.board))

    @property
    def adversaries(self) -> list[tuple[str, bool]]:
        """Whose lines the figures have, and whether these are shown from the start."""
        return list(dict.fromkeys((line.adversary, line.turn == 0) for line in self.curves))

    @cached_property
    def _by_row(self) -> dict[int, Series]:
        return {id(row): line for line in self.lines for row in line.rows}

    @cached_property
    def lead(self) -> list[str]:
        """Sentences."""
        return words.lead(self.board)

    @property
    def measured(self) -> bool:
        """Whether there is anything to draw."""
        return any(row.closed is not None for row in self.board.rows)

    @property
    def costed(self) -> list[Row]:
        """Rows whose costs are known, one for all adversaries."""
        found = {_deployed(row): row for row in reversed(self.board.rows) if row.costs}
        return [row for row in self.board.rows if found.get(_deployed(row)) is row]

    @property
    def ranking(self) -> bool:
        """Whether the protocol is one that ranks."""
        return self.board.protocol.startswith(("standard", "full"))

    @property
    def targets(self) -> int:
        """Most images under attack."""
        return max(row.targets for row in self.board.rows)

    @property
    def seeds(self) -> int:
        """Most seeds behind a row."""
        return max(row.seeds for row in self.board.rows)

    @property
    def _entries(self) -> list[Entry]:
        return [entry for row in self.board.rows for entry in row.attacks]

    @property
    def _inferred(self) -> list[Inferred]:
        return [told for row in self.board.rows for told in row.inferred]

    @property
    def cells(self) -> int:
        """Records on the board."""
        return sum(len(e.cells) for e in self._entries) + sum(len(i.cells) for i in self._inferred)

    @property
    def failed(self) -> int:
        """Attacks and inferences that failed on some row."""
        return sum(e.failed for e in self._entries) + sum(i.failed for i in self._inferred)

    @property
    def flagged(self) -> bool:
        """Whether any row is unranked for its flags."""
        return any(UNRANKED & {*row.flags} for row in self.board.rows)

    @property
    def recognised(self) -> list[Row]:
        """Rows for which somebody asked whether guesses still show who it is."""
        return [row for row in self.board.rows if row.recognition]

    @property
    def told(self) -> list[tuple[Row, Inferred]]:
        """What releases tell besides the image, as far as that was found out."""
        return [(r, told) for r in self.board.rows for told in r.inferred if told.rate]

    @property
    def untold(self) -> list[tuple[Row, Inferred]]:
        """Inferences that failed or do not apply."""
        return [(r, told) for r in self.board.rows for told in r.inferred if told.note]

    @property
    def trained(self) -> list[Row]:
        """Rows for which images of the training set were attacked, too."""
        return [row for row in self.board.rows if row.raw and row.training_gap]

    @property
    def learnt(self) -> list[Row]:
        """Rows that were attacked with several numbers of auxiliary images."""
        return [row for row in self.board.rows if row.learning]

    @property
    def sizes(self) -> list[int]:
        """These numbers."""
        return sorted({size for row in self.learnt for size, _ in row.learning})

    @property
    def led(self) -> list[tuple[Row, str, str, Interval]]:
        """Rows of adversaries that know more than another: row, both in words, and the gain."""
        return words.led(self.board)

    @cached_property
    def operating(self) -> list[Line]:
        """Kinds of defenses at equal accuracy."""
        return operating(self.board)

    @property
    def stays(self) -> list[Row]:
        """Rows of devices that answer some images by themselves."""
        return words.stays(self.board)

    @property
    def promised(self) -> list[Row]:
        """Rows with a formal guarantee, one for all cuts at which it is the same."""
        return words.promised(self.board)

    @property
    def certified(self) -> dict[str, list[tuple[Row, Guarantee]]]:
        """Least errors, by the prior that they rest on."""
        return words.certified(self.board)

    @property
    def naive(self) -> list[Row]:
        """Rows of adversaries that do not expect the defense."""
        return [row for row in self.board.rows if row.naive]

    @cached_property
    def panels(self) -> tuple[Panel, ...]:
        """The gallery."""
        return panels(self.board, self.lines)

    @property
    def teaser(self) -> list[Picture]:
        """The first target, and the best guess of it at each undefended cut."""
        found: list[Picture] = []
        line = self.lines[0].rows if self.lines else ()
        rows = [row for row in line if row.undefended and row.guesses is not None]
        chosen = np.linspace(0, len(rows) - 1, min(len(rows), TEASED)).round().astype(int)
        for row in [rows[i] for i in chosen]:
            if row.guesses is None or row.truths is None:
                continue
            if not found:
                found.append(Picture(data_uri(row.truths[0]), "private image", "private image"))
            text = f"best guess after {row.cut}, leakage {words.rate(row.shown[0])}"
            value = words.rate(row.shown[0])
            found.append(Picture(data_uri(row.guesses[0]), text, row.cut, value))
        return found

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """Why cells of the table are empty."""
        pairs = {
            (REASONS[name], why)
            for row in self.board.rows
            for name, why in row.missing.items()
            if name in REASONS and not (row.closed is None and name in row.missing)
        }
        return sorted(pairs)

    def cells_of(self, line: Series) -> list[Row | None]:
        """One row or None for each cut."""
        by_cut = {row.cut: row for row in line.rows}
        return [by_cut.get(cut) for cut in self.board.cuts]

    def line_of(self, row: Row) -> Series:
        """The line that a row lies on."""
        return self._by_row[id(row)]

    def failure(self, row: Row) -> str:
        """Errors of a row none of whose attacks succeeded."""
        notes = dict.fromkeys(e.note for e in row.attacks if e.failed)
        return "; ".join(notes)

    def why_unranked(self, row: Row) -> str:
        """In words."""
        raised = [explain(name).short for name in row.flags if name in UNRANKED]
        return f"not ranked: {', '.join(raised)}" if raised else "not ranked: no leakage"

    def attacks_of(self, line: Series) -> list[AttackLine]:
        """Every attack at every cut, floors first."""
        rows = self.cells_of(line)
        tables = [
            {} if row is None else {(e.name, e.expression): e for e in row.attacks} for row in rows
        ]
        keys = sorted({(not e.floor, *key) for table in tables for key, e in table.items()})
        made = []
        for real, *key in keys:
            entries = [table.get((key[0], key[1])) for table in tables]
            best = [
                row is not None and e is not None and row.best == e.name and not e.floor
                for row, e in zip(rows, entries, strict=True)
            ]
            made.append(AttackLine(key[0], not real, tuple(zip(entries, best, strict=True))))
        return made

    def notes_of(self, line: Series) -> list[tuple[str, str, str]]:
        """Attack, cut and what went wrong."""
        return [(e.name, row.cut, e.note) for row in line.rows for e in row.attacks if e.note]


def _deployed(row: Row) -> tuple[str, str, str]:
    """What runs, whoever attacks it."""
    return row.cut, row.message.defense, row.message.codec
