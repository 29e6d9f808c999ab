"""What speed is measured on: untrained networks on random images, or the demo's on real ones."""

import torch
from torch import Tensor, nn

from defenses.no_defense import NoDefense
from splitbench.codecs.float32 import Float32
from splitbench.data.fashion_mnist_sample import FashionMnistSample
from splitbench.data.images import LabeledImages
from splitbench.deployment import Deployment, SharedClient
from splitbench.feed import Feed
from splitbench.models.lenet5 import LeNet5
from splitbench.models.six_conv import SixConv
from splitbench.rng import isolated, stream
from splitbench.split import Cuttable, Taps
from splitbench.threat import Surface, ThreatModel
from splitbench.training import Training

NETS = {"demo's LeNet-5": (LeNet5, (1, 28, 28)), "six convolutions": (SixConv, (3, 32, 32))}


def network(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """A network with random weights, and the shape of its images."""
    kind, shape = NETS[name]
    with isolated(stream(0, "benchmark", name)):
        model: nn.Module = kind(image_shape=shape, classes=10)
    return model.eval().requires_grad_(False), shape


def trained() -> tuple[nn.Module, LabeledImages, LabeledImages]:
    """LeNet-5 trained on the embedded images; auxiliary images and targets."""
    sizes = {"train": 5000, "auxiliary": 512, "calibration": 64, "target": 64}
    roles = FashionMnistSample(sizes=sizes).load()
    model, _ = network("demo's LeNet-5")
    Training().fit(model.requires_grad_(True), roles.train, generator=stream(0, "training"))
    return model.eval().requires_grad_(False), roles.auxiliary, roles.target


def images(count: int, shape: tuple[int, int, int]) -> LabeledImages:
    """Smooth random images."""
    generator = stream(0, "benchmark", "images")
    coarse = torch.rand(count, shape[0], 7, 7, generator=generator)
    fine = nn.functional.interpolate(coarse, shape[1:], mode="bilinear")
    return LabeledImages(fine, torch.zeros(count, dtype=torch.int64), tuple("0123456789"))


def deployments(model: nn.Module, example: Tensor, cuts: list[str]) -> dict[str, Deployment]:
    """Undefended deployments that share one client."""
    cuttable, plain = Cuttable(model, example), (NoDefense(), Float32())
    shared = SharedClient(Taps(model, example, cuts))
    return {
        name: Deployment(cuttable.split(name), *plain, cuttable.find(name).tensors, plain, shared)
        for name in cuts
    }


def surface(deployment: Deployment, feed: Feed, shape: tuple[int, int, int]) -> Surface:
    """A white-box adversary."""
    return Surface(deployment, ThreatModel(), feed=feed, classes=10, image_shape=shape, seed=0)
