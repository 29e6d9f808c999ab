"""The processes of a measurement: servers, and the device that asks them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from offloading.emulation.children import Children
from offloading.emulation.emulation import Emulation, said
from offloading.measuring.device import Task
from offloading.measuring.pinned import pinned
from offloading.measuring.subject import Setting, Subject
from offloading.runtime.artefact import folder_of
from offloading.runtime.process import ServerProcess

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "GRPC_VERBOSITY": "NONE",
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), ""),
}
THREADS = 1  # of torch, in every process
OnRequest = Callable[[int, int], None]


class MeasureError(RuntimeError):
    """A request of a measurement has failed, or a process of it has ended."""


def serve(
    subjects: Sequence[Subject], net: Emulation | None, how: Setting, stack: ExitStack
) -> tuple[dict[str, list[ServerProcess]], dict[str, str | None]]:
    """Servers of each plan, the last segment first, and where the device finds the nearest."""
    running: dict[str, list[ServerProcess]] = {}
    addresses: dict[str, str | None] = {}
    for subject in subjects:
        onwards: str | None = None
        running[subject.name] = []
        for place in range(len(subject.tiers) - 1, 0, -1):
            assert net is not None
            near, tier = subject.tiers[place - 1], subject.tiers[place]
            options = ["--next", onwards] if onwards else []
            options += [word for module in how.trust for word in ("--trust", module)]
            server = ServerProcess(
                folder_of(subject.folder, place),
                f"{net.listen_host(tier)}:0",
                options=options,
                prefix=net.command(tier, pinned(core(place), [])),
                environment=ENVIRONMENT,
            )
            stack.callback(server.stop)
            running[subject.name].append(server)
            onwards = net.reach(near, tier, int(server.address.rpartition(":")[2]))
        addresses[subject.name] = onwards
    return running, addresses


def start_device(side: str, net: Emulation | None, stack: ExitStack) -> subprocess.Popen[bytes]:
    """Start the device's process, which then waits for its task."""
    children = Children()
    stack.callback(children.close)
    words = pinned(core(0), [sys.executable, "-m", "offloading.measuring.device"])
    command = words if net is None else net.command(side, words)
    return children.start(command, environment=ENVIRONMENT)


def make_requests(
    device: subprocess.Popen[bytes], task: Task, on_request: OnRequest
) -> list[dict[str, Any]]:
    """Have the device make all requests, and return what it tells of the timed ones.

    Raises:
        MeasureError: One of them has failed, or the device's process has ended.
    """
    assert device.stdin is not None
    assert device.stdout is not None
    with suppress(BrokenPipeError):  # then it says why below
        device.stdin.write(task.to_json().encode() + b"\n")
        device.stdin.flush()
    total = len(task.senders) * (task.requests + task.warmup)
    told: list[dict[str, Any]] = []
    for done, line in enumerate(device.stdout, start=1):
        found = json.loads(line)
        if "failed" in found:
            raise MeasureError(found["failed"])
        told.append(found)
        on_request(done, total)
    if device.wait() or len(told) != total:
        raise MeasureError(f"the device's process has ended: {said(device)}")
    return [each for each in told if each["round"] >= 0]


def core(place: int) -> list[int]:
    """The core for a segment: the device's own, and the others by turns where there are several."""
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) == 1:
        return mine
    return mine[:1] if place == 0 else [mine[1 + (place - 1) % (len(mine) - 1)]]
