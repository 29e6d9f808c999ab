"""What an adversary with few queries asks: a fixed set of images, each sent once, remembered."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from splitbench.answers import Answers
from splitbench.deployment import Deployment
from splitbench.feed import Feed
from splitbench.release import Release
from splitbench.threat_model import ThreatModel

FREE = 10  # queries that no pool uses: an attack may ask about images of its own making
HELD_OUT = 0.1  # share of the budget that is spent on validation images


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What an adversary has used up of its query budget.

    Attributes:
        queries: Images that it sent through the client.
        pooled: How many of these bought the pool, which is paid for once.
    """

    queries: int = 0
    pooled: int = 0

    @classmethod
    def together(cls, parts: Sequence["Spent"]) -> "Spent":
        """By all parts of one attack: they share the pool."""
        pooled = max((part.pooled for part in parts), default=0)
        others = sum(part.queries - part.pooled for part in parts)
        return cls(queries=pooled + others, pooled=pooled)


NOTHING = Spent()


class Pool:
    """Pairs of auxiliary images and their releases, as a query budget buys them.

    The images are the first so many in the feed's order, a tenth of them held out: the pool of a
    smaller budget is a part of the pool of a larger one, images and answers alike. Where the
    budget is larger than the data, all images are sent again, mirrored (if the feed mirrors at
    all); and, where the release is random, over and over for fresh randomness. The pairs are kept
    in memory.

    Attributes:
        trained: How many training images are sent.
        originals: How many of these are sent as they are and for the first time; they come first.
        held_out: How many validation images.
    """

    def __init__(
        self, deployment: Deployment, feed: Feed, *, budget: int, observations: int, seed: int
    ) -> None:
        """Choose the images; they are sent when the first answer is wanted.

        Args:
            deployment: The system that answers, as the adversary knows it.
            feed: The adversary's data.
            budget: Images that may be sent.
            observations: Releases of each image that are pooled into one.
            seed: Of the randomness in the answers.
        """
        self._feed = feed
        spendable = max(0, budget - FREE)
        self.held_out = min(int(HELD_OUT * budget), spendable, len(feed.validation))
        self.trained = spendable - self.held_out
        if not deployment.defense.stochastic:  # to ask the same twice would teach nothing
            self.trained = min(self.trained, len(feed.train) * feed.views)
        self.originals = min(self.trained, len(feed.train))
        self._train, self._validation = (
            Answers(deployment, images, observations=observations, seed=seed, name=name)
            for images, name in ((feed.numbered, "pool"), (feed.validation.images, "held out"))
        )

    @classmethod
    def of(cls, deployment: Deployment, threat: ThreatModel, feed: Feed, *, seed: int) -> "Pool":
        """What the query budget of this adversary buys; empty where there is no budget."""
        return cls(
            deployment.simulated_by(threat, seed=seed),
            feed,
            budget=threat.query_budget or 0,
            observations=threat.observations,
            seed=seed,
        )

    def __len__(self) -> int:
        """Images that are sent."""
        return self.trained + self.held_out

    def send(self) -> None:
        """Send all images, unless that was done before."""
        self._train.first(self.trained)
        self._validation.first(self.held_out)

    def train(self, index: Tensor) -> tuple[Tensor, Release]:
        """Training pairs by number, see `Feed.numbered`."""
        return self._feed.numbered(index), self._train.first(self.trained)[index]

    def validation(self, count: int | None) -> tuple[Tensor, Release]:
        """The first `count` held-out pairs, or all."""
        wanted = slice(count if count is None else min(count, self.held_out))
        release = self._validation.first(self.held_out)[wanted]
        return self._feed.validation.images(slice(len(release))), release

    def batch(self, batch_size: int, step: int) -> tuple[Tensor, Release]:
        """Training pairs of one batch, shuffled anew in each epoch."""
        return self.train(self._feed.shuffled(self.trained, batch_size, step))
