"""A real split of a model so small that a defense is fitted on it in milliseconds."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from splitbench.checks.form import rebuilt
from splitbench.codecs.float32 import Float32
from splitbench.data.images import LabeledImages
from splitbench.defense import Defense
from splitbench.deployment import Deployment
from splitbench.placement import here
from splitbench.release import Tensors
from splitbench.rng import isolated, stream
from splitbench.split import Split, split

SIDE, CLASSES, TRAIN, TARGETS = 5, 3, 240, 8
CUTS = ("relu", "branch", "hidden")


class SmallModel(nn.Module):
    """A convolution, a residual branch, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, padding=1)
        self.relu = nn.ReLU()
        self.branch = nn.Conv2d(3, 3, 3, padding=1)
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(3 * SIDE**2, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(b, 1, 5, 5)`` to logits ``(b, 3)``."""
        first = self.relu(self.stem(4 * (images - 0.5)))
        hidden = self.hidden(self.flatten(first + self.branch(first)))
        logits: Tensor = self.head(hidden.relu())
        return logits


@dataclass(frozen=True)
class DefenseWorld:
    """A cut model, the data to fit a defense on, and images to release.

    Attributes:
        split: Frozen, in eval mode, undefended.
        train: 240 labelled images of 5x5 pixels, three classes.
        targets: Eight others, ``(8, 1, 5, 5)``.
    """

    split: Split
    train: LabeledImages
    targets: Tensor
    _fitted: dict[tuple[type[Defense], str, int], Deployment] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def features(self, images: Tensor) -> Tensors:
        """What the undefended client computes, detached."""
        with torch.no_grad():
            return tuple(self.split.client(images))

    def deploy(self, defense: Defense, *, seed: int = 0) -> Deployment:
        """Adapt, fit and freeze a fresh copy of a defense, as an experiment does.

        Args:
            defense: Left as it is; only its arguments are used.
            seed: Of the initialisation and the fitting.
        """
        fresh = rebuilt(defense)
        given = copy.deepcopy(self.split)
        with isolated(stream(seed, "defense", "initialisation")):
            parts = fresh.adapt(given)
        for module in (parts.client, parts.server, fresh):
            module.to(here())
        fresh.fit(parts, self.train, generator=stream(seed, "defense", "fit"))
        return self.deployment(fresh, parts)

    def fitted(self, defense: Defense, *, seed: int = 0) -> Deployment:
        """What `deploy` makes, fitted once: a copy for each who asks, since checks disturb it."""
        key = (type(defense), repr(defense), seed)
        if key not in self._fitted:
            self._fitted[key] = self.deploy(defense, seed=seed)
        return copy.deepcopy(self._fitted[key])

    def deployment(self, defense: Defense, parts: Split) -> Deployment:
        """Freeze what was fitted, with a codec that loses nothing if the defense brings none."""
        for module in (parts.client, parts.server, defense):
            module.eval().requires_grad_(False)
        codec = defense.codec or Float32()
        return Deployment(parts, defense, codec, specs=(), plain=(defense, Float32()))


def defense_world(
    cut: str = "relu", *, model: Callable[[], nn.Module] = SmallModel
) -> DefenseWorld:
    """Build the world; the same one for the same cut.

    Args:
        cut: ``relu`` carries one image-like tensor, ``branch`` two of them (a residual
            connection is open), ``hidden`` a vector.
        model: Another one, ``(b, 1, 5, 5)`` to ``(b, 3)``, with cuts of its own.
    """
    with isolated(stream(0, "defense world", "model")):
        whole = model().eval().requires_grad_(False)
    whole.to(here())
    images = torch.rand(TRAIN + TARGETS, 1, SIDE, SIDE, generator=stream(0, "defense world"))
    # The class shifts the brightness: something to learn, and features far from symmetric.
    labels = torch.arange(len(images)) % CLASSES
    images = images * 0.6 + 0.2 * labels[:, None, None, None]
    images[-1] = 0.0  # a black target: features without range, messages that compress
    everyone = LabeledImages(images, labels, tuple("abc"))
    parts = split(whole, images[:1], cut)
    for module in (parts.client, parts.server):
        module.eval().requires_grad_(False)
    return DefenseWorld(parts, everyone.subset(slice(TRAIN)), images[TRAIN:])
