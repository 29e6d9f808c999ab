"""The leaderboard as one HTML page that asks nothing of the network."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from experiments.page import words
from experiments.page.details import DETAILS
from experiments.page.drawing import asset
from experiments.page.expenses import EXPENSES
from experiments.page.flags import FLAGS, Flag, explain
from experiments.page.gallery import Panel, Picture, data_uri, panels
from experiments.page.operating import HEADINGS, Line, operating
from experiments.page.plots import Series, figures, lines_of
from experiments.page.tables import to_csv
from splitbench.leaderboard import UNRANKED, Board, Entry, Inferred, Row
from splitbench.link import Link
from splitbench.record import Interval

# Outlines of the markers in a box of 28 x 12, as plotly draws them.
SHAPES = {
    "circle": "M10 6a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",
    "square": "M10.5 2.5h7v7h-7Z",
    "diamond": "M14 1L19 6L14 11L9 6Z",
    "triangle-up": "M14 1.5L18.6 9.5H9.4Z",
    "triangle-down": "M14 10.5L18.6 2.5H9.4Z",
    "cross": "M12.4 1.5h3.2v2.9h2.9v3.2h-2.9v2.9h-3.2v-2.9h-2.9v-3.2h2.9Z",
    "x": "M10.5 4.2L12.2 2.5L14 4.3L15.8 2.5L17.5 4.2L15.7 6L17.5 7.8L15.8 9.5L14 7.7L12.2 9.5"
    "L10.5 7.8L12.3 6Z",
    "star": "M14 .8L15.4 4.5L19.2 4.6L16.2 7L17.3 10.8L14 8.6L10.7 10.8L11.8 7L8.8 4.6L12.6 4.5Z",
}
DASH_ARRAYS = {
    "solid": "none",
    "dash": "6 3",
    "dot": "2 2.5",
    "dashdot": "6 2 2 2",
    "longdash": "9 3",
    "longdashdot": "9 2 2 2",
}
QUALITY_DIGITS = (("psnr_db", 1), ("ssim", 2), ("lpips", 2), ("top1", 2))
COLUMNS = (
    ("Cut", "text", "where the model is split"),
    ("Defense", "text", "what the device does to the features; hover for the full expression"),
    ("Place", "number", "among the defenses of this cut, as far as the intervals allow"),
    ("Leakage", "number", "fraction of variance explained above a blind guess, with 95 % interval"),
    ("Excess", "number", "leakage above what the server's own prediction gives away"),
    ("Best attack", "text", "the single attack with the highest mean leakage"),
    ("P95", "number", "leakage that one image in twenty exceeds; share of images above one half"),
    ("PSNR", "number", "of the best attack's guesses, in dB"),
    ("SSIM", "number", "structural similarity of the guesses, 1 is identical"),
    ("LPIPS", "number", "perceptual distance of the guesses, 0 is identical"),
    ("Top-1", "number", "how often an independent classifier recognises the class in the guess"),
    ("Accuracy", "number", "of the task with the defense; loss in percentage points"),
    ("Payload", "number", "mean length of a message; relative to the raw image"),
    ("Time, ms", "number", "end to end; client plus server"),
)
TEASED = 7  # cuts in the teaser: with the original, two lines of four
REASONS = {
    "lpips": "LPIPS",
    "ssim": "SSIM",
    "psnr_db": "PSNR",
    "top1": "Top-1",
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
    def lines(self) -> tuple[Series, ...]:
        """Lines of the figures, in the order of the legend."""
        return lines_of(self.board)

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
    def led(self) -> list[tuple[Row, str, str, Interval]]:
        """Rows of adversaries that know more than another: row, both in words, and the gain."""
        return words.led(self.board)

    @cached_property
    def operating(self) -> list[Line]:
        """Kinds of defenses at equal accuracy."""
        return operating(self.board)

    @property
    def promised(self) -> list[Row]:
        """Rows with a formal guarantee, one for all cuts at which it is the same."""
        return words.promised(self.board)

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


def render(
    boards: Sequence[Board],
    *,
    link: Link | None = None,
    commands: Mapping[str, str] | None = None,
) -> str:
    """Make the page.

    Args:
        boards: At least one.
        link: Network of the modelled latency.
        commands: The command of each job, by job id.

    Returns:
        HTML without a single external reference; the same boards give the same text.
    """
    views = [View(board, i, commands or {}) for i, board in enumerate(boards, 1)]
    drawn = {
        f"{view.id}-{name}": Markup(figure)  # noqa: S704  # JSON with <, > and & escaped
        for view in views
        for name, figure in figures(view.board, view.lines).items()
    }
    name = "" if link is None else link.name
    table = base64.b64encode(to_csv(boards, link=name).encode()).decode()
    return _template().render(
        views=views,
        columns=COLUMNS,
        details=DETAILS,
        expenses=EXPENSES,
        prices=HEADINGS,
        quality=QUALITY_DIGITS,
        threats=_threats(boards),
        flag_counts=_flag_counts(boards),
        figures=drawn,
        link=None if link is None else _describe(link),
        csv=f"data:text/csv;base64,{table}",
        css=asset("experiments.page", "page.css"),
        script=asset("experiments.page", "draw.js") + asset("experiments.page", "page.js"),
        plotly=Markup(get_plotlyjs()),  # noqa: S704  # the library's own code
        shapes=SHAPES,
        dashes=DASH_ARRAYS,
    )


def _template() -> Template:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        loader=FunctionLoader(lambda name: (files("experiments.page") / name).read_text("utf-8")),
    )
    environment.globals.update(
        rate=words.rate,
        percent=words.percent,
        points=words.points,
        between=words.between,
        size=words.size,
        milliseconds=words.milliseconds,
        place=words.place,
        small=words.small,
        adversary=words.adversary,
        explain=explain,
        clip=lambda value: f"{min(max(value, 0.0), 1.0):.4f}",
        times=_times,
        loss=_loss,
    )
    return environment.get_template("page.html.j2")


def _times(ratio: float) -> str:
    """Payload relative to the raw image."""
    return f"{ratio:.2g}\N{MULTIPLICATION SIGN} image" if ratio < 10 else f"{ratio:.0f}\u00d7 image"


def _loss(drop: float) -> str:
    shown = words.points(-drop)
    return f"{shown} pp"


def _describe(link: Link) -> str:
    return f"{link.name}, {link.up_mbps:g} Mbit/s up, {link.rtt_ms:g} ms round trip"


def _threats(boards: Sequence[Board]) -> list[dict[str, str]]:
    """Each adversary of the page once, the headline one first."""
    found = {
        words.adversary(row.message.threat): words.means(row.message.threat)
        for board in boards
        for row in board.rows
    }
    return [{"name": name, "sentence": found[name]} for name in sorted(found)]


def _flag_counts(boards: Sequence[Board]) -> list[tuple[Flag, int]]:
    """Every known flag and every raised one, the raised ones first."""
    raised = [flag for board in boards for row in board.rows for flag in row.flags]
    unknown = sorted({*raised} - {flag.name for flag in FLAGS})
    known = [*FLAGS, *map(explain, unknown)]
    counts = [(flag, raised.count(flag.name)) for flag in known]
    return sorted(counts, key=lambda pair: pair[1] == 0)


def _deployed(row: Row) -> tuple[str, str, str]:
    """What runs, whoever attacks it."""
    return row.cut, row.message.defense, row.message.codec
