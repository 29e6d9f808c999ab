"""What to measure, and how."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from offloading.emulation.backends import Backend
from offloading.measuring.prediction import Prediction


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One plan to measure.

    Attributes:
        name: Unique among those that are measured together.
        folder: Its artefacts, ``segment0`` and so on.
        tiers: Where the segments run, the device first; one tier runs the whole model.
        predicted: For this host's speed; None where nobody predicts.
        expected: Logits ``(n, classes)`` of the whole model for the images, one at a time and on
            one thread: what the plan must answer, bit for bit. None where it need not.
        not_compared: Why not.
    """

    name: str
    folder: Path
    tiers: tuple[str, ...]
    predicted: Prediction | None = None
    expected: Tensor | None = field(default=None, compare=False, repr=False)
    not_compared: str = "nobody said what the whole model answers"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How to measure.

    Attributes:
        backend: How links are imitated.
        requests: Timed ones of each plan, >= 1; a hundred for percentiles worth the name.
        warmup: Before them, thrown away; they also open the windows of the connections.
        seed: Of orders, noise, jitter and loss.
        timeout_s: Of one request.
        stretch: Makes heads slower by sleeping; 1 is this host's own speed.
        reply_bytes: Of a reply, for the formula.
        check: Refuse to measure where a link is imitated badly.
        trust: Modules that artefacts may name beside this project's.
    """

    backend: Backend = "auto"
    requests: int = 100
    warmup: int = 10
    seed: int = 0
    timeout_s: float = 60.0
    stretch: float = 1.0
    reply_bytes: float = 64
    check: bool = True
    trust: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.requests < 1 or self.warmup < 0 or not 1 <= self.stretch < 1e6:
            raise ValueError(f"{self}: want requests >= 1, warmup >= 0 and stretch >= 1")
