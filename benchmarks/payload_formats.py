"""Formats of a release: bytes beside the numbers, and time to write and to read."""

import io
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import safetensors.torch
import torch
from torch import Tensor

from splitbench.codecs.float32 import Float32
from splitbench.latency import pinned_threads
from splitbench.rng import stream

SHAPE = (64, 32, 32)  # 256 KiB
RUNS = 200
OURS = Float32()

Format = tuple[Callable[[Tensor], bytes], Callable[[bytes], Any]]


def packed(values: Tensor) -> bytes:
    """A map of shape and bytes."""
    found: bytes = msgpack.packb({"shape": list(values.shape), "data": values.numpy().tobytes()})
    return found


def unpacked(content: bytes) -> Tensor:
    """Undo `packed`."""
    told = msgpack.unpackb(content)
    return torch.frombuffer(bytearray(told["data"]), dtype=torch.float32).view(told["shape"])


def pickled(values: Tensor) -> bytes:
    """What ``torch.save`` writes: only to compare, nothing here reads a pickle from a peer."""
    room = io.BytesIO()
    torch.save(values, room)
    return room.getvalue()


FORMATS: dict[str, Format] = {
    "Float32 codec": (lambda values: OURS.encode([values]), OURS.decode),
    "raw bytes": (
        lambda values: values.numpy().tobytes(),
        lambda content: torch.frombuffer(bytearray(content), dtype=torch.float32).view(SHAPE),
    ),
    "safetensors": (lambda values: safetensors.torch.save({"z": values}), safetensors.torch.load),
    "msgpack": (packed, unpacked),
    "torch.save": (pickled, lambda content: torch.load(io.BytesIO(content), weights_only=True)),
}


def measure() -> Iterator[str]:
    """All formats in turn."""
    values = torch.rand(SHAPE, generator=stream(0, "benchmark", "payload"))
    times: dict[str, list[float]] = {name: [] for name in FORMATS}
    with pinned_threads(1):
        for _ in range(RUNS):
            for name, (write, read) in FORMATS.items():
                began = time.perf_counter()
                read(write(values))
                times[name].append(time.perf_counter() - began)
    raw = statistics.median(times["raw bytes"])
    for name, (write, _) in FORMATS.items():
        took = statistics.median(times[name])
        yield (
            f"{name}: {len(write(values)) - values.nbytes:,} bytes beside the numbers, "
            f"{1000 * took:.2f} ms to write and read, {took / raw:.1f} x raw bytes"
        )
