"""From single requests to what is said about a plan."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from offloading.emulation.calibration import Calibration
from offloading.emulation.emulation import Emulation, Hop
from offloading.measuring.answers import Answers
from offloading.measuring.prediction import Prediction, over_links
from offloading.measuring.result import Measured, interval, spreads
from offloading.spread import Spread

ON_THE_WAY = ("up", "down", "network")


@dataclass(frozen=True)
class Over:
    """The links between the tiers.

    Attributes:
        net: As imitated; None where nothing is sent.
        calibrations: Of each hop.
        reply_bytes: Of a reply, for the formula.
    """

    net: Emulation | None
    calibrations: Mapping[Hop, Calibration]
    reply_bytes: float

    def added_ms(self, tiers: Sequence[str], sent_bytes: Sequence[float]) -> tuple[float, float]:
        """What is added to the ways up and down where nothing was held back."""
        if self.net is None:
            return 0.0, 0.0
        each = [
            self.net.added_ms(hop, sent, self.reply_bytes)
            for hop, sent in zip(pairwise(tiers), sent_bytes, strict=True)
        ]
        return sum(up for up, _ in each), sum(down for _, down in each)

    def formula_ms(self, tiers: tuple[str, ...], sent_bytes: tuple[float, ...]) -> float:
        """What the links say as they were calibrated."""
        links = {hop: found.measured for hop, found in self.calibrations.items()}
        return over_links(links, tiers, sent_bytes=sent_bytes, reply_bytes=self.reply_bytes)


def summary(
    told: Sequence[Mapping[str, Any]],
    *,
    name: str,
    tiers: tuple[str, ...],
    device_process: int,
    stretch: float,
    predicted: Prediction | None,
    over: Over,
    between_bytes: tuple[float, ...],
    answers: Answers,
) -> Measured:
    """Add up the timed requests of one plan.

    Args:
        told: What the device said of each.
        name: Of the plan.
        tiers: Where its segments ran.
        device_process: Id of the device's process.
        stretch: Of the heads.
        predicted: By the plan.
        over: The links.
        between_bytes: Of the messages behind the first hop.
        answers: Whether they are those of the whole model.
    """
    phases: list[dict[str, float]] = []
    totals: list[float] = []
    for each in told:
        up, down = 0.0, 0.0
        if each["sent_bytes"]:
            up, down = over.added_ms(tiers, (each["sent_bytes"], *between_bytes))
        found = dict(each["phases_ms"])
        if up or down:
            found |= {"up": found["up"] + up, "down": found["down"] + down}
        phases.append(found)
        totals.append(each["end_to_end_ms"] + up + down)
    sent = _mean(told, "sent_bytes")
    parts = spreads(phases)
    composed = np.array([sum(ms for k, ms in p.items() if k not in ON_THE_WAY) for p in phases])
    if sent:
        composed += over.formula_ms(tiers, (sent, *between_bytes))
    counts = over.net is not None and over.net.counts
    return Measured(
        name=name,
        tiers=tiers,
        end_to_end_ms=Spread.of(totals),
        p50_interval_ms=interval(totals),
        phases_ms=parts,
        worst_sum_ms=max(abs(sum(p.values()) - t) for p, t in zip(phases, totals, strict=True)),
        payload_bytes=_mean(told, "payload_bytes"),
        sent_bytes=sent,
        link_up_bytes=_mean(told, "link_up_bytes") if counts else None,
        link_down_bytes=_mean(told, "link_down_bytes") if counts else None,
        answered_by=dict(Counter(each["answered_by"] for each in told)),
        failures=dict(Counter(each["failure"] for each in told if each.get("failure"))),
        processes=tuple(dict.fromkeys((p, h) for each in told for p, h in each["processes"])),
        device_process=device_process,
        stretch=stretch,
        predicted=predicted,
        composed_ms=float(np.median(composed)),
        answers=answers,
    )


def _mean(told: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(np.mean([each[key] for each in told]))
