"""What the runtime takes beside head, codec and tail: two processes on the loopback interface."""

from collections.abc import Iterator

import torch

from experiments.carrying import carried
from experiments.console import Reporter
from splitbench.models import resnet18
from splitbench.rng import isolated, stream
from splitbench.split import Cuttable

MODEL = {"_target_": "splitbench.models.resnet18", "_partial_": True, "mean": 0.5, "std": 0.25}
REQUESTS = 200


def measure() -> Iterator[str]:
    """Send releases of ResNet-18 of three sizes, up to 256 KiB, in turn."""
    with isolated(stream(0, "benchmark", "resnet18")):
        model = resnet18(image_shape=(3, 32, 32), classes=10, mean=0.5, std=0.25).eval()
    images = torch.rand(4, 3, 32, 32, generator=stream(0, "benchmark", "images"))
    cuttable = Cuttable(model, images[:1])
    found = carried(
        cuttable,
        cuttable.cuts("module"),
        images,
        model=MODEL,
        classes=10,
        requests=REQUESTS,
        reporter=Reporter("runtime", interactive=False),
    )
    for plan in found:
        up, down = plan.phases_ms["up"], plan.phases_ms["down"]
        rest = plan.end_to_end_ms.p50 - up.p50 - down.p50
        yield (
            f"{plan.sent_bytes:,.0f} bytes: medians of {up.p50:.2f} ms there and {down.p50:.2f} ms "
            f"back, {(up.p50 + down.p50) / rest:.2f} of what is computed"
        )
