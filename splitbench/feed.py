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
        self._epoch: tuple[int, Tensor] | None = None
        self._last: tuple[tuple[int, int], Tensor] | None = None

    def batch(self, batch_size: int, step: int) -> Tensor:
        """Images of one batch, float ``(batch_size, c, h, w)`` in [0, 1]."""
        if self._last is None or self._last[0] != (batch_size, step):
            self._last = (batch_size, step), self._draw(batch_size, step)
        return self._last[1]

    def _draw(self, batch_size: int, step: int) -> Tensor:
        size = min(batch_size, len(self.train))
        per_epoch = len(self.train) // size
        epoch, place = divmod(step, per_epoch)
        index = self._permutation(epoch)[place * size : (place + 1) * size]
        images = self.train.images(index)
        if self._flip:
            generator = stream(self._seed, "feed", "flip", str(step))
            mirrored = torch.rand(size, generator=generator) < 0.5
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        return images

    def _permutation(self, epoch: int) -> Tensor:
        if self._epoch is None or self._epoch[0] != epoch:
            generator = stream(self._seed, "feed", "epoch", str(epoch))
            self._epoch = epoch, torch.randperm(len(self.train), generator=generator)
        return self._epoch[1]
