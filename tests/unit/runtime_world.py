"""Small deployments, exported and served within the test's process, over a unix socket."""

import itertools
import os
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from torch import nn

from defenses.no_defense import NoDefense
from offloading.runtime.artefact import folder_of
from offloading.runtime.client import Client
from offloading.runtime.export import export
from offloading.runtime.segments import load_head, load_stage
from offloading.runtime.server import Access, Server
from offloading.runtime.transport import GrpcTransport
from offloading.runtime.worker import Worker
from splitbench.codecs.float32 import Float32
from splitbench.deployment import Deployment
from splitbench.models import LeNet5
from splitbench.release import TensorSpec
from splitbench.rng import isolated, stream
from splitbench.split import Cuttable

LENET = {"_target_": "splitbench.models.LeNet5", "_partial_": True, "mean": 0.4, "std": 0.3}
RESIDUAL = {"_target_": "runtime_world.Residual"}
LINGERING = {"_target_": "runtime_world.Lingering"}
_NUMBERS = itertools.count()


class Residual(nn.Module):
    """Within its block two tensors cross."""

    def __init__(self, *, image_shape, classes):
        super().__init__()
        self.stem = nn.Conv2d(image_shape[0], 6, 3, stride=2, padding=1)
        self.conv1 = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, classes)

    def forward(self, images):
        values = self.stem(images)
        more = self.norm(self.conv2(self.relu(self.conv1(values))))
        return self.head(torch.relu(more + values).mean((2, 3)))


@torch.fx.wrap
def linger(values):
    """Compute for half a minute where a file asks for it, and say when that begins and ends."""
    asked = Path(os.environ.get("RUNTIME_WORLD_LINGER", "/nobody/asks"))
    if asked.exists():
        asked.with_suffix(".began").touch()
        end = time.monotonic() + 30
        while time.monotonic() < end:
            torch.ones(64, 64) @ torch.ones(64, 64)
        asked.with_suffix(".ended").touch()
    return values


class Lingering(nn.Module):
    """Takes its time behind the stem."""

    def __init__(self, *, image_shape=(1, 28, 28), classes=10):
        super().__init__()
        with isolated(stream(0, "lingering")):
            self.stem = nn.Conv2d(image_shape[0], 2, 3, stride=4)
            self.head = nn.Linear(2, classes)
        self.eval()

    def forward(self, images):
        return self.head(linger(self.stem(images)).mean((2, 3)))


def images(count=3, shape=(1, 28, 28)):
    return torch.rand(count, *shape, generator=stream(7, "images"))


def lenet(seed=0):
    with isolated(stream(seed, "lenet")):
        return LeNet5(image_shape=(1, 28, 28), classes=10, mean=0.4, std=0.3).eval()


def residual():
    with isolated(stream(0, "residual")):
        model = Residual(image_shape=(1, 28, 28), classes=10)
    model.norm.running_mean.uniform_(-1, 1, generator=stream(0, "norm"))
    return model.eval()


def deployment(model, cut, *, defense=None, codec=None, fit=None):
    """As an experiment makes one; `fit` is the training data."""
    defense, plain = defense or NoDefense(), codec or Float32()
    cuttable = Cuttable(model, images(1))
    with isolated(stream(0, "defense", "initialisation", cuttable.find(cut).name)):
        parts = defense.adapt(cuttable.split(cut))
    if fit is not None:
        defense.fit(parts, fit, generator=stream(0, "fit"))
    for module in (parts.client, parts.server, defense):  # as they come from the store
        module.load_state_dict({k: v.contiguous() for k, v in module.state_dict().items()})
        module.eval().requires_grad_(False)
    made = Deployment(parts, defense, defense.codec or plain, (), (NoDefense(), plain))
    tensors = made.transmit(images(1), generator=stream(0, "probe")).tensors
    specs = [
        TensorSpec(f"tensor{i}", tuple(t.shape[1:]), str(t.dtype).removeprefix("torch."))
        for i, t in enumerate(tensors)
    ]
    return Deployment(parts, defense, made.codec, tuple(specs), made.plain)


def exported(root, made, *, model=LENET, **options):
    trust = ["runtime_world"] if model in (RESIDUAL, LINGERING) else []
    folder = root / f"plan{next(_NUMBERS)}"
    export(made, folder, model=model, images=images(1), classes=10, trust=trust, **options)
    return folder


@contextmanager
def serving(folder, segment=1, *, access=None, forward=None, trust=(), address=None):
    """A server on a socket of its own."""
    stage = load_stage(folder_of(folder, segment), trust=trust)
    where = address or f"unix:{folder}/s{segment}"
    server = Server(Worker(stage, forward), where, access or Access())
    server.start()
    try:
        yield server
    finally:
        server.stop(0.1)


@contextmanager
def running(folder, *, segments=2, trust=(), timeout_s=30.0):
    """A client, and the servers of all segments behind it."""
    with ExitStack() as stack:
        forward = None
        for segment in range(segments - 1, 0, -1):
            server = stack.enter_context(serving(folder, segment, forward=forward, trust=trust))
            onwards = GrpcTransport(server.address)
            stack.callback(onwards.close)

            def forward(message, left, onwards=onwards):
                return onwards.ask(message, classes=10, timeout_s=left)

        head = load_head(folder_of(folder, 0), trust=trust)
        yield Client(head, onwards, timeout_s=timeout_s)
