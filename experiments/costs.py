"""What a deployment costs: operations, parameters, memory, time and bytes."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
import zstandard
from torch import Tensor, nn

from splitbench.codec import Codec
from splitbench.defense import Defense
from splitbench.deployment import Deployment
from splitbench.latency import measure, measure_latency
from splitbench.memory import peak_bytes
from splitbench.operations import operations
from splitbench.placement import on_the_cpu
from splitbench.release import Tensors
from splitbench.stations import stations

CODED = 100  # images whose messages are entropy-coded, to see what that would save
LEVEL = 19  # of zstandard: as small as it gets, for the time of coding does not matter here

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class _Parts:
    """Both sides on the CPU, as one request meets them."""

    client: nn.Module
    server: nn.Module
    defense: Defense
    codec: Codec
    generator: torch.Generator

    @classmethod
    def of(cls, deployment: Deployment, generator: torch.Generator) -> "_Parts":
        split = deployment.split
        return cls(
            client=on_cpu(split.client),
            server=on_cpu(split.server),
            defense=on_cpu(deployment.defense),
            codec=deployment.codec,
            generator=generator,
        )

    def release(self, images: Tensor) -> Tensors:
        """The device's work on images that are sent, without the codec's."""
        return self.protect(self.features(images))

    def features(self, images: Tensor) -> Tensors:
        """Whether to send at all is decided on the way."""
        *_, (features, _) = stations(self.defense, self.client, images)
        return features

    def until(self, place: int, images: Tensor) -> None:
        """The device's work on images that leave by the exit of this place."""
        next(islice(stations(self.defense, self.client, images), place, None))

    def protect(self, features: Tensors) -> Tensors:
        return self.defense.protect(features, generator=self.generator)

    def answer(self, tensors: Tensors) -> Tensor:
        """The server's work, without the codec's."""
        logits: Tensor = self.server(self.defense.restore(tensors))
        return logits


def costs_of(
    deployment: Deployment,
    images: Tensor,
    *,
    leaving: Sequence[float] = (),
    timing: Mapping[str, Any],
    generator: torch.Generator,
) -> dict[str, float]:
    """Costs of one request, all of them on the CPU, wherever attacks are computed.

    Args:
        deployment: The fitted system.
        images: ``(n, c, h, w)``; the first is the request, the first hundred are entropy-coded.
        leaving: Share of the requests that leave by each of the deployment's exits.
        timing: Keywords of `splitbench.latency.measure_latency`.
        generator: Of the defense's randomness.

    Returns:
        ``client_`` and ``server_`` ``flops`` (one multiply-add is 2; matrix products and
        convolutions), ``params``, ``memory_bytes`` (parameters, buffers and the tensors that are
        alive at the worst moment of one request), ``ms`` and ``ms_p95``; ``encode_ms`` and
        ``decode_ms`` likewise; ``payload_bytes_entropy``, the mean length of messages after
        entropy coding. All of an image that is sent; where the device has exits, also
        ``client_flops_mean`` and ``client_ms_mean``, over images that leave where `leaving` says.
    """
    with on_the_cpu(), torch.no_grad():
        parts = _Parts.of(deployment, generator)
        request = images[:1].cpu()
        released = parts.release(request)
        costs = {
            **_size("client", [parts.client, parts.defense], lambda: parts.release(request)),
            **_size("server", [parts.server], lambda: parts.answer(released)),
            "payload_bytes_entropy": _entropy_coded(parts, images[:CODED].cpu()),
            **_times(parts, request, timing),
        }
        return {**costs, **_expected(parts, request, leaving, costs, timing)}


def _expected(
    parts: _Parts,
    request: Tensor,
    leaving: Sequence[float],
    sent: Mapping[str, float],
    timing: Mapping[str, Any],
) -> dict[str, float]:
    """Means over images that leave by each exit, and the rest, which are `sent`."""
    if not leaving:
        return {}
    exits = {str(k): partial(parts.until, k) for k in range(len(leaving))}
    flops = [float(operations(partial(until, request))) for until in exits.values()]
    times = [
        float(np.median(measure({name: until}, request, **timing)[name]))
        for name, until in exits.items()
    ]

    def mean(each: Sequence[float], of_the_sent: float) -> float:
        shares = (*leaving, 1 - sum(leaving))
        return sum(s * cost for s, cost in zip(shares, (*each, of_the_sent), strict=True))

    return {
        "client_flops_mean": mean(flops, sent["client_flops"]),
        "client_ms_mean": mean(times, sent["client_ms"]),
    }


def _size(side: str, modules: list[nn.Module], compute: Callable[[], object]) -> dict[str, float]:
    # What a defense has learnt counts, however it keeps it; of a network its statistics do not.
    parameters = sum(t.numel() for m in modules for t in _learnt(m))
    held = [t for m in modules for t in (*m.parameters(), *m.buffers())]
    return {
        f"{side}_flops": float(operations(compute)),
        f"{side}_params": float(parameters),
        f"{side}_memory_bytes": float(sum(t.nbytes for t in held) + peak_bytes(compute)),
    }


def _learnt(module: nn.Module) -> Iterable[Tensor]:
    return module.state_dict().values() if isinstance(module, Defense) else module.parameters()


def _entropy_coded(parts: _Parts, images: Tensor) -> float:
    """Mean bytes of a message; one that does not shrink is sent as it is, some are not sent."""
    *_, (features, answered) = stations(parts.defense, parts.client, images)
    released = parts.protect(features)
    sent = [True] * len(images) if answered is None else (~answered.stays).tolist()
    coder = zstandard.ZstdCompressor(level=LEVEL)
    messages = (parts.codec.encode([t[i] for t in released]) for i, come in enumerate(sent) if come)
    lengths = [min(len(message), len(coder.compress(message))) for message in messages]
    return sum(lengths) / len(sent)


def _times(parts: _Parts, request: Tensor, timing: Mapping[str, Any]) -> dict[str, float]:
    measured = measure_latency(
        parts.features, parts.codec, parts.answer, request, protect=parts.protect, **timing
    )
    phases = ("client", "encode", "decode", "server")
    medians = {f"{phase}_ms": getattr(measured, f"{phase}_ms_median") for phase in phases}
    tails = {f"{phase}_ms_p95": getattr(measured, f"{phase}_ms_p95") for phase in phases}
    return {**medians, **tails}


def on_cpu(module: M) -> M:
    """The module itself, or a copy where it is on another device."""
    state = module.state_dict().values()
    moved = any(t.device.type != "cpu" for t in state)
    return copy.deepcopy(module).cpu() if moved else module
