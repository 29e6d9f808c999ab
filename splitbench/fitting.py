"""Attacks that learn side by side."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from splitbench.progress import Progress


@dataclass(frozen=True)
class Fit:
    """How the fitting of one attack ended.

    Attributes:
        seconds: Time spent in this attack's own steps.
        error: What stopped it, or None.
    """

    seconds: float
    error: Exception | None


def fit_together(
    fittings: Mapping[str, Iterator[Progress]], on_step: Callable[[str, Progress], None]
) -> dict[str, Fit]:
    """Advance several fittings in turn, one step each, until all have ended.

    Attacks at different cuts of one frozen client then ask for the same batch one after the
    other, and the client's forward on it is computed once. The result does not depend on who
    else is in the round: batches and randomness are each attack's own.

    Args:
        fittings: What `Attack.fitting` returned, by name.
        on_step: Called with the name after every step.

    Returns:
        For each name how it ended; an attack that raises stops alone, the others go on.
    """
    seconds = dict.fromkeys(fittings, 0.0)
    ended: dict[str, Fit] = {}
    while len(ended) < len(fittings):
        for name, fitting in fittings.items():
            if name in ended:
                continue
            began = time.perf_counter()
            error: Exception | None = None
            progress: Progress | None = None
            try:
                progress = next(fitting, None)
            except Exception as caught:  # noqa: BLE001  # becomes the record of a failed cell
                error = caught
            seconds[name] += time.perf_counter() - began
            if progress is None:
                ended[name] = Fit(seconds[name], error)
            else:
                on_step(name, progress)
    return ended
