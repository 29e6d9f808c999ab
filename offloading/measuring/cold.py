"""Cold starts of a function, measured on this machine."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from offloading.cold_starts import ColdStarts
from offloading.pricing import Function
from offloading.runtime.artefact import folder_of
from offloading.runtime.client import Client
from offloading.runtime.function_transport import FunctionTransport
from offloading.runtime.local_function import Invocation, LocalFunction
from offloading.runtime.segments import load_head
from offloading.spread import Spread

OnStart = Callable[[int, int], None]
# Whatever it costs: enough memory for a whole processor, so that nothing is prolonged.
WHOLE_PROCESSOR = Function(usd_per_gb_second=1.0, usd_per_request=1.0, memory_mb=1769)


def measure_cold_starts(
    folder: Path, image: Tensor, *, starts: int, on_start: OnStart
) -> ColdStarts:
    """Start a function again and again, and ask each instance twice.

    Args:
        folder: Two segments, of which the function runs the second.
        image: ``(c, h, w)``, float in [0, 1].
        starts: Fresh interpreters, >= 1.
        on_start: Told after each how many are done, and of how many.

    Raises:
        ArtefactError: The segment cannot be loaded.
        RequestFailed: An instance died or took too long.
        ValueError: No starts.
    """
    if starts < 1:
        raise ValueError(f"starts={starts}: at least 1")
    pairs = []
    for done in range(1, starts + 1):
        pairs.append(_first_and_second(folder, image))
        on_start(done, starts)
    firsts, seconds = zip(*pairs, strict=True)
    return ColdStarts(
        ready_ms=Spread.of([each.start_ms for each in firsts]),
        import_ms=Spread.of([each.import_ms for each in firsts]),
        load_ms=Spread.of([each.load_ms for each in firsts]),
        first_ms=Spread.of([each.handler_ms for each in firsts]),
        warm_ms=Spread.of([each.handler_ms for each in seconds]),
    )


def _first_and_second(folder: Path, image: Tensor) -> tuple[Invocation, Invocation]:
    """What a new instance took for its first request, and for the next one."""
    function = LocalFunction(folder_of(folder, 1), pricing=WHOLE_PROCESSOR)
    transport = FunctionTransport(function)
    found = []
    with Client(load_head(folder_of(folder, 0)), transport, timeout_s=120.0) as client:
        for _ in range(2):
            client.request(image)
            assert transport.last is not None
            found.append(transport.last)
    return found[0], found[1]
