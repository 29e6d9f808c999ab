"""What it takes here to start a function that nobody keeps warm."""

from dataclasses import asdict, dataclass
from typing import Any

from offloading.spread import Spread


@dataclass(frozen=True, kw_only=True)
class ColdStarts:
    """Fresh interpreters that load a whole model and answer, each as the first in its place.

    What a platform does before the interpreter starts (finding a machine, fetching an image) is in
    none of it. Files that were just written are read from the system's cache.

    Attributes:
        ready_ms: From the start of the process until it could take a request.
        import_ms, load_ms: Parts of that: libraries and handler; building the model, and reading
            its weights.
        first_ms: The first request, without starting.
        warm_ms: The second one.
    """

    ready_ms: Spread
    import_ms: Spread
    load_ms: Spread
    first_ms: Spread
    warm_ms: Spread

    @property
    def start_ms(self) -> float:
        """By how much a first request takes longer than a warm one, in the median."""
        return self.ready_ms.p50 + max(self.first_ms.p50 - self.warm_ms.p50, 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON document."""
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> "ColdStarts":
        """What `to_dict` wrote."""
        return cls(**{name: Spread(**told) for name, told in raw.items()})
