"""Split systems whose best possible reconstruction is known in closed form.

Pixels are jointly normal around grey, so narrow that none ever leaves [0, 1]. Errors are in units
of the variance of a pixel: 1 is what the mean image scores.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from splitbench.attack import Attack
from splitbench.codecs.float32 import Float32
from splitbench.data.images import LabeledImages
from splitbench.defense import Defense
from splitbench.deployment import Deployment
from splitbench.feed import Feed
from splitbench.release import Release, Tensors, TensorSpec
from splitbench.rng import stream
from splitbench.shadow import Traffic
from splitbench.split import Cut, Split
from splitbench.threat import Surface, ThreatModel

SIDE, GREY, STD = 4, 0.5, 1 / 16
GRAIN = 2**-12  # pixels are multiples of it: sums of a few are exact in single precision
PIXELS = SIDE**2


class Plain(Defense):
    """Releases the features as they are."""

    stochastic = False
    differentiable = True

    def __init__(self) -> None:
        super().__init__()

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        del generator
        return features


class Erasure(Plain):
    """Erases values at random and says which."""

    stochastic = True

    def __init__(self, *, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        kept = (torch.rand(features[0].shape, generator=generator) >= self.rate).float()
        return features[0] * kept, kept

    def pool(self, observations: list[Tensors]) -> Tensors:
        times = torch.stack([kept for _, kept in observations]).sum(0)
        seen = torch.stack([values for values, _ in observations]).sum(0)
        return seen / times.clamp(min=1), (times > 0).float()


class Static(Plain):
    """Releases noise that has nothing to do with the image."""

    stochastic = True

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        return tuple(torch.randn(f.shape, generator=generator) for f in features)


class Client(nn.Module):
    """Applies a rule to images of zero mean and unit variance."""

    def __init__(self, rule: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.rule = rule  # a module's weights are the client's

    def forward(self, images: Tensor) -> Tensors:
        return (self.rule((images - GREY) / STD),)


class Server(nn.Module):
    """Two classes, by the sum of all features."""

    def forward(self, tensors: Tensors) -> Tensor:
        total = sum(t.flatten(1).sum(1) for t in tensors)
        return torch.stack([total, -total], dim=1)


@dataclass(frozen=True)
class Outcome:
    """Mean squared error in units of the pixel variance, and its standard error."""

    error: float
    uncertainty: float

    @classmethod
    def of(cls, values: Tensor) -> "Outcome":
        """Of one value per image, ``(n,)``."""
        return cls(float(values.mean()), float(values.std() / len(values) ** 0.5))

    def is_bayes_risk(self, risk: float, *, within: float = 0.02) -> bool:
        """At most a share of 2 % above the least possible risk, and not below by chance."""
        slack = 4 * self.uncertainty
        return risk - slack <= self.error <= risk * (1 + within) + slack

    def is_excess_below(self, share: float) -> bool:
        """Of a difference to the best: surely at most this much more, and not less by chance."""
        slack = 4 * self.uncertainty
        assert slack <= share / 3, f"{self} is too uncertain to tell a share of {share}"
        return -slack <= self.error <= share - slack

    def respects(self, risk: float) -> bool:
        """Not better than the best possible."""
        return self.error >= risk - 4 * self.uncertainty


@dataclass(frozen=True)
class World:
    """A deployment, the adversary's data, images under attack ``(n, 1, 4, 4)``, their law."""

    deployment: Deployment
    feed: Feed
    targets: Tensor
    covariance: Tensor | None = None

    def surface(self, purpose: str, threat: ThreatModel) -> Surface:
        others = sample(500, "other users", self.covariance)
        return Surface(
            self.deployment,
            threat,
            feed=self.feed,
            classes=2,
            image_shape=(1, SIDE, SIDE),
            seed=0,
            purpose=purpose,
            traffic=Traffic(self.deployment, others, observations=1, seed=0),
        )

    def release(self, count: int | None = None, *, observations: int = 1) -> Release:
        """Of the first `count` targets; the same ones whatever the count."""
        sent = self.deployment.release(
            self.targets, generator=stream(0, "victim"), observations=observations
        )
        return sent[slice(count)]

    def guess(self, attack: Attack, *, count: int | None = None, observations: int = 1) -> Tensor:
        """Fit through a real surface, and guess the first `count` targets."""
        threat = ThreatModel(observations=observations)
        attack.fit(self.surface("fit", threat), generator=stream(0, "fit"))
        release = self.release(count, observations=observations)
        surface = self.surface("recover", threat)
        return attack(release, surface, generator=stream(0, "recover"))

    @property
    def noise(self) -> float:
        """Absolute standard deviation of the noise; only under `GaussianNoise`."""
        features = self.deployment.features(self.targets[:1])
        return float(self.deployment.defense.stds(features)[0].flatten()[0])

    def squares(self, guess: Tensor) -> Tensor:
        """Squared error of each of the first guesses, ``(n,)``, in units of a pixel's variance."""
        errors = (guess - self.targets[: len(guess)]).double() / STD
        return errors.square().flatten(1).mean(1)

    def score(self, guess: Tensor) -> Outcome:
        return Outcome.of(self.squares(guess))

    def attacked_by(
        self, attack: Attack, *, count: int | None = None, observations: int = 1
    ) -> Outcome:
        return self.score(self.guess(attack, count=count, observations=observations))


def build(
    rule: Callable[[Tensor], Tensor],
    *,
    defense: Defense | None = None,
    covariance: Tensor | None = None,
    auxiliary: int = 10_000,
    targets: int = 4_000,
) -> World:
    """Build a world.

    Args:
        rule: What the client computes from ``(b, 1, 4, 4)`` of zero mean and unit variance.
        defense: Is calibrated on images of its own.
        covariance: Of the pixels, ``(16, 16)``; the identity by default.
        auxiliary: Number of images of the adversary.
        targets: Number of images under attack.
    """
    client, server = Client(rule).eval(), Server().eval()
    features = client(torch.full((1, 1, SIDE, SIDE), GREY))
    specs = tuple(TensorSpec(f"z{i}", tuple(f.shape[1:])) for i, f in enumerate(features))
    cut = Cut("z", 1, specs, head_flops=0, tail_flops=0, head_params=0, tail_params=0)
    split = Split(cut, client, server)
    protected = defense or Plain()
    protected.fit(split, sample(20_000, "train", covariance), generator=stream(0, "defense"))
    released = protected.protect(features, generator=stream(0, "shapes"))
    specs = tuple(TensorSpec(f"z{i}", tuple(f.shape[1:])) for i, f in enumerate(released))
    plain = Plain(), Float32()
    deployment = Deployment(split, protected.eval(), Float32(), specs=specs, plain=plain)
    return World(
        deployment,
        Feed(sample(auxiliary, "auxiliary", covariance), seed=0, flip=False),
        sample(targets, "targets", covariance).images(),
        covariance,
    )


def sample(count: int, name: str, covariance: Tensor | None = None) -> LabeledImages:
    white = torch.randn(count, PIXELS, generator=stream(0, name), dtype=torch.float64)
    if covariance is not None:
        white = white @ torch.linalg.cholesky(covariance).T
    images = ((GREY + STD * white) / GRAIN).round() * GRAIN
    images = images.float().view(count, 1, SIDE, SIDE)
    return LabeledImages(images, torch.zeros(count, dtype=torch.int64), ("a", "b"))


def linear(matrix: Tensor) -> nn.Module:
    """The rule ``z = W x`` on flat images, with weights that can be forgotten."""
    rows, columns = matrix.shape
    layer = nn.utils.skip_init(nn.Linear, columns, rows, bias=False)
    layer.weight.data.copy_(matrix)
    return nn.Sequential(nn.Flatten(), layer.requires_grad_(False))


def gaussian_matrix(rows: int, columns: int = PIXELS) -> Tensor:
    generator = stream(0, "matrix")
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64) / columns**0.5


def orthogonal_matrix(side: int = PIXELS) -> Tensor:
    return torch.linalg.qr(gaussian_matrix(side, side)).Q


def smooth_covariance() -> Tensor:
    """Neighbours correlate; unit variance."""
    place = torch.arange(SIDE, dtype=torch.float64)
    row = torch.exp(-(place[:, None] - place[None]).abs() / 2)
    return torch.kron(row, row)


def wiener_risk(matrix: Tensor, noise: float, covariance: Tensor) -> float:
    """Mean squared error of the best estimate of x from ``W x + noise n``, per pixel."""
    cross = covariance @ matrix.T
    total = matrix @ cross + noise**2 * torch.eye(len(matrix), dtype=torch.float64)
    explained = cross @ torch.linalg.solve(total, cross.T)
    return float(torch.trace(covariance - explained) / len(covariance))
