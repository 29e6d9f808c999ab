"""What the mean of the best attack hides: tails, choices among attacks, the envelope."""

from collections.abc import Callable
from dataclasses import dataclass

from experiments.page.words import (
    attacker_selected,
    between,
    channels,
    measure,
    percent,
    rate,
)
from splitbench.leaderboard import Row
from splitbench.record import Interval


@dataclass(frozen=True)
class Detail:
    """One column of the table of details.

    Attributes:
        name: Heading.
        help: What it is.
        text: The value of a row; a dash where there is none.
        hint: Its interval, or why there is none.
    """

    name: str
    help: str
    text: Callable[[Row], str]
    hint: Callable[[Row], str]


def _of(name: str, text: str, field: str) -> Detail:
    def value(row: Row) -> Interval | None:
        found: Interval | None = getattr(row, field)
        return found

    return Detail(
        name,
        text,
        lambda row: _mean(value(row)),
        lambda row: between(value(row)) if value(row) else row.missing.get(field, "not measured"),
    )


def _mean(leak: Interval | None) -> str:
    return rate(None if leak is None else leak.mean)


def _share(share: Interval | None) -> str:
    return "" if share is None else f"{percent(share.low)} to {percent(share.high)}"


def _chosen(row: Row) -> str:
    leak = attacker_selected(row)
    return "no attack of this row chooses among others" if leak is None else between(leak)


def _worst(row: Row) -> str:
    if row.worst_channel is None:
        return rate(None)
    name, found = row.worst_channel
    return f"{_mean(found.normalised)} {measure(name)}"


DETAILS = (
    _of("Best single", "the largest mean leakage of any one attack", "best_single"),
    Detail(
        "Attacker selected",
        "leakage where the attacker chooses a guess for each image by what it can compute itself",
        lambda row: _mean(attacker_selected(row)),
        _chosen,
    ),
    _of(
        "Oracle max",
        "if the truth chose the best guess for each image: an envelope that no attacker reaches",
        "oracle_max",
    ),
    _of("Null", "the same choice among guesses that were made for other images", "oracle_null"),
    _of("Corrected", "what is left of the envelope beyond chance", "oracle_corrected"),
    Detail(
        "Worst channel",
        "the measure by which a guess is nearest to the true image, between the better blind guess "
        "(0) and that image (1), under the attack that is best by it",
        _worst,
        channels,
    ),
    _of("P95", "leakage that one image in twenty exceeds", "p95"),
    _of("P99", "leakage that one image in a hundred exceeds", "p99"),
    _of("CVaR5", "mean leakage of the worst twentieth of the images", "cvar5"),
    Detail(
        "Over one half",
        "share of images that leak more",
        lambda row: percent(row.share_above_half.mean if row.share_above_half else None),
        lambda row: _share(row.share_above_half),
    ),
)
