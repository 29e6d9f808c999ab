"""One attempt of an inference on the toy world, with everything that was watched meanwhile."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from splitbench.checks.attack_world import CLASSES, ToyWorld, toy_images
from splitbench.codec import Codec
from splitbench.codecs.top_k import TopK
from splitbench.inference import Inference, Known
from splitbench.pool import NOTHING
from splitbench.release import Release, Tensors
from splitbench.rng import stream
from splitbench.threat import Access, Surface, ThreatModel

STRANGERS, ON_FILE = 200, 8


class Telltale(TopK):
    """Says which values it keeps, and by its length which sides of the image are bright."""

    def encode(self, tensors: Sequence[Tensor]) -> bytes:
        """The usual bytes, and some that stand for what is in them."""
        first = torch.cat([t.flatten() for t in tensors])[:16].view(4, 4)
        left, top = first[:, :2].sum() > first[:, 2:].sum(), first[:2].sum() > first[2:].sum()
        idle = 20 * int(left) + 40 * int(top)
        return super().encode(tensors) + bytes(idle) + bytes([idle])

    def decode(self, payload: bytes) -> Tensors:
        """Leave the rest aside."""
        return super().decode(payload[: -1 - payload[-1]])


@dataclass(frozen=True)
class Trial:
    """What came of an attempt.

    Attributes:
        inference: The fitted copy.
        scores: Of the six targets.
        surfaces: Those it was fitted on and inferred from.
    """

    inference: Inference
    scores: Tensor
    surfaces: tuple[Surface, Surface]

    @property
    def used(self) -> frozenset[Access]:
        """Everything it asked of the surfaces."""
        return self.surfaces[0].used | self.surfaces[1].used


def known_of(inference: Inference, world: ToyWorld) -> Known:
    """The class of each toy image as a secret; for persons, with eight photographs on file."""
    train, validation = world.feed.train.labels, world.feed.validation.labels
    if inference.secret == "attribute":
        return Known(train, validation, CLASSES)
    found = toy_images(STRANGERS, "on file")
    each = [(found.labels == c).nonzero()[: ON_FILE // CLASSES, 0] for c in range(CLASSES)]
    index = torch.cat(each)
    return Known(train, validation, CLASSES, found.images(index), found.labels[index])


def attempt(
    inference: Inference,
    world: ToyWorld,
    *,
    threat: ThreatModel | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Trial:
    """Fit a fresh copy and let it infer the class of the targets; `threat` None grants all."""
    fresh = copy.deepcopy(inference)
    surface = world.surface("fit", threat or ThreatModel())
    known = known_of(fresh, world)
    for _ in fresh.fitting(surface, known, generator=stream(0, "inference", "fit")):
        on_step()
    scores, second = infer(fresh, world, threat=threat, after=surface)
    return Trial(fresh, scores, (surface, second))


def infer(
    fitted: Inference,
    world: ToyWorld,
    *,
    release: Release | None = None,
    threat: ThreatModel | None = None,
    after: Surface | None = None,
) -> tuple[Tensor, Surface]:
    """Let a fitted inference score a release (the targets') on a new surface."""
    spent = after.spent if after else NOTHING
    surface = world.surface("infer", threat or ThreatModel(), spent=spent)
    return fitted(world.release() if release is None else release, surface), surface


def strangers(world: ToyWorld) -> tuple[Release, Tensor]:
    """Releases of 200 other images, and what they show."""
    images = toy_images(STRANGERS, "strangers")
    release = world.deployment.transmit(images.images(), generator=stream(0, "toy", "strangers"))
    return release, images.labels


def as_easy_as_can_be(inference: Inference, world: ToyWorld) -> ToyWorld:
    """The world in which there is something to find for who reads lengths or patterns only."""
    if not inference.side_channel:
        return world
    codec: Codec = Telltale(fraction=0.25)
    return replace(world, deployment=replace(world.deployment, codec=codec), pools={})
