"""What the runtime takes beside head, codec, link and tail, on the loopback interface.

The link is what a bare socket takes between the same computations (`plain_socket`).
"""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks.plain_socket import plain_socket_ms
from experiments.carrying import by_size, carried
from experiments.console import Reporter
from splitbench.models import SixConv, resnet18
from splitbench.rng import isolated, stream
from splitbench.split import Cuttable

MODELS: dict[str, Callable[..., nn.Module]] = {"SixConv": SixConv, "resnet18": resnet18}
REQUESTS = 200
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
    plans = carried(
        cuttable,
        cuts,
        images,
        model={
            "_target_": f"splitbench.models.{name}",
            "_partial_": True,
            "mean": 0.5,
            "std": 0.25,
        },
        classes=10,
        requests=REQUESTS,
        reporter=Reporter("runtime", interactive=False),
    )
    sizes = [round(plan.sent_bytes) for plan in plans]
    parts = [cuttable.split(cut) for cut in cuts]
    links = plain_socket_ms(parts, sizes, images, requests=REQUESTS)
    for plan, size, link in zip(plans, sizes, links, strict=True):
        up, down = plan.phases_ms["up"].p50, plan.phases_ms["down"].p50
        rest = plan.end_to_end_ms.p50 - up - down
        yield (
            f"{name}, {size:,} bytes: {up + down - link:.2f} ms beside head, codec, link and tail "
            f"({up:.2f} ms there, {down:.2f} ms back, a bare socket takes {link:.2f} of them; "
            f"head, codec and tail take {rest:.1f} ms)"
        )
