"""What a measurement has found."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offloading.emulation.calibration import Calibration
from offloading.measuring.answers import Answers
from offloading.measuring.prediction import Prediction
from offloading.spread import Spread

SCHEMA = 1
AGAIN = " (again)"  # after the name of the plan that takes part twice
_RESAMPLES = 2000
_INTERVAL = (0.025, 0.975)

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One plan.

    Attributes:
        name: Of the plan.
        tiers: Where its segments ran, the device first.
        end_to_end_ms: Of all timed requests, from the image to the logits.
        p50_interval_ms: Bootstrap interval (95 %) of the median.
        phases_ms: Spread of each phase that took any time; in each request they sum to the whole.
        worst_sum_ms: Largest difference between a request and the sum of its phases.
        payload_bytes: Mean length of the codec's message.
        sent_bytes: With the header of the runtime: what the first link is given to carry.
        link_up_bytes, link_down_bytes: Mean bytes of packets that left and reached the device for
            a request, acknowledgements included; None where nobody counts packets.
        answered_by: How many requests were answered by whom.
        failures: Why the device had to answer by itself, and how often.
        processes: Ids of the processes that answered, and their hosts, in the order of the tiers.
        device_process: Id of the device's.
        stretch: How much slower the head was made by sleeping; 1 is not.
        predicted: By the plan, for this host's speed and the link that was asked for; None where
            there is no such prediction.
        composed_ms: Median of what each request computed, and the formula of the links as they were
            calibrated instead of its way: what the measured parts predict of the whole.
        answers: Whether they are those of the whole model.
    """

    name: str
    tiers: tuple[str, ...]
    end_to_end_ms: Spread
    p50_interval_ms: tuple[float, float]
    phases_ms: Mapping[str, Spread]
    worst_sum_ms: float
    payload_bytes: float
    sent_bytes: float
    link_up_bytes: float | None
    link_down_bytes: float | None
    answered_by: Mapping[str, int]
    failures: Mapping[str, int]
    processes: tuple[tuple[int, str], ...]
    device_process: int
    stretch: float
    predicted: Prediction | None
    composed_ms: float
    answers: Answers

    @property
    def error(self) -> float | None:
        """Relative error of the plan's prediction of the median; positive where it is too high."""
        return None if self.predicted is None else self._error(self.predicted.total_ms)

    @property
    def composed_error(self) -> float:
        """The same of what the measured parts predict."""
        return self._error(self.composed_ms)

    def _error(self, ms: float) -> float:
        return ms / self.end_to_end_ms.p50 - 1


@dataclass(frozen=True, kw_only=True)
class Report:
    """A measurement.

    Attributes:
        plans: What was measured, in turn.
        again: One of them once more, as if it were another one.
        backend: How the links were imitated.
        notes: Why not better, and what else a reader should know.
        calibrations: Of each link that was used, as imitated.
        host: What was measured on.
        requests: Timed, of each plan.
        warmup: Thrown away before them.
    """

    plans: tuple[Measured, ...]
    again: Measured
    backend: str
    notes: tuple[str, ...]
    calibrations: Mapping[str, Calibration]
    host: Mapping[str, str]
    requests: int
    warmup: int

    @property
    def same_ms(self) -> float:
        """By how much the medians of two equal things differ here."""
        name = self.again.name.removesuffix(AGAIN)
        once = next(plan for plan in self.plans if plan.name == name)
        return self.again.end_to_end_ms.p50 - once.end_to_end_ms.p50

    @property
    def mape(self) -> float | None:
        """Mean absolute relative error of the plans' predictions; None where there are none."""
        errors = [abs(p.error) for p in self.plans if p.error is not None]
        return float(np.mean(errors)) if errors else None

    @property
    def composed_mape(self) -> float:
        """The same of what the measured parts predict."""
        return float(np.mean([abs(plan.composed_error) for plan in self.plans]))

    def to_json(self) -> str:
        """One JSON document, with what follows from the numbers beside them."""
        plans = [self._plain(plan) for plan in self.plans]
        raw = {
            "schema": SCHEMA,
            **dataclasses.asdict(self),
            "plans": plans,
            "again": self._plain(self.again),
            "same_ms": self.same_ms,
            "mape": self.mape,
            "composed_mape": self.composed_mape,
        }
        return json.dumps(raw, indent=1, allow_nan=False)

    @staticmethod
    def _plain(plan: Measured) -> dict[str, Any]:
        more = {"error": plan.error, "composed_error": plan.composed_error}
        return {**dataclasses.asdict(plan), **more}


def interval(times: Sequence[float] | Array, *, seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval (95 %) of the median."""
    values = np.asarray(times, dtype=np.float64)
    drawn = np.random.default_rng(seed).choice(values, (_RESAMPLES, values.size))
    low, high = np.quantile(np.median(drawn, axis=1), _INTERVAL)
    return float(low), float(high)


def spreads(phases: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Each phase that took any time in any request."""
    names = dict.fromkeys(name for request in phases for name in request)
    times = {name: np.array([request.get(name, 0.0) for request in phases]) for name in names}
    # Stamps of one clock may lie closer together than the clock can tell.
    return {name: Spread.of(np.maximum(t, 0.0)) for name, t in times.items() if t.any()}
