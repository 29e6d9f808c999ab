"""The adversary's batches, equal for every cut so that one client forward serves them all."""

import torch
from torch import Tensor

from splitbench.data.images import LabeledImages
from splitbench.rng import stream


class Feed:
    """Auxiliary data, split into a training and a validation part, and served in batches.

    Batch number t depends only on the seed, t and the batch size: an attack at one cut sees the
    same images whether or not other cuts are attacked beside it. The last batch is kept, so
    attacks that advance in step are handed the very same tensor, and the client's forward on it
    is computed once (`SharedClient`).

    Args:
        images: The auxiliary role.
        seed: Of the shuffling and the augmentation.
        validation_fraction: Share held out for choices that the adversary makes, in [0, 1).
        flip: Mirror each image with probability 1/2 (before the client, so that features match).
    """

    def __init__(
        self,
        images: LabeledImages,
        *,
        seed: int,
        validation_fraction: float = 0.1,
        flip: bool = True,
    ) -> None:
        """Shuffle once and hold out the validation part."""
        order = torch.randperm(len(images), generator=stream(seed, "feed", "split"))
        held_out = int(len(images) * validation_fraction)
        self.validation = images.subset(order[:held_out])
        self.train = images.subset(order[held_out:])
        self._seed = seed
        self._flip = flip
        self._epoch: tuple[tuple[int, int], Tensor] | None = None
        self._last: tuple[tuple[int, int, bool], Tensor] | None = None

    def batch(self, batch_size: int, step: int, *, mirrored: bool = True) -> Tensor:
        """Images of one batch, float ``(batch_size, c, h, w)`` in [0, 1].

        Args:
            batch_size: Images.
            step: Number of the batch, >= 0.
            mirrored: Mirror them, if the feed does so at all; the images are the same ones.
        """
        key = (batch_size, step, mirrored)
        if self._last is None or self._last[0] != key:
            self._last = key, self._draw(batch_size, step, mirrored)
        return self._last[1]

    @property
    def views(self) -> int:
        """Different images that a training image yields: itself, and itself mirrored."""
        return 2 if self._flip else 1

    def numbered(self, numbers: Tensor) -> Tensor:
        """Training images in a fixed order without end: all of them, all mirrored, all again.

        Args:
            numbers: Places in that order, ``(k,)``, >= 0.

        Returns:
            Images ``(k, c, h, w)`` in [0, 1].
        """
        rounds = numbers.div(max(1, len(self.train)), rounding_mode="floor")
        images = self.train.images(numbers % max(1, len(self.train)))
        mirrored = rounds % self.views == 1
        return torch.where(mirrored[:, None, None, None], images.flip(-1), images)

    def shuffled(self, count: int, batch_size: int, step: int) -> Tensor:
        """Which of `count` things batch number `step` shows: each once in each epoch."""
        size = min(batch_size, count)
        epoch, place = divmod(step, count // size)
        return self._permutation(epoch, count)[place * size : (place + 1) * size]

    def _draw(self, batch_size: int, step: int, mirrored: bool) -> Tensor:
        images = self.train.images(self.shuffled(len(self.train), batch_size, step))
        size = len(images)
        if self._flip and mirrored:
            generator = stream(self._seed, "feed", "flip", str(step))
            chosen = torch.rand(size, generator=generator) < 0.5
            images = torch.where(chosen[:, None, None, None], images.flip(-1), images)
        return images

    def _permutation(self, epoch: int, count: int) -> Tensor:
        if self._epoch is None or self._epoch[0] != (epoch, count):
            generator = stream(self._seed, "feed", "epoch", str(epoch))
            self._epoch = (epoch, count), torch.randperm(count, generator=generator)
        return self._epoch[1]
