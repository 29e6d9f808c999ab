"""Latency of one request, as measured on this machine."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splitbench.codec import Codec
from splitbench.link import Link
from splitbench.release import Tensors


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds of each phase of one request (batch of one), median and 95th percentile.

    Attributes:
        client_ms_median: Client with what protects its features.
        client_ms_p95: Likewise.
        encode_ms_median: Tensors to bytes.
        encode_ms_p95: Likewise.
        decode_ms_median: Bytes to tensors.
        decode_ms_p95: Likewise.
        server_ms_median: Rest of the model.
        server_ms_p95: Likewise.
        payload_bytes: Length of the message that was timed.
        runs: Requests timed.
        threads: Threads of torch meanwhile.
    """

    client_ms_median: float
    client_ms_p95: float
    encode_ms_median: float
    encode_ms_p95: float
    decode_ms_median: float
    decode_ms_p95: float
    server_ms_median: float
    server_ms_p95: float
    payload_bytes: int
    runs: int
    threads: int

    def end_to_end_ms(self, link: Link, *, reply_bytes: float = 0) -> float:
        """Modelled latency of a request: median phases, and the link between them."""
        computed = (
            self.client_ms_median
            + self.encode_ms_median
            + self.decode_ms_median
            + self.server_ms_median
        )
        return computed + link.transfer_ms(self.payload_bytes, reply_bytes)


@contextmanager
def pinned_threads(threads: int) -> Iterator[None]:
    """Let torch use so many threads, then as many as before."""
    if threads < 1:
        raise ValueError(f"threads={threads}: at least 1")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure(
    phases: Mapping[str, Callable[[Any], Any]],
    value: Any,
    *,
    runs: int = 30,
    warmup: int = 5,
    threads: int = 1,
) -> dict[str, NDArray[np.float64]]:
    """Time a chain of phases, each of which gets what the one before returned.

    Every run goes through all phases once: what disturbs the machine meanwhile disturbs all of
    them, and none is flattered by a warm cache of its own.

    Args:
        phases: Name to function, in the order of the chain.
        value: Handed to the first phase.
        runs: Timed passes, >= 1.
        warmup: Passes before them that are thrown away, >= 0.
        threads: Threads of torch meanwhile.

    Returns:
        For each phase the milliseconds of each run, ``(runs,)``.

    Raises:
        ValueError: No runs, or no threads.
    """
    if runs < 1 or warmup < 0:
        raise ValueError(f"runs={runs}, warmup={warmup}: want at least 1 run, no negative warm-up")
    on_accelerator = torch.accelerator.is_available()
    elapsed: dict[str, list[float]] = {name: [] for name in phases}
    with pinned_threads(threads), torch.inference_mode():
        for run in range(-warmup, runs):
            current = value
            for name, phase in phases.items():
                began = time.perf_counter_ns()
                current = phase(current)
                if on_accelerator:
                    torch.accelerator.synchronize()
                if run >= 0:
                    elapsed[name].append((time.perf_counter_ns() - began) / 1e6)
    return {name: np.array(times) for name, times in elapsed.items()}


def measure_latency(
    client: Callable[[Tensor], Tensors],
    codec: Codec,
    server: Callable[[Tensors], Tensor],
    image: Tensor,
    *,
    protect: Callable[[Tensors], Tensors] | None = None,
    runs: int = 30,
    warmup: int = 5,
    threads: int = 1,
) -> Latency:
    """Time one request of a split system on this machine, phase by phase.

    Args:
        client: Images ``(1, c, h, w)`` to live tensors; in eval mode.
        codec: Makes the bytes, which are really made, and read again.
        server: Tensors to logits; in eval mode. Whatever `restore` a defense has belongs to it.
        image: One image, ``(c, h, w)`` or ``(1, c, h, w)``, in [0, 1].
        protect: What the defense does on the device; counted with the client.
        runs: Timed requests, >= 1.
        warmup: Requests before them that are thrown away.
        threads: Threads of torch meanwhile.

    Raises:
        ValueError: More than one image, no runs, or no threads.
    """
    batch = image.unsqueeze(0) if image.ndim == 3 else image
    if batch.ndim != 4 or len(batch) != 1:
        raise ValueError(f"latency is of one image, got shape {tuple(image.shape)}")
    messages: list[int] = []
    live: list[int] = []

    def on_device(images: Tensor) -> Tensors:
        features = client(images)
        return features if protect is None else protect(features)

    def encode(features: Tensors) -> bytes:
        live[:] = [len(features)]
        return codec.encode([t[0] for t in features])

    def decode(message: bytes) -> Tensors:
        messages[:] = [len(message)]
        # The server takes no value that travels beside the live tensors.
        return tuple(t.unsqueeze(0).to(batch.device) for t in codec.decode(message)[: live[0]])

    chain: dict[str, Callable[[Any], Any]] = {
        "client": on_device,
        "encode": encode,
        "decode": decode,
        "server": server,
    }
    times = measure(chain, batch, runs=runs, warmup=warmup, threads=threads)
    spread = {
        f"{phase}_ms_{name}": float(np.quantile(values, q))
        for phase, values in times.items()
        for name, q in (("median", 0.5), ("p95", 0.95))
    }
    return Latency(**spread, payload_bytes=messages[0], runs=runs, threads=threads)
