"""What an adversary may ask the device and take from its own data, granted and counted."""

from collections.abc import Iterator

import torch
from torch import Tensor

from splitbench.answers import BATCH, batches, joined
from splitbench.data.images import LabeledImages
from splitbench.deployment import Deployment
from splitbench.feed import Feed
from splitbench.pool import NOTHING, Pool, Spent
from splitbench.release import Release
from splitbench.rng import stream
from splitbench.threat_model import Access, ThreatModel, ThreatModelError


class Questions:
    """The part of a `Surface` that grants, counts and remembers.

    Every access is checked against the threat model and remembered in `used`; every image that
    is sent through the client is counted in `queries`, and those that the query budget does not
    allow, which are never sent, in `refused`.
    """

    def __init__(
        self,
        deployment: Deployment,
        threat: ThreatModel,
        *,
        feed: Feed | None,
        image_shape: tuple[int, int, int],
        seed: int,
        purpose: str = "simulation",
        spent: Spent = NOTHING,
        pool: Pool | None = None,
        held: Deployment | None = None,
    ) -> None:
        """Open it; the arguments are those of `Surface`."""
        self.threat = threat
        self.image_shape = image_shape
        self.used: frozenset[Access] = frozenset()
        self.queries = 0
        self.refused = 0
        self._pooled = spent.pooled
        self._before = spent.queries
        self._pool = pool
        self._real = deployment
        self._held = held or deployment.held_by(threat, seed=seed)
        self._deployment = self._held if threat.defense == "known" else self._held.undefended()
        self._feed = feed
        self._seed, self._purpose = seed, purpose
        self._generator = stream(seed, "adversary", purpose, deployment.split.cut.name)

    @property
    def auxiliary(self) -> LabeledImages:
        """The part of the adversary's data that it trains on. Needs ``Access.AUXILIARY``."""
        return self._data().train

    @property
    def validation(self) -> LabeledImages:
        """The part of the adversary's data that it holds out. Needs ``Access.AUXILIARY``."""
        return self._data().validation

    def query(self, images: Tensor) -> Release:
        """Send images through the client and its defense, with fresh randomness.

        Under ``defense: hidden`` the adversary simulates the undefended client instead, and under
        ``key: secret`` it asks a device of its own, with another key than the targets'.

        Raises:
            ThreatModelError: No query access, or the budget is used up.
        """
        self._grant(Access.QUERY)
        self._pay(len(images))
        return self._deployment.release(
            images, generator=self._generator, observations=self.threat.observations
        )

    def transmit(self, images: Tensor) -> Release:
        """As `query`, with real bytes: slower, but the release knows the length of its messages."""
        self._grant(Access.QUERY)
        self._pay(len(images))
        return self._deployment.transmit(
            images, generator=self._generator, observations=self.threat.observations
        )

    @property
    def spent(self) -> Spent:
        """By this adversary so far, here and through other surfaces."""
        return Spent(queries=self._before + self.queries, pooled=self._pooled)

    @property
    def remaining(self) -> int | None:
        """Images that may still be queried; None where there is no limit."""
        budget = self.threat.query_budget
        return None if budget is None else max(0, budget - self.spent.queries)

    @property
    def pair_batches(self) -> int:
        """How many batches `pairs` yields, if it is asked for all of them."""
        limited = self.threat.query_budget is not None
        return -(-(self._bought().originals if limited else len(self.auxiliary)) // BATCH)

    def pairs(self, count: int | None = None) -> Iterator[tuple[Tensor, Release]]:
        """Yield the first `count` training images with their releases, in batches of 256.

        Each image comes once, as it is and not mirrored, whatever the access: under a budget as
        the pool bought it, else queried afresh. So who may ask more is given no less to learn
        from. For closed forms and retrieval mirrors are no gain in general: they add to what
        these find in wide releases and take from it in narrow ones.
        """
        if self.threat.query_budget is None:
            yield from self._fresh(self._data().train, count)
            return
        pool = self._bought()
        for index in batches(torch.arange(pool.originals)[:count]):
            yield pool.train(index)

    def validation_pairs(self, count: int | None = None) -> tuple[Tensor, Release]:
        """The first `count` held-out images with their releases, as `pairs`; possibly none."""
        if self.threat.query_budget is not None:
            return self._bought().validation(count)
        parts = list(self._fresh(self._data().validation, count))
        images = [part for part, _ in parts] or [torch.empty(0, *self.image_shape)]
        releases = [release for _, release in parts]
        return torch.cat(images), joined(releases, self._deployment, self.threat.observations)

    def examples(
        self, batch_size: int, steps: int, *, mirrored: bool = True
    ) -> Iterator[tuple[Tensor, Release]]:
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
            images = feed.batch(batch_size, step, mirrored=mirrored)
            yield images, self.query(images)

    def labelled_pairs(self, values: Tensor) -> Iterator[tuple[Tensor, Release]]:
        """All `pairs`, with what is known about each image in place of the image.

        Args:
            values: One for each image of `auxiliary`, ``(n, ...)``.
        """
        place = 0
        for images, release in self.pairs():
            yield values[place : place + len(images)], release
            place += len(images)

    def labelled_examples(
        self, values: Tensor, batch_size: int, steps: int, *, mirrored: bool = True
    ) -> Iterator[tuple[Tensor, Release]]:
        """As `examples`, with what is known about each image in place of the image.

        Args:
            values: One for each image of `auxiliary`, ``(n, ...)``.
            batch_size: Images per batch.
            steps: Batches.
            mirrored: Mirror half of the images; not where a mirror changes the value. Under a
                budget the pairs are as they were bought.
        """
        feed = self._data()
        for step, (_, release) in enumerate(self.examples(batch_size, steps, mirrored=mirrored)):
            limited = self.threat.query_budget is not None
            count = self._bought().trained if limited else len(feed.train)
            yield values[feed.shuffled(count, batch_size, step) % len(feed.train)], release

    def _fresh(self, data: LabeledImages, count: int | None) -> Iterator[tuple[Tensor, Release]]:
        for images in batches(data.images(slice(count))):
            yield images, self.query(images)

    def _bought(self) -> Pool:
        """The pool, paid for when this adversary first asks for it."""
        self._grant(Access.QUERY)
        feed, budget = self._data(), self.threat.query_budget or 0
        if self._pool is None:
            self._pool = Pool.of(self._real, self.threat, feed, seed=self._seed)
        if not self._pool.trained:
            raise ThreatModelError(f"a query budget of {budget} images buys no pair to learn from")
        if not self._pooled:
            self._pay(len(self._pool))
            self._pooled = len(self._pool)
        self._pool.send()
        return self._pool

    def _pay(self, images: int) -> None:
        budget = self.threat.query_budget
        if budget is not None and self.spent.queries + images > budget:
            self.refused += images
            raise ThreatModelError(f"the query budget of {budget} images is used up")
        self.queries += images

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
