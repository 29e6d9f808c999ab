"""What the runtime takes beside head, codec, link and tail, on the loopback interface.

The link is what a bare socket takes between the same computations (`plain_socket`), in turn with
the runtime.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from benchmarks.plain_socket import plain_socket_ms
from experiments.carrying import Served, by_size, carried
from experiments.console import Reporter
from splitbench.models import SixConv, resnet18
from splitbench.rng import isolated, stream
from splitbench.split import Cut, Cuttable

MODELS: dict[str, Callable[..., nn.Module]] = {"SixConv": SixConv, "resnet18": resnet18}
ROUNDS, REQUESTS = 5, 60  # of each
SHAPE = (3, 32, 32)


def measure() -> Iterator[str]:
    """Send releases of three sizes, up to 256 KiB, of a small and of a large model."""
    images = torch.rand(4, *SHAPE, generator=stream(0, "benchmark", "images"))
    for name, model in MODELS.items():
        yield from _beside(name, model, images)


def _beside(name: str, model: Callable[..., nn.Module], images: torch.Tensor) -> Iterator[str]:
    with isolated(stream(0, "benchmark", name)):
        made = model(image_shape=SHAPE, classes=10, mean=0.5, std=0.25).eval()
    cuttable = Cuttable(made, images[:1])
    cuts = by_size(cuttable.cuts("module"))
    node = {"_target_": f"splitbench.models.{name}", "_partial_": True, "mean": 0.5, "std": 0.25}
    rounds = [_round(cuttable, cuts, images, node) for _ in range(ROUNDS)]
    for cut, times in zip(cuts, zip(*rounds, strict=True), strict=True):
        runtime, link = (statistics.median(part) for part in zip(*times, strict=True))
        beside = [there_and_back - alone for there_and_back, alone in times]
        yield (
            f"{name}, {cut.bytes:,} bytes: {statistics.median(beside):.2f} ms beside head, codec, "
            f"link and tail ({min(beside):.2f} to {max(beside):.2f} in {ROUNDS} rounds; there and "
            f"back {runtime:.2f} ms, a bare socket takes {link:.2f} of them)"
        )


def _round(
    cuttable: Cuttable, cuts: Sequence[Cut], images: torch.Tensor, node: dict[str, object]
) -> list[tuple[float, float]]:
    """Milliseconds there and back at each cut, by the runtime and by a bare socket."""
    reporter = Reporter("runtime", interactive=False)
    served = Served(cuttable, node, images, classes=10)
    plans = carried(served, cuts, requests=REQUESTS, reporter=reporter)
    sizes = [round(plan.sent_bytes) for plan in plans]
    parts = [cuttable.split(cut) for cut in cuts]
    links = plain_socket_ms(parts, sizes, images, requests=REQUESTS)
    ways = [plan.phases_ms["up"].p50 + plan.phases_ms["down"].p50 for plan in plans]
    return list(zip(ways, links, strict=True))
