"""Boards as CSV: one line per row, the same bytes for the same records."""

import csv
import io
from collections.abc import Sequence

from experiments.page.words import attacker_selected, binding, rebuilt_at_most
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
        **_interval("leakage_p95", row.p95),
        **_interval("leakage_p99", row.p99),
        **_interval("leakage_cvar5", row.cvar5),
        **_interval("share_above_half", row.share_above_half),
        **_interval("leakage_excess", row.excess),
        **_interval("adaptive_gain", row.adaptive_gain),
        **_interval("training_gap", row.training_gap),
        **_worst(row),
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


def _worst(row: Row) -> dict[str, Value]:
    name, found = row.worst_channel or (None, None)
    return {
        "worst_channel": name,
        **_interval("worst_channel_normalised", found.normalised if found else None),
        "worst_channel_attack": found.attack if found else None,
    }


def _quality(row: Row, key: str) -> dict[str, Value]:
    found = row.quality.get(key)
    return {
        **_interval(key, found.value if found else None),
        f"{key}_normalised": _mean(found.normalised) if found else None,
        f"{key}_attack": found.attack if found else None,
    }


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
