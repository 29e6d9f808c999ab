"""Where the time of a request goes, cut by cut."""

import math
from collections.abc import Sequence

from plotly import graph_objects as go

from experiments.page.words import size
from experiments.plan_page.drawing import GRAVE, Drawing, Key, empty, safe
from experiments.plan_page.report import Report
from experiments.plan_page.words import MARKS, long, over, told
from offloading.figure import weakest
from offloading.outcome import Judged
from offloading.plan import Phase

PARTS = {
    "head": "var(--s1)",
    "encode": "var(--s6)",
    "network": "var(--s2)",
    "queue, start": "var(--s4)",
    "decode": "var(--s5)",
    "tail": "var(--s3)",
}
CALLED = {
    "head": "computing on the device",
    "encode": "encoding",
    "network": "the network, with what the runtime takes to send and receive",
    "queue, start": "waiting and starting",
    "decode": "decoding",
    "tail": "computing behind the device",
}
ROOM = 1.35  # of the longest bar, for the numbers behind it
OUTLIER = 4.0  # a bar so many times as long as the one in the middle is cut
PIXELS = 44  # for each bar


def part_of(phase: Phase, device: str) -> str:
    """Which part of the figure a phase belongs to."""
    if phase.kind == "compute":
        return "head" if phase.where == device else "tail"
    if phase.kind == "carry":
        return "network"
    return "queue, start" if phase.kind in ("queue", "start") else phase.kind


def parts(judged: Judged) -> dict[str, float]:
    """Milliseconds of each part of a request that is sent."""
    device = judged.plan.placement.tiers[0]
    found = dict.fromkeys(PARTS, 0.0)
    for phase in judged.plan.phases:
        found[part_of(phase, device)] += phase.ms.value
    return found


def drawing(report: Report) -> Drawing:
    """One bar for each baseline and each cut."""
    bars = [bar for bar in report.bars if math.isfinite(sum(parts(bar[1]).values()))]
    figure = empty("median ms if sent", "")
    end = _end(bars)
    for name, colour in PARTS.items():
        figure.add_trace(
            go.Bar(
                orientation="h",
                y=list(range(len(bars))),
                x=[parts(judged)[name] for _, judged in bars],
                marker={
                    "color": colour,
                    "opacity": [0.4 if judged.exceeded else 1.0 for _, judged in bars],
                },
                text=[_hover(name, judged) for _, judged in bars],
                textposition="none",
                hovertemplate="%{text}<extra></extra>",
            )
        )
    figure.add_trace(_totals(bars, end))
    figure.update_layout(barmode="stack", bargap=0.42)
    figure.update_xaxes(range=[0, ROOM * end], showgrid=True)
    figure.update_yaxes(
        tickmode="array",
        tickvals=list(range(len(bars))),
        ticktext=[_label(name, judged) for name, judged in bars],
        range=[len(bars) - 0.4, -0.6],
        ticks="",
        showgrid=False,
        title_text=None,
    )
    figure.add_hline(
        y=len(report.outcome.baselines) - 0.5, line={"color": "var(--line)", "width": 1}
    )
    return Drawing(
        name="phases",
        figure=figure,
        reading=_reading(report, bars),
        keys=(
            *(Key(name, colour) for name, colour in PARTS.items()),
            Key("pale: exceeds the limit that is named", GRAVE, "✕"),
        ),
        rests=_rests([judged for _, judged in bars]),
        height=PIXELS * len(bars) + 90,
    )


def _end(bars: Sequence[tuple[str, Judged]]) -> float:
    """Where the axis ends: with the longest bar that is not out of all proportion."""
    totals = sorted(sum(parts(judged).values()) for _, judged in bars)
    if not totals:
        return 1.0
    return max(t for t in totals if t <= OUTLIER * totals[len(totals) // 2])


def _totals(bars: Sequence[tuple[str, Judged]], end: float) -> go.Scatter:
    """Behind each bar its length, and which limits it exceeds."""
    totals = [sum(parts(judged).values()) for _, judged in bars]
    return go.Scatter(
        x=[min(total, end) for total in totals],
        y=list(range(len(bars))),
        mode="text",
        text=[
            f" {_length(total, end, judged)}"
            for total, (_, judged) in zip(totals, bars, strict=True)
        ],
        textposition="middle right",
        textfont={
            "size": 12,
            "color": [GRAVE if judged.exceeded else "var(--ink)" for _, judged in bars],
        },
        hoverinfo="skip",
        cliponaxis=False,
    )


def _length(total: float, end: float, judged: Judged) -> str:
    said = long(total) + MARKS[judged.plan.figures["latency_ms"].basis]
    beyond = f"→ {said}" if total > end else said
    return f"{beyond} ✕ {safe(over(judged.exceeded))}" if judged.exceeded else beyond


def _label(name: str, judged: Judged) -> str:
    """Baseline or cut, and beneath it what is sent to whom."""
    placement = judged.plan.placement
    if placement.option is None:
        return f"<b>{safe(name)}</b>"
    sent = size(placement.option.payload_bytes)
    beneath = f"{' > '.join(placement.tiers[1:])}, {sent}"
    if name == placement.option.cut:
        beneath = f"{_brief(placement.option.name)}, {beneath}"
    return f"<b>{safe(_brief(name, 34))}</b><br>{safe(beneath)}"


def _brief(text: str, most: int = 24) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _hover(part: str, judged: Judged) -> str:
    device = judged.plan.placement.tiers[0]
    lines = [
        f"{phase.kind} at {phase.where}: {long(phase.ms.value)} ms{MARKS[phase.ms.basis]}"
        for phase in judged.plan.phases
        if part_of(phase, device) == part
    ]
    said = [f"<b>{part}</b>", *map(safe, lines), safe(told(judged.plan))]
    if judged.exceeded:
        said.append(f"exceeds {safe(over(judged.exceeded))}")
    return "<br>".join(said)


def _reading(report: Report, bars: Sequence[tuple[str, Judged]]) -> str:
    inside = [(name, judged) for name, judged in bars if not judged.exceeded]
    if not inside:
        return "Nothing here keeps all limits; the bars say which it exceeds."
    name, judged = min(inside, key=lambda bar: bar[1].plan.figures["latency_ms"].value)
    each = parts(judged)
    most = max(each, key=lambda part: each[part])
    share = each[most] / max(sum(each.values()), 1e-9)
    where = name if name in report.outcome.baselines else f"the cut at {name}"
    return (
        f"Of what keeps all limits, the shortest bar is {where}; {share:.0%} of its time is "
        f"{CALLED[most]}. Each bar is the fastest option at its cut that keeps the limits, or, "
        "where none does, the undefended one."
    )


def _rests(judged: Sequence[Judged]) -> str:
    found = weakest([phase.ms.basis for one in judged for phase in one.plan.phases])
    sources = sorted({p.ms.source for one in judged for p in one.plan.phases if p.ms.source})
    return f"{MARKS[found]} {found}: {'; '.join(sources)}; bytes are measured"
