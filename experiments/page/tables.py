"""Boards as CSV and as Markdown; plain text, the same bytes for the same records."""

import csv
import html
import io
from collections.abc import Callable, Sequence

from experiments.page.flags import explain
from experiments.page.operating import as_markdown
from experiments.page.words import (
    adversary,
    answered,
    attacker_selected,
    between,
    binding,
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
from splitbench.leaderboard import COSTS, QUALITY, RECOGNITION, Board, Row
from splitbench.record import Interval

# Costs that a line has in another sense: time with coding, bytes with their bounds.
SHOWN = ("client_ms", "server_ms", "payload_bytes_mean")
MEANS = ("client_flops_mean", "client_ms_mean")  # of a device that answers some images
Value = str | int | float | None


def to_csv(boards: Sequence[Board], *, link: str = "") -> str:
    """One line per row, plain numbers, units in the column names; empty where unknown.

    Args:
        boards: What to write.
        link: Name of the network behind ``end_to_end_ms``.
    """
    names = sorted({e.name for b in boards for r in b.rows for e in r.attacks})
    asked = sorted({(i.secret, i.name) for b in boards for r in b.rows for i in r.inferred})
    exits = any(row.share_sent for board in boards for row in board.rows)
    lines = [
        {**_line(board, row, link, names), **(_exits(row) if exits else {}), **_told(row, asked)}
        for board in boards
        for row in board.rows
    ]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(list(lines[0]) if lines else [])
    for line in lines:
        writer.writerow([_cell(value) for value in line.values()])
    return buffer.getvalue()


def _line(board: Board, row: Row, link: str, attacks: Sequence[str]) -> dict[str, Value]:
    message, threat = row.message, row.message.threat
    leaks = {entry.name: entry.leakage for entry in row.attacks}
    first, last = row.rank or (None, None)
    return {
        "protocol": board.protocol,
        "data": board.data,
        "model": board.model,
        "cut": row.cut,
        "cut_index": message.cut_index,
        "defense": row.label,
        "defense_expression": message.defense,
        "codec_expression": message.codec,
        "threat_client": str(threat.get("client", "")),
        "threat_defense": str(threat.get("defense", "")),
        "threat_auxiliary": str(threat.get("auxiliary", "")),
        "threat_query_budget": threat.get("query_budget"),
        "threat_observations": threat.get("observations"),
        "threat_key": str(threat.get("key", "known")),
        "guarantee": row.guarantee.kind,
        "guarantee_epsilon": row.guarantee.epsilon if row.guarantee.formal else None,
        "guarantee_delta": row.guarantee.delta if row.guarantee.formal else None,
        "guarantee_messages": row.guarantee.messages if row.guarantee.formal else None,
        "guarantee_rebuilt": rebuilt_at_most(row.guarantee),
        **_certificate(row),
        "seeds": row.seeds,
        "targets": row.targets,
        "place_first": first,
        "place_last": last,
        **_interval("leakage", row.closed),
        **_interval("leakage_raw", row.raw),
        "leakage_raised_by": row.closed_by,
        "best_attack": row.best,
        **_interval("best_single", row.best_single),
        **_interval("attacker_selected", attacker_selected(row)),
        **_interval("oracle_max", row.oracle_max),
        **_interval("oracle_null", row.oracle_null),
        **_interval("oracle_corrected", row.oracle_corrected),
        "leakage_p95": row.p95,
        "leakage_p99": row.p99,
        "leakage_cvar5": row.cvar5,
        "share_above_half": row.share_above_half,
        **_interval("leakage_excess", row.excess),
        **_interval("adaptive_gain", row.adaptive_gain),
        **_interval("training_gap", row.training_gap),
        **{name: value for key in QUALITY for name, value in _quality(row, key).items()},
        **{name: value for key in RECOGNITION for name, value in _recognition(row, key).items()},
        **_interval("accuracy", row.accuracy),
        **_interval("accuracy_drop", row.accuracy_drop),
        "payload_bytes_mean": row.payload_bytes_mean,
        "payload_bytes_max": row.payload_bytes_max,
        "payload_ratio_to_raw_image": row.payload_ratio,
        "client_ms": row.client_ms,
        "server_ms": row.server_ms,
        "end_to_end_ms": row.end_to_end_ms,
        **{name: row.costs.get(name) for name in COSTS if name not in SHOWN + MEANS},
        "distance_correlation": row.dependence,
        "snr_db": row.snr_db,
        "link": link if row.end_to_end_ms is not None else "",
        **{f"leakage_of_{name}": _mean(leaks.get(name)) for name in attacks},
        "flags": " ".join(row.flags),
        "errors": "; ".join(f"{e.name}: {e.note}" for e in row.attacks if e.note),
    }


def _certificate(row: Row) -> dict[str, Value]:
    """The strongest certificate."""
    best = max(row.certificates, key=lambda one: one.least_mse or 0.0, default=None)
    return {
        "certified_mse": best.least_mse if best else None,
        "certificate": best.statement if best else None,
        "certificate_applies": binding(best) if best else None,
    }


def _exits(row: Row) -> dict[str, Value]:
    """Columns of a file in which a device answers some images by itself."""
    return {
        **_interval("share_sent", row.share_sent),
        **_interval("leakage_sent", row.raw_sent),
        **{name: row.costs.get(name) for name in MEANS},
    }


def _told(row: Row, asked: Sequence[tuple[str, str]]) -> dict[str, Value]:
    """Columns of every secret and inference of the file."""
    found = {(one.secret, one.name): one for one in row.inferred}
    columns: dict[str, Value] = {}
    for secret, name in asked:
        one = found.get((secret, name))
        label = f"{secret.replace(' ', '_')}_by_{name}"
        columns |= _interval(label, one.rate if one else None)
        columns |= _interval(f"{label}_advantage", one.advantage if one else None)
        for key in ("prior", "prediction", "pixels"):
            columns[f"{label}_{key}"] = getattr(one, key) if one else None
    return columns


def _quality(row: Row, key: str) -> dict[str, Value]:
    return _interval(key, row.quality.get(key))


def _recognition(row: Row, key: str) -> dict[str, Value]:
    found = row.recognition.get(key)
    return {
        **_interval(key, found.rate if found else None),
        f"{key}_blind": found.blind if found else None,
        f"{key}_true_images": found.ceiling if found else None,
        f"{key}_attack": found.attack if found else None,
    }


def _mean(interval: Interval | None) -> float | None:
    return None if interval is None else interval.mean


def _interval(name: str, interval: Interval | None) -> dict[str, Value]:
    if interval is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _cell(value: Value) -> str:
    """Six digits; text that a spreadsheet would run as a formula is quoted for it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


COLUMNS: dict[str, Callable[[Row], str]] = {
    "cut": lambda r: r.cut,
    "defense": lambda r: r.label,
    "adversary": lambda r: adversary(r.message.threat) or "white box",
    "leakage": lambda r: _leakage(r),
    "raw": lambda r: rate(r.raw.mean if r.raw else None),
    "best attack": lambda r: (r.best or "—").replace("_", " "),
    "accuracy": lambda r: percent(r.accuracy.mean if r.accuracy else None),
    "loss": lambda r: points(r.accuracy_drop.mean if r.accuracy_drop else None),
    "P95": lambda r: rate(r.p95),
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
        parts += [*as_markdown(board, _plain), *_stays(board), *_promises(board)]
        parts += [*_certificates(board), *_leads(board), *_besides(board), *_failures(board)]
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
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(_plain(columns[n](row)) for n in names) + " |" for row in rows]
    return "\n".join(lines)


def _stays(board: Board) -> list[str]:
    """Defenses that answer some images on the device; nothing where there are none."""
    rows = stays(board)
    names = ("cut", "defense", "answered", "sent", "leakage of the sent", "leakage of all")
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    for row in rows:
        sent = "—" if row.share_sent is None else percent(row.share_sent.mean)
        among = f"{rate(_mean(row.raw_sent))} ({between(row.raw_sent)})" if row.raw_sent else "—"
        cells = (row.cut, series(row), answered(row), sent, among, rate(_mean(row.raw)))
        lines.append("| " + " | ".join(map(_plain, cells)) + " |")
    text = "Some images are answered on the device, and nothing of them is sent:"
    return [text, "\n".join(lines)] if rows else []


def _promises(board: Board) -> list[str]:
    """Formal guarantees; nothing where there are none."""
    names = "| defense | epsilon | delta | messages | rebuilt at most, of 1 % | guarantee |"
    lines = [names, "|" + " --- |" * 6]
    for row in promised(board):
        told = row.guarantee
        rebuilt = percent(rebuilt_at_most(told))
        numbers = (small(told.epsilon), small(told.delta), str(told.messages), rebuilt)
        cells = (series(row), *numbers, told.statement)
        lines.append("| " + " | ".join(map(_plain, cells)) + " |")
    text = "What is promised, whatever the attack, over all messages that the adversary sees:"
    return [text, "\n".join(lines)] if promised(board) else []


def _certificates(board: Board) -> list[str]:
    """Least errors, a table for each prior that they rest on; nothing where there are none."""
    parts = []
    for premise, found in certified(board).items():
        lines = ["| cut | defense | least error | certificate |", "|" + " --- |" * 4]
        for row, one in found:
            cells = (row.cut, series(row), small(one.least_mse), bound(one))
            lines.append("| " + " | ".join(map(_plain, cells)) + " |")
        text = f"Least mean squared error per pixel of any guess, for {_plain(premise)}:"
        parts += [text, "\n".join(lines)]
    return parts


def _leads(board: Board) -> list[str]:
    """Who knows more than whom, and what that adds."""
    found = led(board)
    if not found:
        return []
    lines = [
        "| cut | defense | adversary | knows more than | difference in L |",
        "|" + " --- |" * 5,
    ]
    for row, who, whom, gain in found:
        shown = f"{rate(gain.mean, 3)} ({between(gain, 3)})"
        cells = (row.cut, row.label, who, whom, shown)
        lines.append("| " + " | ".join(map(_plain, cells)) + " |")
    return ["What an adversary recovers beyond one who knows less:", "\n".join(lines)]


def _besides(board: Board) -> list[str]:
    """What releases tell besides the image; nothing where nobody asked."""
    told = [(row, one) for row in board.rows for one in row.inferred if one.rate]
    names = ("cut", "defense", "secret", "inference", "right", "prior", "prediction", "pixels")
    lines = ["| " + " | ".join((*names, "advantage")) + " |", "|" + " --- |" * (len(names) + 1)]
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
        lines.append("| " + " | ".join(map(_plain, cells)) + " |")
    text = (
        "What else it tells: how often a property of the image is read off the release (balanced "
        "over its values; of persons, rank 1). Advantage: 0 at the better of prior and "
        "prediction, 1 at the same inference on raw pixels."
    )
    return [text, "\n".join(lines)] if told else []


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
