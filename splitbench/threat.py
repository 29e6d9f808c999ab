"""What an adversary may touch, as a capability object that grants, counts and remembers."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from splitbench.data.images import LabeledImages
from splitbench.defense import Defense
from splitbench.deployment import Deployment, ServerSide
from splitbench.feed import Feed
from splitbench.pool import Pool, batches, joined
from splitbench.release import Release, Tensors, TensorSpec
from splitbench.rng import stream
from splitbench.shadow import Traffic, forgotten
from splitbench.threat_model import Access, ThreatModel, ThreatModelError

__all__ = ["Access", "Surface", "ThreatModel", "ThreatModelError"]


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
        traffic: LabeledImages | None = None,
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
            traffic: Images of other users, whose releases the adversary observes; None for none.
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
        self._seed, self._purpose = seed, purpose
        self._generator = stream(seed, "adversary", purpose, cut)
        # The same for every purpose: what was answered, and what others sent.
        self._answers = stream(seed, "adversary", "pool", cut)
        self._traffic = Traffic(deployment, traffic, stream(seed, "adversary", "traffic", cut))

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Shapes of the released tensors, as any observer of a message knows them."""
        return self._real.specs

    @property
    def client(self) -> nn.Module:
        """The client, images to features; frozen, in eval mode. Needs ``Access.CLIENT``."""
        self._grant(Access.CLIENT)
        return self._deployment.split.client

    def architecture(self, *, generator: torch.Generator) -> nn.Module:
        """A trainable copy of the client that has forgotten what it learnt.

        Every call initialises a fresh one, in training mode. Needs ``Access.ARCHITECTURE``.
        """
        self._grant(Access.ARCHITECTURE)
        return forgotten(self._deployment.split.client, generator=generator)

    @property
    def server(self) -> nn.Module:
        """What the adversary runs, released tensors to logits; frozen, gradients flow through."""
        self._grant(Access.SERVER)
        return ServerSide(self._real.defense, self._real.split.server)

    @property
    def overheard(self) -> int:
        """How many releases of other users were looked at."""
        return len(self._traffic)

    def observed(self, count: int) -> Release:
        """What the first `count` images of other users released, as the server received it.

        Fewer where there are fewer. The images themselves stay unknown; the same releases come
        at every call, on every surface.
        """
        self._grant(Access.SERVER)
        return self._traffic.first(count, observations=self.threat.observations)

    def simulated(self, client: nn.Module) -> "Surface":
        """The surface of a system of the adversary's own, with `client` in place of the device's.

        It runs on the adversary's machine, behind the defense as far as that is known: all is
        granted there, and nothing that is asked there counts as a query.
        """
        split = replace(self._deployment.split, client=client)
        return Surface(
            replace(self._deployment, split=split, shared=None),
            replace(self.threat, client="weights", query_budget=None),
            feed=self._feed,
            classes=self.classes,
            image_shape=self.image_shape,
            seed=self._seed,
            purpose=f"{self._purpose} simulated",
        )

    def simulate(self, features: Tensors) -> Release:
        """What would be released if these were the features, with fresh randomness.

        Without gradients: the codec has none.
        """
        return self._deployment.message(
            features, generator=self._generator, observations=self.threat.observations
        )

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
