"""What runs on the near side: sends requests of several plans in turn, and says what each took.

``python -m offloading.measuring.device`` reads one JSON document from its input and prints one for
each request; a request that fails ends it, with the reason as its last line.
"""

import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from offloading.runtime.client import Client
from offloading.runtime.errors import ArtefactError, RequestFailed
from offloading.runtime.segments import Head, load_head
from offloading.runtime.transport import GrpcTransport
from splitbench.release import Tensors

CONNECT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Sender:
    """One plan as the device has it.

    Attributes:
        name: Of the plan.
        folder: Of the artefact of the first segment.
        address: Of the next segment; None where the device runs the whole model.
        stretch: By how much the head is made slower, by sleeping; 1 is not.
    """

    name: str
    folder: str
    address: str | None
    stretch: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the program is told.

    Attributes:
        senders: The plans.
        images: A safetensors file with ``images (n, c, h, w)``; requests take them in turn.
        requests: Timed ones of each plan.
        warmup: Requests before them that are thrown away.
        seed: Of the order of the plans within each round, and of the defenses' noise.
        threads: Of torch.
        timeout_s: Of a request.
        counted: Prefix of the network interfaces whose bytes are counted; empty counts none.
        trust: Modules that the artefacts may name beside this project's.
    """

    senders: tuple[Sender, ...]
    images: str
    requests: int
    warmup: int
    seed: int
    threads: int
    timeout_s: float
    counted: str
    trust: tuple[str, ...] = ()

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Task":
        """Undo `to_json`."""
        raw = json.loads(text)
        senders = tuple(Sender(**each) for each in raw["senders"])
        return cls(**{**raw, "senders": senders, "trust": tuple(raw["trust"])})


class Stretched(nn.Module):
    """A module on a slower machine: after each run it waits, in proportion to what it took."""

    def __init__(self, module: nn.Module, stretch: float) -> None:
        super().__init__()
        self.module = module
        self.stretch = stretch

    def forward(self, images: Tensor) -> Tensors:
        """What the module returns, later."""
        began = time.perf_counter()
        found: Tensors = self.module(images)
        time.sleep((self.stretch - 1) * (time.perf_counter() - began))
        return found


class Whole:
    """The whole model on the device: no message, one phase."""

    def __init__(self, head: Head) -> None:
        self.head = head

    @torch.inference_mode()
    def request(self, image: Tensor) -> dict[str, Any]:
        """Answer one image ``(c, h, w)``."""
        began = time.monotonic_ns()
        (logits,) = self.head.client(image[None])
        took = (time.monotonic_ns() - began) / 1e6
        return {
            "phases_ms": {"head": took},
            "end_to_end_ms": took,
            "payload_bytes": 0,
            "sent_bytes": 0,
            "answered_by": "device",
            "processes": [],
            "logits": logits[0].tolist(),
        }


def asked(client: Client, image: Tensor) -> dict[str, Any]:
    """Send one request, and take its answer apart."""
    answer = client.request(image)
    return {
        "phases_ms": answer.phases_ms,
        "end_to_end_ms": answer.end_to_end_ms,
        "payload_bytes": answer.payload_bytes,
        "sent_bytes": answer.sent_bytes,
        "answered_by": answer.answered_by,
        "processes": [[server.pid, server.host] for server in answer.servers],
        "failure": answer.failure,
        "logits": answer.logits[0].tolist(),
    }


def perform(task: Task) -> Iterator[dict[str, Any]]:
    """The requests, one plan after the other in a new random order in each round.

    Raises:
        RequestFailed: Of any plan that does not let the device answer by itself.
        ArtefactError: An artefact cannot be loaded.
    """
    torch.set_num_threads(task.threads)
    images = load_file(task.images)["images"]
    order = random.Random(task.seed)  # noqa: S311 (an order, not a secret)
    with ExitStack() as stack:
        runners = {
            sender.name: _runner(sender, task, stack, place)
            for place, sender in enumerate(task.senders)
        }
        for round_ in range(-task.warmup, task.requests):
            names = [*runners]
            order.shuffle(names)
            for name in names:
                before = link_bytes(task.counted)
                number = round_ % len(images)
                image = images[number]
                runner = runners[name]
                told = runner.request(image) if isinstance(runner, Whole) else asked(runner, image)
                after = link_bytes(task.counted)
                yield {
                    "plan": name,
                    "round": round_,
                    "image": number,
                    **told,
                    "link_up_bytes": after[0] - before[0],
                    "link_down_bytes": after[1] - before[1],
                }


def _runner(sender: Sender, task: Task, stack: ExitStack, place: int) -> Client | Whole:
    head = load_head(Path(sender.folder), trust=task.trust)
    if sender.stretch != 1:
        head = replace(head, client=Stretched(head.client, sender.stretch))
    if sender.address is None:
        return Whole(head)
    transport = GrpcTransport(sender.address)
    noise = torch.Generator().manual_seed(task.seed + place)
    client = Client(head, transport, timeout_s=task.timeout_s, generator=noise)
    stack.enter_context(client)
    transport.connect(CONNECT_S)
    return client


def link_bytes(prefix: str, table: Path = Path("/proc/net/dev")) -> tuple[int, int]:
    """Bytes that interfaces have sent and received so far, headers included."""
    if not prefix:
        return 0, 0
    sent = received = 0
    for line in table.read_text().splitlines():
        name, colon, counts = line.strip().partition(":")
        if colon and name.startswith(prefix):
            numbers = counts.split()
            received, sent = received + int(numbers[0]), sent + int(numbers[8])
    return sent, received


def main() -> int:
    """Perform the task."""
    task = Task.from_json(sys.stdin.readline())
    try:
        for told in perform(task):
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
    except (RequestFailed, ArtefactError) as error:
        sys.stdout.write(json.dumps({"failed": f"{type(error).__name__}: {error}"}) + "\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
