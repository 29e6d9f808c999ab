"""What an adversary with few queries asks: a fixed set of images, each sent once, remembered."""

from collections.abc import Iterable
from functools import cached_property

import torch
from torch import Tensor

from splitbench.deployment import Deployment
from splitbench.feed import Feed
from splitbench.release import Release

BATCH = 256  # images sent at once
FREE = 10  # queries that no pool uses: an attack may ask about images of its own making
HELD_OUT = 0.1  # share of the budget that is spent on validation images


class Pool:
    """Pairs of auxiliary images and their releases, as a query budget buys them.

    The images are the first so many in the feed's order, a tenth of them held out: the pool of a
    smaller budget is a part of the pool of a larger one. Where the budget is larger than the data,
    all images are sent again, mirrored (if the feed mirrors at all); and, where the release is
    random, over and over for fresh randomness. The pairs are kept in memory.

    Attributes:
        trained: How many training images are sent.
        held_out: How many validation images.
    """

    def __init__(
        self,
        deployment: Deployment,
        feed: Feed,
        *,
        budget: int,
        observations: int,
        generator: torch.Generator,
    ) -> None:
        """Choose the images; they are sent when the first answer is wanted.

        Args:
            deployment: The system that answers, as the adversary knows it.
            feed: The adversary's data.
            budget: Images that may be sent.
            observations: Releases of each image that are pooled into one.
            generator: Of the randomness in the answers.
        """
        self._deployment = deployment
        self._feed = feed
        self._observations = observations
        self._generator = generator
        spendable = max(0, budget - FREE)
        self.held_out = min(int(HELD_OUT * budget), spendable, len(feed.validation))
        self.trained = spendable - self.held_out
        if not deployment.defense.stochastic:  # to ask the same twice would teach nothing
            self.trained = min(self.trained, len(feed.train) * feed.views)

    def __len__(self) -> int:
        """Images that are sent."""
        return self.trained + self.held_out

    def train(self, index: Tensor) -> tuple[Tensor, Release]:
        """Training pairs by number, see `Feed.numbered`."""
        return self._feed.numbered(index), self._answers[0][index]

    def validation(self, index: Tensor | slice) -> tuple[Tensor, Release]:
        """Held-out pairs by number."""
        return self._feed.validation.images(slice(self.held_out))[index], self._answers[1][index]

    def batch(self, batch_size: int, step: int) -> tuple[Tensor, Release]:
        """Training pairs of one batch, shuffled anew in each epoch."""
        return self.train(self._feed.shuffled(self.trained, batch_size, step))

    @cached_property
    def _answers(self) -> tuple[Release, Release]:
        numbers = batches(torch.arange(self.trained))
        held_out = batches(self._feed.validation.images(slice(self.held_out)))
        return (
            self._ask(self._feed.numbered(part) for part in numbers),
            self._ask(part for part in held_out),
        )

    def _ask(self, parts: Iterable[Tensor]) -> Release:
        answers = [
            self._deployment.release(
                part, generator=self._generator, observations=self._observations
            )
            for part in parts
        ]
        return joined(answers, self._deployment)


def batches(values: Tensor) -> tuple[Tensor, ...]:
    """Parts of at most 256; none where there is nothing."""
    return values.split(BATCH) if len(values) else ()


def joined(parts: list[Release], deployment: Deployment) -> Release:
    """All releases in one, which is empty where there are no parts."""
    if parts:
        return Release.concatenate(parts)
    return Release(tuple(torch.zeros(0, *spec.shape) for spec in deployment.specs))
