"""Boards as Markdown: what a reader of the repository sees, the same bytes for the same records."""

import html
from collections.abc import Callable, Iterable, Sequence

from experiments.page.flags import explain
from experiments.page.operating import HEADINGS, Point, operating, tuning
from experiments.page.words import (
    adversary,
    answered,
    between,
    bound,
    certified,
    lead,
    led,
    milliseconds,
    percent,
    place,
    points,
    promised,
    rate,
    rebuilt_at_most,
    series,
    size,
    small,
    stays,
)
from splitbench.leaderboard import Board, Entry, Row
from splitbench.record import Interval

COLUMNS: dict[str, Callable[[Row], str]] = {
    "cut": lambda r: r.cut,
    "defense": lambda r: r.label,
    "adversary": lambda r: adversary(r.message.threat) or "white box",
    "leakage": lambda r: _leakage(r),
    "raw": lambda r: rate(r.raw.mean if r.raw else None),
    "best attack": lambda r: (r.best or "—").replace("_", " "),
    "accuracy": lambda r: percent(r.accuracy.mean if r.accuracy else None),
    "loss": lambda r: points(r.accuracy_drop.mean if r.accuracy_drop else None),
    "P95": lambda r: rate(_mean(r.p95)),
    "SNR, dB": lambda r: rate(r.snr_db, 1),
    "payload": lambda r: size(r.payload_bytes_mean),
    "ms": lambda r: milliseconds(r.end_to_end_ms),
    "place": place,
    "flags": lambda r: ", ".join(explain(flag).short for flag in r.flags),
}


def to_markdown(boards: Sequence[Board], *, link: str = "") -> str:
    """A compact table per board, naive rows apart, and what the flags mean.

    Args:
        boards: What to write.
        link: Name of the network behind the column ``ms``.
    """
    parts = ["# Leaderboard"]
    for board in boards:
        parts.append(f"## {_plain(board.model)} on {_plain(board.data)}, {_plain(board.protocol)}")
        parts.append(_plain(" ".join(lead(board))))
        ranked = [r for r in board.rows if not r.naive]
        naive = [r for r in board.rows if r.naive]
        parts.append(_table(ranked, [name for name in COLUMNS if name not in _idle(ranked)]))
        if naive:
            parts.append("Naive: never ranked. This adversary does not expect the defense.")
            gain = "adaptive gain"
            columns = {**COLUMNS, gain: lambda r: rate(_mean(r.adaptive_gain))}
            shown = ["cut", "defense", "leakage", "best attack", gain]
            parts.append(_table(naive, shown, columns))
        parts += [*_at_equal_accuracy(board), *_stays(board), *_promises(board)]
        parts += [*_certificates(board), *_leads(board), *_attacks(board)]
        parts += [*_besides(board), *_failures(board)]
        parts += [f"Note: {_plain(note)}." for note in board.notes]
    parts.append(_reading(boards, link))
    return "\n\n".join(parts) + "\n"


def _idle(rows: Sequence[Row]) -> set[str]:
    """Columns that would say the same of all rows, or nothing of any."""
    usual = not any(adversary(row.message.threat) for row in rows)
    quiet = all(row.snr_db is None for row in rows)
    return {*(["adversary"] if usual else []), *(["SNR, dB"] if quiet else [])}


def _leakage(row: Row) -> str:
    if row.closed is None:
        return "—"
    return f"{rate(row.closed.mean)} ({between(row.closed)})"


def _table(
    rows: Sequence[Row],
    names: Sequence[str],
    columns: dict[str, Callable[[Row], str]] = COLUMNS,
) -> str:
    return _grid(names, ([_plain(columns[n](row)) for n in names] for row in rows))


def _grid(names: Sequence[str], lines: Iterable[Iterable[str]]) -> str:
    """A table of cells that are Markdown already."""
    head = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    return "\n".join([*head, *("| " + " | ".join(cells) + " |" for cells in lines)])


def _at_equal_accuracy(board: Board) -> list[str]:
    """The best setting of each defense within each loss; nothing where nothing was defended."""
    found = operating(board)
    lines = [
        map(_plain, (one.cut, one.kind, str(one.settings), *map(_in_words, one.points)))
        for one in found
    ]
    text = (
        "At equal accuracy: the least leakage among the settings that were run and that lose no "
        "more than so many points of accuracy, with payload, time of the client, formal guarantee "
        "where there is one, and flags."
    )
    names = ("cut", "defense", "settings", *HEADINGS)
    return [f"{text} {_plain(tuning(found))}", _grid(names, lines)] if found else []


def _in_words(point: Point) -> str:
    if point.leakage is None:
        return "—"
    leak = f"{rate(point.leakage.mean)} ({between(point.leakage)})"
    return "; ".join(filter(None, (leak, point.facts)))


def _stays(board: Board) -> list[str]:
    """Defenses that answer some images on the device; nothing where there are none."""
    lines = []
    for row in stays(board):
        sent = "—" if row.share_sent is None else percent(row.share_sent.mean)
        among = f"{rate(_mean(row.raw_sent))} ({between(row.raw_sent)})" if row.raw_sent else "—"
        cells = (row.cut, series(row), answered(row), sent, among, rate(_mean(row.raw)))
        lines.append(map(_plain, cells))
    text = "Some images are answered on the device, and nothing of them is sent:"
    names = ("cut", "defense", "answered", "sent", "leakage of the sent", "leakage of all")
    return [text, _grid(names, lines)] if lines else []


def _promises(board: Board) -> list[str]:
    """Formal guarantees; nothing where there are none."""
    lines = []
    for row in promised(board):
        told = row.guarantee
        rebuilt = percent(rebuilt_at_most(told))
        numbers = (small(told.epsilon), small(told.delta), str(told.messages), rebuilt)
        lines.append(map(_plain, (series(row), *numbers, told.statement)))
    text = "What is promised, whatever the attack, over all messages that the adversary sees:"
    names = ("defense", "epsilon", "delta", "messages", "rebuilt at most, of 1 %", "guarantee")
    return [text, _grid(names, lines)] if lines else []


def _certificates(board: Board) -> list[str]:
    """Least errors, a table for each prior that they rest on; nothing where there are none."""
    parts = []
    for premise, found in certified(board).items():
        parts.append(f"Least mean squared error per pixel of any guess, for {_plain(premise)}:")
        lines = [
            map(_plain, (row.cut, series(row), small(one.least_mse), bound(one)))
            for row, one in found
        ]
        parts.append(_grid(("cut", "defense", "least error", "certificate"), lines))
    return parts


def _leads(board: Board) -> list[str]:
    """Who knows more than whom, and what that adds."""
    lines = []
    for row, who, whom, gain in led(board):
        shown = f"{rate(gain.mean, 3)} ({between(gain, 3)})"
        lines.append(map(_plain, (row.cut, row.label, who, whom, shown)))
    text = "What an adversary recovers beyond one who knows less:"
    names = ("cut", "defense", "adversary", "knows more than", "difference in L")
    return [text, _grid(names, lines)] if lines else []


def _attacks(board: Board) -> list[str]:
    """What every attack found, floors last."""
    found = [entry for row in board.rows for entry in row.attacks]
    names = [name for _, name in sorted({(entry.floor, entry.name) for entry in found})]
    lines = []
    for row in board.rows:
        at = {entry.name: entry for entry in row.attacks}
        who = adversary(row.message.threat) or "white box"
        cells = [_found(at.get(name), best=name == row.best) for name in names]
        lines.append([*map(_plain, (row.cut, row.label, who)), *cells])
    text = (
        "What every attack found, before a row is raised to what other releases tell: in bold the "
        "best of the row, last those that never look at the release."
    )
    shown = [_plain(name.replace("_", " ")) for name in names]
    return [text, _grid(["cut", "defense", "adversary", *shown], lines)] if names else []


def _found(entry: Entry | None, *, best: bool) -> str:
    if entry is None or entry.leakage is None:
        return "failed" if entry and entry.failed else "—"
    return f"**{rate(entry.leakage.mean)}**" if best else rate(entry.leakage.mean)


def _besides(board: Board) -> list[str]:
    """What releases tell besides the image; nothing where nobody asked."""
    lines = []
    told = ((row, one) for row in board.rows for one in row.inferred if one.rate)
    for row, one in told:
        right = "—" if one.rate is None else f"{percent(one.rate.mean)} ({_range(one.rate)})"
        above = f"{rate(_mean(one.advantage))} ({between(one.advantage)})"
        cells = (
            row.cut,
            series(row),
            one.secret,
            one.name.replace("_", " "),
            right,
            percent(one.prior),
            percent(one.prediction),
            percent(one.pixels),
            above if one.advantage else "—",
        )
        lines.append(map(_plain, cells))
    text = (
        "What else it tells: how often a property of the image is read off the release (balanced "
        "over its values; of persons, rank 1). Advantage: 0 at the better of prior and "
        "prediction, 1 at the same inference on raw pixels."
    )
    names = ("cut", "defense", "secret", "inference", "right", "prior", "prediction", "pixels")
    return [text, _grid((*names, "advantage"), lines)] if lines else []


def _mean(interval: Interval | None) -> float | None:
    return None if interval is None else interval.mean


def _range(interval: Interval) -> str:
    return f"{percent(interval.low)} to {percent(interval.high)}"


def _failures(board: Board) -> list[str]:
    failed = [
        f"- {_plain(entry.name)} at {_plain(row.cut)}, {_plain(row.label)}: {_plain(entry.note)}"
        for row in board.rows
        for entry in row.attacks
        if entry.failed
    ]
    failed += [
        f"- {_plain(one.name)} at {_plain(row.cut)}, {_plain(row.label)}: {_plain(one.note)}"
        for row in board.rows
        for one in row.inferred
        if one.failed
    ]
    return ["Failed cells:\n\n" + "\n".join(failed)] if failed else []


def _reading(boards: Sequence[Board], link: str) -> str:
    raised = dict.fromkeys(f for b in boards for r in b.rows for f in r.flags)
    flags = [f"- **{_plain(explain(f).short)}**: {explain(f).raised_if}." for f in sorted(raised)]
    text = (
        "Leakage is the fraction of the variance of a private image that the best attack "
        "explains beyond a blind guess (0: nothing, 1: everything), raised to that of every other "
        "release that could be computed from this one; 95 % interval in brackets. Loss is in "
        "percentage points of accuracy against the undefended model."
    )
    if link:
        text += f" ms: measured compute and a modelled link ({_plain(link)})."
    return "\n\n".join([text, *(["Flags:\n\n" + "\n".join(flags)] if flags else [])])


def _plain(text: str) -> str:
    """Text that Markdown and HTML leave alone, on one line."""
    text = html.escape(" ".join(text.splitlines()), quote=False)
    for character in "\\`*|[]":
        text = text.replace(character, f"\\{character}")
    return text
