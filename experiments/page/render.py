"""The leaderboard as one HTML page that asks nothing of the network."""

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from experiments.page import words
from experiments.page.details import DETAILS
from experiments.page.drawing import asset, embedded
from experiments.page.expenses import EXPENSES
from experiments.page.flags import FLAGS, Flag, explain
from experiments.page.learning import learning
from experiments.page.marks import DASH_ARRAYS, SHAPES
from experiments.page.operating import HEADINGS, tuning
from experiments.page.plots import figures
from experiments.page.spreadsheet import to_csv
from experiments.page.view import View
from splitbench.leaderboard import Board
from splitbench.link import Link

QUALITY_DIGITS = (("psnr_db", 1), ("ssim", 2), ("lpips", 2), ("top1", 2))
COLUMNS = (
    ("Cut", "text", "where the model is split"),
    ("Defense", "text", "what the device does to the features; hover for the full expression"),
    ("Place", "number", "among the defenses of this cut, as far as the intervals allow"),
    ("Leakage", "number", "fraction of variance explained above a blind guess, with 95 % interval"),
    ("Excess", "number", "leakage above what the server's own prediction gives away"),
    ("Best attack", "text", "the single attack with the highest mean leakage"),
    ("P95", "number", "leakage that one image in twenty exceeds; share of images above one half"),
    ("PSNR", "number", "of the guesses of the attack that is best by it, in dB"),
    ("SSIM", "number", "structural similarity, 1 is identical; of the attack that is best by it"),
    ("LPIPS", "number", "perceptual distance, 0 is identical; of the attack that is best by it"),
    (
        "Top-1",
        "number",
        "how often an independent classifier recognises the class in the guesses of the attack "
        "that is best by it",
    ),
    ("Accuracy", "number", "of the task with the defense; loss in percentage points"),
    ("Payload", "number", "mean length of a message; relative to the raw image"),
    ("Time, ms", "number", "end to end; client plus server"),
)


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
        for name, figure in _figures(view).items()
    }
    name = "" if link is None else link.name
    table = base64.b64encode(to_csv(boards, link=name).encode()).decode()
    return _template().render(
        views=views,
        columns=COLUMNS,
        details=DETAILS,
        expenses=EXPENSES,
        prices=HEADINGS,
        tuning=tuning,
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


def _figures(view: View) -> dict[str, str]:
    """JSON of each figure of a board, by name."""
    more = learning(view.curves)
    others = {} if more is None else {"learning": embedded(more.to_plotly_json())}
    return {**figures(view.board, view.curves), **others}


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
        rebuilt_at_most=words.rebuilt_at_most,
        bound=words.bound,
        adversary=words.adversary,
        answered=words.answered,
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
