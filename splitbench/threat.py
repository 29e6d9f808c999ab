"""What an adversary may touch, as a capability object that grants, counts and remembers."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import torch
from torch import Tensor, nn

from splitbench.data.images import LabeledImages
from splitbench.defense import Defense
from splitbench.deployment import Deployment
from splitbench.feed import Feed
from splitbench.pool import Pool, batches, joined
from splitbench.release import Release, Tensors, TensorSpec
from splitbench.rng import stream


class ThreatModelError(PermissionError):
    """An attack reached for something that the threat model does not grant."""


class Access(StrEnum):
    """Things that a threat model may grant."""

    AUXILIARY = "auxiliary"
    QUERY = "query"
    CLIENT = "client"
    DEFENSE = "defense"
    SERVER = "server"


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """Who attacks, and with what. Kerckhoffs' default: all is known but the message's randomness.

    Attributes:
        client: ``weights`` (white box: parameters and gradients), ``query`` (black box: any image
            may be sent through the device) or ``none``.
        defense: ``known`` (adaptive: the adversary simulates the defended release) or ``hidden``
            (naive: it expects the undefended features and trains on those). Hidden is there to
            show what ignoring a defense costs an attack, never to rank a defense.
        auxiliary: ``same`` distribution as the targets, disjoint from them, or ``none``.
        query_budget: Images that may be queried, each time counted; None is unlimited. Of a
            budget, all but 10 buy a fixed pool of auxiliary images and their releases, a tenth of
            it for validation (`splitbench.pool.Pool`).
        observations: Releases of each target that the adversary collects, each with fresh
            randomness; they are pooled into one (`Defense.pool`).
    """

    client: Literal["none", "query", "weights"] = "weights"
    defense: Literal["hidden", "known"] = "known"
    auxiliary: Literal["none", "same"] = "same"
    query_budget: int | None = None
    observations: int = 1

    def __post_init__(self) -> None:
        for field, allowed in (
            ("client", ("none", "query", "weights")),
            ("defense", ("hidden", "known")),
            ("auxiliary", ("none", "same")),
        ):
            if getattr(self, field) not in allowed:
                raise ValueError(f"threat.{field}={getattr(self, field)!r}: choose from {allowed}")
        if self.observations < 1:
            raise ValueError(f"threat.observations={self.observations}: must be at least 1")
        if self.query_budget is not None and self.query_budget < 0:
            raise ValueError(f"threat.query_budget={self.query_budget}: must not be negative")

    def grants(self) -> frozenset[Access]:
        """The accesses of this adversary. It always runs the server, being the server."""
        granted = {Access.SERVER}
        if self.client != "none":
            granted.add(Access.QUERY)
        if self.client == "weights":
            granted.add(Access.CLIENT)
        if self.defense == "known":
            granted.add(Access.DEFENSE)
        if self.auxiliary != "none":
            granted.add(Access.AUXILIARY)
        return frozenset(granted)


class Surface:
    """All that one adversary may touch at one cut.

    Every access is checked against the threat model and remembered in `used`; every image that
    is sent through the client is counted in `queries`.
    """

    def __init__(
        self,
        deployment: Deployment,
        threat: ThreatModel,
        *,
        feed: Feed | None,
        classes: int,
        image_shape: tuple[int, int, int],
        seed: int,
        purpose: str = "simulation",
        spent: int = 0,
        pooled: int = 0,
    ) -> None:
        """Open a surface.

        Args:
            deployment: The split system under attack.
            threat: What is granted.
            feed: The adversary's data; None where it has none.
            classes: Number of classes of the task.
            image_shape: Channels, height, width.
            seed: Of the adversary's own simulations; never that of the victim's releases.
            purpose: Names the stream of randomness: one surface per purpose, so that what an
                attack draws does not depend on what was drawn (or loaded from a store) before.
            spent: Queries that this adversary made through other surfaces: they count against the
                budget, but not in `queries`.
            pooled: How much of it bought the pool: its answers are remembered, and cost nothing
                again.
        """
        self.threat = threat
        self.classes = classes
        self.image_shape = image_shape
        self.used: frozenset[Access] = frozenset()
        self.queries = 0
        self.pooled = pooled
        self._spent = spent
        self._pool: Pool | None = None
        self._deployment = deployment if threat.defense == "known" else deployment.undefended()
        self._real = deployment
        self._feed = feed
        cut = deployment.split.cut.name
        self._generator = stream(seed, "adversary", purpose, cut)
        self._answers = stream(seed, "adversary", "pool", cut)  # the same for every purpose

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Shapes of the released tensors, as any observer of a message knows them."""
        return self._real.specs

    @property
    def client(self) -> nn.Module:
        """The client, images to features; frozen, in eval mode. Needs ``Access.CLIENT``."""
        self._grant(Access.CLIENT)
        return self._deployment.split.client

    @property
    def defense(self) -> Defense:
        """The fitted defense with its parameters. Needs ``Access.DEFENSE``."""
        self._grant(Access.DEFENSE)
        return self._deployment.defense

    @property
    def auxiliary(self) -> LabeledImages:
        """The part of the adversary's data that it trains on. Needs ``Access.AUXILIARY``."""
        return self._data().train

    @property
    def validation(self) -> LabeledImages:
        """The part of the adversary's data that it holds out. Needs ``Access.AUXILIARY``."""
        return self._data().validation

    def predict(self, release: Release) -> Tensor:
        """The server's own logits for a release, ``(b, classes)``."""
        self._grant(Access.SERVER)
        return self._real.predict(release)

    def query(self, images: Tensor) -> Release:
        """Send images through the client and its defense, with fresh randomness.

        Under ``defense: hidden`` the adversary simulates the undefended client instead.

        Raises:
            ThreatModelError: No query access, or the budget is used up.
        """
        self._grant(Access.QUERY)
        self._pay(len(images))
        return self._deployment.release(
            images, generator=self._generator, observations=self.threat.observations
        )

    @property
    def remaining(self) -> int | None:
        """Images that may still be queried; None where there is no limit."""
        budget = self.threat.query_budget
        return None if budget is None else max(0, budget - self._spent - self.queries)

    def pairs(self, count: int | None = None) -> Iterator[tuple[Tensor, Release]]:
        """Yield the first `count` training images with their releases, in batches of 256.

        Under a budget these are pairs of the pool, else all `auxiliary` images, queried afresh.
        """
        if self.threat.query_budget is None:
            yield from self._fresh(self._data().train, count)
            return
        pool = self._bought()
        for index in batches(torch.arange(pool.trained)[:count]):
            yield pool.train(index)

    def validation_pairs(self, count: int | None = None) -> tuple[Tensor, Release]:
        """The first `count` held-out images with their releases, as `pairs`; possibly none."""
        if self.threat.query_budget is not None:
            return self._bought().validation(slice(count))
        parts = list(self._fresh(self._data().validation, count))
        images = [part for part, _ in parts] or [torch.empty(0, *self.image_shape)]
        return torch.cat(images), joined([release for _, release in parts], self._real)

    def examples(self, batch_size: int, steps: int) -> Iterator[tuple[Tensor, Release]]:
        """Yield `steps` batches of auxiliary images with their releases.

        Batch number t holds the same images for every attack and every cut of a job, so that
        attacks trained side by side share one forward of the client per batch. Under a budget
        the same few pairs come again and again.
        """
        feed = self._data()
        for step in range(steps):
            if self.threat.query_budget is not None:
                yield self._bought().batch(batch_size, step)
                continue
            images = feed.batch(batch_size, step)
            yield images, self.query(images)

    def mismatch(self, release: Release, features: Tensors) -> Tensor:
        """How badly features explain a release, per example: the exact negative log likelihood.

        Up to a constant, where the defense has one; otherwise the squared distance to what the
        codec could have encoded. Differentiable in `features`. Like `query`, it follows what the
        adversary knows: a naive one measures the distance to the undefended release. Features
        come from `client`, which is what needs access.
        """
        return self._deployment.mismatch(release, features, observations=self.threat.observations)

    def is_likelihood(self, release: Release, features: Tensors) -> bool:
        """Whether `mismatch` is in nats, the exact likelihood, rather than a squared distance."""
        return self._deployment.is_likelihood(release, features)

    def _fresh(self, data: LabeledImages, count: int | None) -> Iterator[tuple[Tensor, Release]]:
        for images in batches(data.images(slice(count))):
            yield images, self.query(images)

    def _bought(self) -> Pool:
        """The pool, paid for when it is first asked for."""
        self._grant(Access.QUERY)
        feed, budget = self._data(), self.threat.query_budget or 0
        if self._pool is None:
            seen, answers = self.threat.observations, self._answers
            self._pool = Pool(
                self._deployment, feed, budget=budget, observations=seen, generator=answers
            )
            self._pay(0 if self.pooled else len(self._pool))
            self.pooled = len(self._pool)
        if not self._pool.trained:
            raise ThreatModelError(f"a query budget of {budget} images buys no pair to learn from")
        return self._pool

    def _pay(self, images: int) -> None:
        budget = self.threat.query_budget
        self.queries += images
        if budget is not None and self._spent + self.queries > budget:
            raise ThreatModelError(f"the query budget of {budget} images is used up")

    def _data(self) -> Feed:
        self._grant(Access.AUXILIARY)
        if self._feed is None:
            raise ThreatModelError("this surface was opened without auxiliary data")
        return self._feed

    def _grant(self, access: Access) -> None:
        if access not in self.threat.grants():
            raise ThreatModelError(
                f"the threat model does not grant '{access}'; it grants "
                f"{', '.join(sorted(self.threat.grants()))}"
            )
        self.used |= {access}
