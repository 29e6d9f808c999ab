"""Starts the processes of several plans, has their requests made in turn, and adds up."""

import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import grpc
import torch
from safetensors.torch import save_file
from torch import Tensor

from offloading.emulation.backends import emulation
from offloading.emulation.calibration import Calibration, calibrate
from offloading.emulation.emulation import Emulation, Hop
from offloading.emulation.tun_relay import DEVICES
from offloading.measuring.answers import compared
from offloading.measuring.device import Sender, Task
from offloading.measuring.processes import THREADS, OnRequest, make_requests, serve, start_device
from offloading.measuring.result import AGAIN, Report
from offloading.measuring.subject import Setting, Subject
from offloading.measuring.summary import Over, summary
from offloading.runtime.artefact import folder_of, read_manifest
from offloading.runtime.process import ServerProcess
from offloading.runtime.wire import HEADER_BYTES
from splitbench.link import Link

OnServers = Callable[[Mapping[str, Sequence[ServerProcess]]], None]


def _alone(done: int, total: int) -> None:
    del done, total


def _unseen(servers: Mapping[str, Sequence[ServerProcess]]) -> None:
    del servers


def measure(
    subjects: Sequence[Subject],
    images: Tensor,
    *,
    links: Mapping[Hop, Link],
    setting: Setting | None = None,
    on_request: OnRequest = _alone,
    on_servers: OnServers = _unseen,
) -> Report:
    """Run plans for real on this machine, each segment in a process of its own.

    The processes are joined by imitated links, which are calibrated first. Requests are made one
    at a time, those of all plans in turn and in random order, so that what disturbs the machine
    disturbs all plans. The first plan that sends takes part twice: its difference to itself is
    what no comparison can see. The device has one core to itself where there are several.

    Args:
        subjects: What to measure.
        images: ``(n, c, h, w)``, float in [0, 1]; requests take them in turn.
        links: Between the tiers that the subjects use; others may be there.
        setting: How.
        on_request: Told after each request how many are done, and of how many.
        on_servers: Told the servers of each plan before the first request.

    Raises:
        MeasureError: A request has failed and its plan does not let the device answer, or an
            answer is not the one that its plan must give.
        EmulationError: A link cannot be imitated, or not well enough.
        ArtefactError: An artefact cannot be served.
        ValueError: Subjects without names of their own, without artefacts for their tiers, or
            without an answer for each image.
    """
    how = setting or Setting()
    _check(subjects, links, len(images))
    used = {hop: links[hop] for s in subjects for hop in pairwise(s.tiers)}
    notes: tuple[str, ...] = ()
    calibrations: dict[Hop, Calibration] = {}
    net: Emulation | None = None
    with ExitStack() as stack:
        room = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        save_file({"images": images.contiguous()}, room / "images")
        if used:
            net, notes = emulation(how.backend, hops=used, seed=how.seed)
            stack.enter_context(net)
            calibrations = {hop: calibrate(net, hop) for hop in used}
            for found in calibrations.values() if how.check else ():
                found.check()
        device = start_device(subjects[0].tiers[0], net, stack)
        running, addresses = serve(subjects, net, how, stack)
        on_servers(running)
        twice = next((s for s in subjects if len(s.tiers) > 1), subjects[0])
        named = [*((s, s.name) for s in subjects), (twice, f"{twice.name}{AGAIN}")]
        task = _task(named, addresses, room / "images", net, how)
        told = make_requests(device, task, on_request)
        if net is not None:
            net.check()
    over = Over(net, calibrations, how.reply_bytes)
    by_plan = {name: [each for each in told if each["plan"] == name] for _, name in named}
    measured = [
        summary(
            by_plan[name],
            name=name,
            tiers=subject.tiers,
            device_process=device.pid,
            stretch=how.stretch,
            predicted=subject.predicted,
            over=over,
            between_bytes=_between(subject),
            answers=compared(by_plan[name], subject),
        )
        for subject, name in named
    ]
    return Report(
        plans=tuple(measured[:-1]),
        again=measured[-1],
        backend="none" if net is None else net.backend,
        notes=(*notes, *_remarks(subjects, how)),
        calibrations={">".join(hop): found for hop, found in calibrations.items()},
        host=host(),
        requests=how.requests,
        warmup=how.warmup,
    )


def _between(subject: Subject) -> tuple[float, ...]:
    """Bytes of the messages behind the first hop: plain features, always of one length."""
    bounds = read_manifest(folder_of(subject.folder, 0)).deployed.bounds
    return tuple(bound + HEADER_BYTES for bound in bounds[1 : len(subject.tiers) - 1])


def _task(
    named: Sequence[tuple[Subject, str]],
    addresses: Mapping[str, str | None],
    images: Path,
    net: Emulation | None,
    how: Setting,
) -> Task:
    return Task(
        senders=tuple(
            Sender(
                name=name,
                folder=str(folder_of(subject.folder, 0)),
                address=addresses[subject.name],
                stretch=how.stretch,
            )
            for subject, name in named
        ),
        images=str(images),
        requests=how.requests,
        warmup=how.warmup,
        seed=how.seed,
        threads=THREADS,
        timeout_s=how.timeout_s,
        counted=DEVICES if net is not None and net.counts else "",
        trust=how.trust,
    )


def _check(subjects: Sequence[Subject], links: Mapping[Hop, Link], images: int) -> None:
    names = [subject.name for subject in subjects]
    if len({subject.tiers[0] for subject in subjects}) > 1:
        raise ValueError("all plans start on the same device")
    if not names or len({*names}) != len(names):
        raise ValueError(f"want plans with names of their own, got {names}")
    for subject in subjects:
        segments = read_manifest(folder_of(subject.folder, 0)).deployed.segments
        if len(subject.tiers) not in (1, segments):
            raise ValueError(f"{subject.name}: {segments} segments, but tiers {subject.tiers}")
        if subject.expected is not None and len(subject.expected) != images:
            raise ValueError(f"{subject.name}: {len(subject.expected)} answers to {images} images")
        missing = [hop for hop in pairwise(subject.tiers) if hop not in links]
        if missing:
            raise ValueError(f"{subject.name}: there is no link for {missing}")


def _remarks(subjects: Sequence[Subject], how: Setting) -> Iterator[str]:
    count = len(os.sched_getaffinity(0))
    if count == 1:
        yield "one core: device and servers share it"
    elif count < max(len(subject.tiers) for subject in subjects):
        yield f"{count} cores: the device has one to itself, servers share"
    if how.stretch != 1:
        yield f"stretched: heads were made {how.stretch:g} times slower by sleeping"


def host() -> dict[str, str]:
    """What this machine is."""
    return {
        "name": platform.node(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": str(len(os.sched_getaffinity(0))),
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "grpc": str(grpc.__version__),
    }
