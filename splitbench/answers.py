"""Releases that were asked for once and are remembered."""

from collections.abc import Callable

import torch
from torch import Tensor

from splitbench.deployment import Deployment
from splitbench.release import Release
from splitbench.rng import stream

BATCH = 256  # images sent at once


class Answers:
    """Releases of numbered images, each sent once, when it is first wanted.

    The randomness of a release belongs to its number: it does not depend on how many are asked
    for, in which order, or in how many parts. To that end it is drawn for a whole block of 256
    messages, of which only those that are wanted are sent.
    """

    def __init__(
        self,
        deployment: Deployment,
        images: Callable[[Tensor], Tensor],
        *,
        observations: int,
        seed: int,
        name: str,
    ) -> None:
        """Remember nothing yet.

        Args:
            deployment: The system that answers.
            images: Images by number: ``(k,)`` to ``(k, c, h, w)``.
            observations: Releases of each image that are pooled into one.
            seed: Of the randomness in the releases.
            name: Of the stream of that randomness, within the cut.
        """
        self._deployment = deployment
        self._images = images
        self._observations = observations
        self._seed = seed
        self._name = name
        self._known: list[Release] = []

    def __len__(self) -> int:
        """How many images were sent."""
        return sum(len(part) for part in self._known)

    def first(self, count: int) -> Release:
        """The releases of the images 0 to `count` - 1."""
        while len(self) < count:
            self._known.append(self._next(count - len(self)))
        if len(self._known) != 1:
            self._known = [joined(self._known, self._deployment, self._observations)]
        return self._known[0][slice(count)]

    def _next(self, most: int) -> Release:
        """Up to so many more, all of one block."""
        block, offset = divmod(len(self), BATCH)
        numbers = torch.arange(len(self), len(self) + min(most, BATCH - offset))
        features, told = self._deployment.seen(self._images(numbers))
        places = self._places(len(numbers), offset)
        cut = self._deployment.split.cut.name
        message = self._deployment.message(
            tuple(values[places] for values in features),
            None if told is None else told[places],
            generator=stream(self._seed, "adversary", self._name, cut, str(block)),
            observations=self._observations,
        )
        # Copied, so that the rest of the block is not kept in memory.
        kept = torch.arange(len(numbers))
        return message[kept + offset] if self._deployment.defense.stochastic else message

    def _places(self, count: int, offset: int) -> Tensor:
        """Which of so many images are in a block, a whole one where randomness depends on that."""
        if not self._deployment.defense.stochastic:
            return torch.arange(count)
        return (torch.arange(BATCH) - offset) % count


def batches(values: Tensor) -> tuple[Tensor, ...]:
    """Parts of at most 256; none where there is nothing."""
    return values.split(BATCH) if len(values) else ()


def joined(parts: list[Release], deployment: Deployment, observations: int) -> Release:
    """All releases in one, which is empty where there are no parts."""
    if parts:
        return Release.concatenate(parts)
    specs, live = deployment.visible_specs(observations), len(deployment.specs)
    nothing = [torch.zeros(0, *spec.shape) for spec in specs]
    names = [spec.name for spec in specs[live:]]
    return Release(tuple(nothing[:live]), dict(zip(names, nothing[live:], strict=True)))
