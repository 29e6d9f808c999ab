"""A split system so small and easy that what an attack must achieve there is known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import pi

import torch
from torch import Tensor, nn

from splitbench.checks.aside import Aside
from splitbench.codecs.float32 import Float32
from splitbench.data.images import LabeledImages
from splitbench.defense import Defense
from splitbench.deployment import Deployment
from splitbench.feed import Feed
from splitbench.placement import here
from splitbench.pool import NOTHING, Pool, Spent
from splitbench.release import Release, Tensors, TensorSpec
from splitbench.rng import isolated, normal_like, stream
from splitbench.shadow import Traffic
from splitbench.split import Cut, Split
from splitbench.threat import Surface, ThreatModel

SIDE, CLASSES, TARGETS, AUXILIARY, TRAFFIC = 8, 4, 6, 64, 256
CROWD = 128  # targets of a swapped world


class Undefended(Defense):
    """Releases the features as they are."""

    stochastic = False
    differentiable = True

    def __init__(self) -> None:
        super().__init__()

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Return the features."""
        del generator
        return features


class Noisy(Undefended):
    """Adds a little fresh noise to every message, and does not tell its likelihood."""

    stochastic = True

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Return the features with noise of standard deviation 0.05."""
        return tuple(f + 0.05 * normal_like(f, generator) for f in features)


class ToyClient(nn.Module):
    """An orthogonal map of the image, as a 2x2 stride-2 convolution; so it can be inverted.

    Args:
        silent: Release the same features for every image instead.
        forked: Release two tensors, a map and a vector, that hold half of the features each.

    Attributes:
        images: How many were sent through.
    """

    def __init__(self, *, silent: bool, forked: bool) -> None:
        super().__init__()
        self.unshuffle = nn.PixelUnshuffle(2)
        self.mix = nn.Conv2d(4, 4, 1)
        nn.init.orthogonal_(self.mix.weight)
        if silent:
            nn.init.zeros_(self.mix.weight)
        self.norm = nn.BatchNorm2d(4)
        self.forked = forked
        self.images = 0

    def forward(self, images: Tensor) -> Tensors:
        """Images ``(b, 1, 8, 8)`` to features ``(b, 4, 4, 4)``, in one tensor or in two."""
        self.images += len(images)
        features: Tensor = self.norm(self.mix(self.unshuffle(images)))
        return (features[:, :2], features[:, 2:].flatten(1)) if self.forked else (features,)


class ToyServer(nn.Module):
    """A linear head that recognises the four classes.

    Args:
        mute: Answer the same for every image.
    """

    def __init__(self, *, mute: bool) -> None:
        super().__init__()
        self.head = nn.Linear(SIDE * SIDE, CLASSES)
        self.mute = mute
        if mute:
            nn.init.zeros_(self.head.weight)

    @torch.no_grad()
    def learn(self, features: Tensors, labels: Tensor) -> None:
        """Least squares, stretched so that answers are confident."""
        if self.mute:
            return
        rows = torch.cat([f.flatten(1) for f in features], dim=1).double()
        rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
        wanted = 10 * nn.functional.one_hot(labels, CLASSES).double()
        gram = rows.T @ rows + 0.01 * torch.eye(rows.shape[1])
        solution = torch.linalg.solve(gram, rows.T @ wanted).float()
        self.head.weight.copy_(solution[:-1].T)
        self.head.bias.copy_(solution[-1])

    def forward(self, features: Tensors) -> Tensor:
        """Features to logits ``(b, classes)``."""
        logits: Tensor = self.head(torch.cat([f.flatten(1) for f in features], dim=1))
        return logits


class ToyFeed(Feed):
    """Remembers the images that it handed out, beside copies made at that moment."""

    def __init__(self, images: LabeledImages) -> None:
        super().__init__(images, seed=0)
        self.served: list[tuple[Tensor, Tensor]] = []

    def batch(self, batch_size: int, step: int, *, mirrored: bool = True) -> Tensor:
        """Images of one batch."""
        images = super().batch(batch_size, step, mirrored=mirrored)
        self.served.append((images, images.clone()))
        return images


@dataclass(frozen=True)
class ToyWorld:
    """A deployment, the adversary's data, and the images under attack.

    Attributes:
        deployment: Sends the features in single precision, as they are or with noise.
        client: What runs on its device.
        feed: 64 auxiliary images.
        targets: Six others, ``(6, 1, 8, 8)``; 128 in a swapped world.
        overheard: Releases of 256 images of other users, as far as they were looked at.
        pools: What each query budget bought, by threat model.
        opens: What the adversary's surfaces are.
        others: In a swapped world as many others, whose releases are handed over.
    """

    deployment: Deployment
    client: ToyClient
    feed: ToyFeed
    targets: Tensor
    overheard: Traffic
    pools: dict[ThreatModel, Pool] = field(default_factory=dict)
    opens: type[Surface] = Surface
    others: Tensor | None = None

    @property
    def senders(self) -> Tensor:
        """The images whose releases are handed over: the targets, unless these were swapped."""
        return self.targets if self.others is None else self.others

    def surface(self, purpose: str, threat: ThreatModel, *, spent: Spent = NOTHING) -> Surface:
        """Open a surface with everything that the threat model grants."""
        shape = (1, SIDE, SIDE)
        if threat not in self.pools:
            self.pools[threat] = Pool.of(self.deployment, threat, self.feed, seed=0)
        return self.opens(
            self.deployment,
            threat,
            feed=self.feed,
            classes=CLASSES,
            image_shape=shape,
            seed=0,
            purpose=purpose,
            spent=spent,
            pool=self.pools[threat],
            traffic=self.overheard,
        )

    def release(self) -> Release:
        """What the senders release."""
        return self.deployment.transmit(self.senders, generator=stream(0, "toy", "release"))

    def modules(self) -> Mapping[str, nn.Module]:
        """All that an attack must leave as it is."""
        split = self.deployment.split
        return {"client": split.client, "server": split.server, "defense": self.deployment.defense}

    def leak(self, guess: Tensor) -> float:
        """Share of the targets' variance that a guess explains beyond the mean auxiliary image.

        1 is an exact recovery, 0 no better than a blind guess, negative is worse.
        """
        blind = self.feed.train.images().mean(0)
        floor = (self.targets - blind).square().mean()
        return 1 - float((self.targets - guess).square().mean() / floor)


def toy_world(
    *,
    silent: bool = False,
    forked: bool = False,
    mute: bool = False,
    noisy: bool = False,
    aside: bool = False,
    swapped: bool = False,
) -> ToyWorld:
    """Build the toy world; the same one for the same arguments.

    Args:
        silent: The features are the same for every image: nothing can be learnt about one.
        forked: The cut carries two tensors of different rank.
        mute: The server answers the same for every image.
        noisy: A defense adds a little noise to the features.
        aside: The features travel beside the live tensors, which arrive as zeros.
        swapped: There are more targets, and the releases that are handed over are those of others:
            they look as ever, and say nothing about the targets.
    """
    with isolated(stream(0, "toy", "modules")):
        client = ToyClient(silent=silent, forked=forked).eval().requires_grad_(False)
        server = ToyServer(mute=mute).eval().requires_grad_(False)
    client.to(here())
    server.to(here())
    shapes = ((2, 4, 4), (32,)) if forked else ((4, 4, 4),)
    specs = tuple(TensorSpec(f"tensor{i}", shape) for i, shape in enumerate(shapes))
    cut = Cut("norm", 1, specs, head_flops=512, tail_flops=512, head_params=20, tail_params=260)
    everyone, others = toy_images(AUXILIARY + TARGETS, "images"), toy_images(TRAFFIC, "traffic")
    crowd, senders = (toy_images(CROWD, name).images() for name in ("crowd", "senders"))
    server.learn(client(others.images()), others.labels)
    client.images = 0
    defense = (Noisy() if noisy else Undefended()).eval()
    plain = Undefended().eval(), Float32()
    codec = Aside() if aside else Float32()
    deployment = Deployment(Split(cut, client, server), defense, codec, specs=specs, plain=plain)
    return ToyWorld(
        deployment,
        client,
        ToyFeed(everyone.subset(slice(AUXILIARY))),
        crowd if swapped else everyone.images(slice(AUXILIARY, None)),
        Traffic(deployment, others, observations=1, seed=0),
        others=senders if swapped else None,
    )


def toy_images(count: int, name: str) -> LabeledImages:
    """Smooth images of four classes: a few cosines with random weights, and a little noise."""
    generator = stream(0, "toy", name)
    wave = torch.cos(pi * (torch.arange(SIDE) + 0.5) / SIDE)
    flat = torch.ones(SIDE)
    patterns = torch.stack([torch.outer(a, b) for a in (flat, wave) for b in (flat, wave)])
    weights = (2 * torch.rand(count, 4, generator=generator) - 1) * torch.tensor(
        [0.2, 0.15, 0.15, 0.05]
    )
    images = 0.5 + torch.einsum("nk,khw->nhw", weights, patterns)
    images += 0.01 * torch.randn(images.shape, generator=generator)
    labels = 2 * (weights[:, 1] > 0).long() + (weights[:, 2] > 0).long()
    return LabeledImages(images[:, None].clamp(0, 1), labels, tuple("abcd"))
