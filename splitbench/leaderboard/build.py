"""One row of a board, from its own evidence alone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from splitbench.leaderboard.effort import capacity_gain, gradients_mislead, ignores_randomness
from splitbench.leaderboard.evidence import (
    BLIND,
    WIDTH,
    AttackKey,
    System,
    best_leakage,
    bootstrap,
    drawer,
)
from splitbench.leaderboard.oracle import envelope
from splitbench.leaderboard.promises import broken, promises_of
from splitbench.leaderboard.quality import qualities
from splitbench.leaderboard.rows import (
    COSTS,
    QUALITY,
    RECOGNITION,
    Entry,
    Exit,
    Quality,
    Recognition,
    Row,
)
from splitbench.leaderboard.seeds import over_seeds
from splitbench.leaderboard.tail_intervals import tail_intervals
from splitbench.leakage import per_image_leakage
from splitbench.link import Link
from splitbench.record import Interval

TAILS = ("p95", "p99", "cvar5", "share_above_half")
ENVELOPE = ("oracle_max", "oracle_null", "oracle_corrected")
# Flags of any attack that concern its row, whether or not it is the best.
WHOLE_ROW = frozenset({"above_one", "batch_dependent", "payload_tells_class", "search_failed"})
SPREAD = 0.05  # of L between seeds, above which a single seed says little


def build_row(system: System, label: tuple[str, str], link: Link | None, resamples: int) -> Row:
    """Everything about one row that does not depend on other rows.

    Args:
        system: The evidence.
        label: Kind and setting of the defense, for the reader.
        link: Network of the modelled latency, or None.
        resamples: Of every bootstrap.
    """
    entries = tuple(_entry(system, key, resamples) for key in system.attacks)
    guarantee, certificates = promises_of(system)
    flags = _flags_of(system, entries, resamples)
    if broken(system, (guarantee, *certificates)):
        flags = tuple(sorted({*flags, "guarantee_beaten"}))
    row = Row(
        message=system.message,
        defense_name=system.first.cell.defense_name,
        kind=label[0],
        setting=label[1],
        guarantee=guarantee,
        certificates=certificates,
        seeds=len(system.seeds),
        targets=system.targets,
        attacks=entries,
        flags=flags,
        missing=_reasons(system),
    )
    row = _with_exits(row, system)
    row = _with_costs(row, system, link)
    row = _with_accuracy(row, system)
    if not system.real:
        return _without_leakage(row)
    return _with_envelope(_with_leakage(row, system, resamples), system, resamples)


def _entry(system: System, key: AttackKey, resamples: int) -> Entry:
    real, name, expression = key
    everything = [e.record for _, e in sorted(system.attacks[key].items())]
    good = system.records_of(key)
    problems = dict.fromkeys(r.error or r.status for r in everything if r.status != "ok")
    entry = Entry(
        name=name,
        expression=expression,
        floor=not real,
        failed=any(r.status == "failed" for r in everything),
        note="; ".join(problems),
        flags=tuple(sorted({flag for r in everything for flag in r.flags})),
        cells=tuple(r.cell_id for r in everything),
    )
    if not good:
        return entry
    if len(good) == 1 and good[0].targets == system.targets:
        leak, excess = good[0].leakage.get("L"), good[0].leakage.get("excess")
        return replace(entry, leakage=leak, excess=excess)
    leak = bootstrap(system.columns(system.targets, [key]), best_leakage, resamples)
    return replace(entry, leakage=leak, excess=over_seeds([r.leakage.get("excess") for r in good]))


def _with_leakage(row: Row, system: System, resamples: int) -> Row:
    tables = system.columns(system.targets)
    raw = bootstrap(tables, best_leakage, resamples)
    means = np.mean([t.mean(0) for t in tables], axis=0)
    each = [float(best_leakage(part)) for part in means.reshape(-1, WIDTH)]
    best = system.real[int(np.argmax(each))]
    scores, records = system.scores_of(best), system.records_of(best)
    entry = next(e for e in row.attacks if (not e.floor, e.name, e.expression) == best)
    blind = [np.stack([s.floors[name] for name in BLIND], axis=1) for s in scores]
    leaks = [per_image_leakage(s.metrics["mse"], b) for s, b in zip(scores, blind, strict=True)]
    errors = [s.metrics["mse"] for s in scores]
    worst = tail_intervals(errors, blind, resampler=drawer(resamples))
    flags = {*row.flags, *entry.flags} - {"gradients_mislead"}
    if gradients_mislead(system, resamples):
        flags.add("gradients_mislead")
    by_seed = [float(values.mean()) for values in leaks]
    if max(by_seed) - min(by_seed) > SPREAD:
        flags.add("seeds_spread")
    recorded = [r.leakage["L"].mean for r in records if "L" in r.leakage]
    if not np.allclose(recorded, by_seed[: len(recorded)], atol=1e-6):
        flags.add("inconsistent")
    quality = qualities(system, resamples)
    shown = leaks[0][: len(scores[0].guesses)]
    return replace(
        row,
        raw=raw,
        closed=raw,
        best=best[1],
        excess=entry.excess,
        p95=worst.p95,
        p99=worst.p99,
        cvar5=worst.cvar5,
        share_above_half=worst.share_above_half,
        quality=quality,
        recognition=_recognition(system, quality),
        guesses=scores[0].guesses,
        truths=scores[0].truths,
        shown=tuple(float(v) for v in shown),
        payload_ratio=_ratio(row.payload_bytes_mean, scores[0].truths.shape[1:]),
        flags=tuple(sorted(flags)),
    )


def _with_envelope(row: Row, system: System, resamples: int) -> Row:
    found = envelope(system, resamples)
    if found is None:
        reason = "the records hold no errors on the null channel"
        return replace(row, missing={**row.missing, **dict.fromkeys(ENVELOPE, reason)})
    return replace(
        row,
        oracle_max=found.raw,
        oracle_null=found.null,
        oracle_corrected=found.corrected,
    )


def _recognition(system: System, found: Mapping[str, Quality]) -> dict[str, Recognition]:
    """By metric, the attack whose guesses are recognised most often."""
    records = system.records_of(system.real[0])  # floors and ceilings are those of all attacks
    recognised = {}
    for metric in (name for name in RECOGNITION if name in found):
        blind = [max(r.floors[f"{b.split('/')[0]}/{metric}"] for b in BLIND) for r in records]
        recognised[metric] = Recognition(
            attack=found[metric].attack,
            rate=found[metric].value,
            blind=float(np.mean(blind)),
            ceiling=float(np.mean([r.ceilings[metric] for r in records])),
        )
    return recognised


def _without_leakage(row: Row) -> Row:
    notes = dict.fromkeys(e.note for e in row.attacks if e.note and not e.floor)
    reason = "; ".join(notes) or "only floors were run"
    names = ("raw", "closed", "best", "excess", *TAILS, *ENVELOPE, "payload_ratio", *QUALITY)
    return replace(row, missing={**row.missing, **dict.fromkeys(names, reason)})


def _with_exits(row: Row, system: System) -> Row:
    """What is sent at all, and how much that leaks; nothing to say where all images are sent."""
    shares = {r.cell.seed: r.utility.get("share_sent") for r in system.records if r.utility}
    found = [
        over_seeds([r.leakage.get("L_sent") for r in system.records_of(key)]) for key in system.real
    ]
    worst = max((leak for leak in found if leak), key=lambda leak: leak.mean, default=None)
    return replace(
        row,
        share_sent=over_seeds(list(shares.values())),
        raw_sent=worst,
        exits=_exits([*{r.cell.seed: r.utility for r in system.records if r.utility}.values()]),
    )


def _exits(found: Sequence[Mapping[str, Interval]]) -> dict[str, Exit]:
    """What leaves by each exit of the device, over seeds, by the layer after which it is."""
    keys = dict.fromkeys(key for utility in found for key in utility)
    exits = {}
    for name in [key.partition("/")[2] for key in keys if key.startswith("share_exit/")]:
        share = over_seeds([utility.get(f"share_exit/{name}") for utility in found])
        right = over_seeds([utility.get(f"accuracy_exit/{name}") for utility in found])
        if share is not None:
            exits[name] = Exit(share=share, accuracy=right)
    return exits


def _with_costs(row: Row, system: System, link: Link | None) -> Row:
    def mean(*names: str) -> float | None:
        found = [[r.cost[n] for n in names] for r in system.records if {*names} <= set(r.cost)]
        return float(np.mean([sum(values) for values in found])) if found else None

    client, server = mean("client_ms", "encode_ms"), mean("decode_ms", "server_ms")
    payload = mean("payload_bytes_mean")
    longest = [r.cost["payload_bytes_max"] for r in system.records if "payload_bytes_max" in r.cost]
    total, missing = None, dict(row.missing)
    if link is None:
        missing["end_to_end_ms"] = "no link was named"
    elif client is None or server is None or payload is None:
        missing["end_to_end_ms"] = "not measured"
    else:
        sent = 1.0 if row.share_sent is None else row.share_sent.mean
        answers = mean("client_ms_mean")  # whatever image it is; only what is sent is encoded
        device = client if answers is None else answers + sent * (mean("encode_ms") or 0.0)
        total = device + (sent * (server + link.transfer_ms(payload / sent)) if sent else 0.0)
    for name, value in (("client_ms", client), ("server_ms", server), ("payload_bytes", payload)):
        if value is None:
            missing[name] = "not measured"
    return replace(
        row,
        payload_bytes_mean=payload,
        payload_bytes_max=max(longest, default=None),
        client_ms=client,
        server_ms=server,
        end_to_end_ms=total,
        costs={name: value for name in COSTS if (value := mean(name)) is not None},
        dependence=_diagnosed(system, "distance_correlation"),
        snr_db=_diagnosed(system, "snr_db"),
        missing=missing,
    )


def _diagnosed(system: System, key: str) -> float | None:
    found = [r.diagnostics[key] for r in system.records if key in r.diagnostics]
    return float(np.mean(found)) if found else None


def _with_accuracy(row: Row, system: System) -> Row:
    by_seed = {r.cell.seed: r.utility for r in system.records if r.utility}
    chosen = [by_seed[s] for s in sorted(by_seed) if s in system.seeds or not system.seeds]
    accuracy = over_seeds([u.get("accuracy") for u in chosen])
    plain = over_seeds([u.get("accuracy_undefended") for u in chosen])
    missing = dict(row.missing)
    if accuracy is None:
        missing["accuracy"] = missing["accuracy_drop"] = "not measured"
        return replace(row, missing=missing)
    if system.message.exact:
        missing["accuracy_drop"] = "this is the undefended model"
        return replace(row, accuracy=accuracy, missing=missing)
    if plain is None:
        missing["accuracy_drop"] = "the undefended accuracy was not measured"
        return replace(row, accuracy=accuracy, missing=missing)
    return replace(row, accuracy=accuracy, accuracy_drop=_difference(plain, accuracy))


def _difference(first: Interval, second: Interval) -> Interval:
    """Interval of a difference of two proportions from their own intervals.

    Newcombe's square-and-add rule for independent samples; the two are measured on the same
    images, which makes it conservative.

    References:
        Newcombe. "Interval estimation for the difference between independent proportions".
        Statistics in Medicine 1998, method 10.
    """
    mean = first.mean - second.mean
    below = np.hypot(first.mean - first.low, second.high - second.mean)
    above = np.hypot(first.high - first.mean, second.mean - second.low)
    return Interval(
        mean=mean, low=mean - float(below), high=mean + float(above), n=min(first.n, second.n)
    )


def _ratio(payload: float | None, shape: tuple[int, ...]) -> float | None:
    return None if payload is None else payload / float(np.prod(shape))


def _reasons(system: System) -> dict[str, str]:
    return {k: v for r in system.records for k, v in sorted(r.unavailable.items())}


def _flags_of(system: System, entries: Sequence[Entry], resamples: int) -> tuple[str, ...]:
    """Flags that concern the whole row, whichever attack is best."""
    flags = {flag for e in entries if e.floor for flag in e.flags if flag == "blind_leaks"}
    flags |= {flag for e in entries for flag in e.flags if flag in WHOLE_ROW}
    if any(e.failed for e in entries):
        flags.add("incomplete")
    ran = [e for e in entries if not e.floor and e.leakage is not None]
    if ran and all("search_failed" in e.flags for e in ran):
        flags.add("only_failed_searches")
    if capacity_gain(system, resamples):
        flags.add("capacity_not_saturated")
    if ignores_randomness(system.message):
        flags.add("randomness_ignored")
    costs = [r.cost for r in system.records if "payload_bytes_max" in r.cost]
    if any(c["payload_bytes_max"] - c["payload_bytes_mean"] > 1e-6 for c in costs):
        flags.add("payload_varies")
    return tuple(sorted(flags))
