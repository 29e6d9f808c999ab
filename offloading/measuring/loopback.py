"""What the runtime takes to carry messages here, measured where the way itself takes no time."""

import math
from collections.abc import Sequence

from torch import Tensor

from offloading.carrying import Carrying
from offloading.measuring.processes import OnRequest
from offloading.measuring.result import Measured
from offloading.measuring.session import measure
from offloading.measuring.subject import Setting, Subject
from splitbench.link import Link

NEAR, FAR = "device", "server"
LOOPBACK = Link(name="loopback", up_mbps=math.inf, down_mbps=math.inf, rtt_ms=0.0)


def measure_carrying(
    subjects: Sequence[Subject], images: Tensor, *, requests: int, on_request: OnRequest
) -> tuple[Measured, ...]:
    """Run plans between two processes on the loopback interface, whose time is the runtime's.

    Args:
        subjects: With messages of different sizes, over `NEAR` and `FAR`.
        images: ``(n, c, h, w)``, float in [0, 1].
        requests: Timed ones of each.
        on_request: Told after each request how many are done, and of how many.

    Raises:
        MeasureError: A request has failed.
        ArtefactError: An artefact cannot be served.
    """
    setting = Setting(backend="analytic", requests=requests, check=False)
    links = {(NEAR, FAR): LOOPBACK}
    return measure(subjects, images, links=links, setting=setting, on_request=on_request).plans


def carrying_of(found: Sequence[Measured]) -> Carrying:
    """A constant and a time per byte, from what was measured."""
    ways = [(plan.phases_ms["up"], plan.phases_ms["down"]) for plan in found]
    return Carrying.fitted(
        sizes=[plan.sent_bytes for plan in found],
        up_ms=[up.p50 for up, _ in ways],
        down_ms=[down.p50 for _, down in ways],
        late_ms=[math.hypot(up.p95 - up.p50, down.p95 - down.p50) for up, down in ways],
    )
