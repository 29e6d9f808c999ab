"""What the figures of all pages share; `draw.js` draws them and fills in the colours."""

import json
from importlib.resources import files

from markupsafe import Markup

INK, QUIET, GRID = "var(--ink)", "var(--quiet)", "var(--line)"


def asset(package: str, name: str) -> Markup:
    """A style sheet or script of this project, which is safe to print as it is."""
    return Markup((files(package) / name).read_text("utf-8"))  # noqa: S704


def embedded(value: object) -> str:
    """JSON that cannot end the script element around it."""
    text = json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def layout() -> dict[str, object]:
    """What all figures have in common; the vertical axis is leakage unless it is set."""
    axis = {
        "gridcolor": GRID,
        "linecolor": QUIET,
        "zeroline": False,
        "fixedrange": True,
        "ticks": "outside",
        "tickcolor": GRID,
        "title_standoff": 12,
        "automargin": True,
    }
    return {
        "template": None,
        "showlegend": False,
        "hovermode": "closest",
        "dragmode": False,
        "margin": {"l": 48, "r": 12, "t": 20, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK, "size": 13, "family": "var(--sans)"},
        "hoverlabel": {
            "bgcolor": "var(--card)",
            "bordercolor": QUIET,
            "font": {"color": INK, "size": 13, "family": "var(--sans)"},
            "align": "left",
        },
        "xaxis": {**axis, "showgrid": False},
        "yaxis": {**axis, "title_text": "leakage L", "range": [-0.04, 1.04], "dtick": 0.25},
    }
