"""One cut under attack: what the target images release there."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from splitbench.attack import Attack
from splitbench.deployment import Deployment
from splitbench.release import Release
from splitbench.rng import stream
from splitbench.threat import Surface

PART = 1000  # target images that are released at a time: bounds memory, however many there are


@dataclass
class Target:
    """Images and the system that releases them, as real bytes, in parts.

    The same bytes come at every call. Only the last part is remembered, so that memory does not
    grow with the number of targets; up to `PART` images are released once.

    Attributes:
        key: Names everything up to the release: data, model, cut, defense, codec, seed.
        deployment: The fitted split system.
        images: Under attack, ``(n, c, h, w)`` in [0, 1].
        seed: Of the victim's randomness.
        names: Of its streams.
        observations: Releases of each image that the adversary collects.
    """

    key: str
    deployment: Deployment
    images: Tensor
    seed: int
    names: tuple[str, ...]
    observations: int = 1
    _last: dict[str, tuple[int, Release]] = field(default_factory=dict, repr=False)

    def parts(self, count: int | None = None) -> Iterator[Release]:
        """What the adversary sees of the first `count` targets (of all), part by part."""
        return self._released("", self.observations, count)

    def single(self) -> Iterator[Release]:
        """One release of each target, part by part: what the server computes the task from."""
        if self.observations == 1:
            return self.parts()
        return self._released("once", 1, None)

    def guessed_by(self, attack: Attack, surface: Surface, *, generator: torch.Generator) -> Tensor:
        """An attack's guesses for the targets that it takes on, ``(k, c, h, w)``."""
        parts = self.parts(attack.max_targets)
        return torch.cat([attack(part, surface, generator=generator) for part in parts])

    def logits(self) -> Tensor:
        """What users are told about all targets, by server or device, ``(n, classes)``."""
        parts = zip(self.images.split(PART), self.single(), strict=True)
        return torch.cat([self.deployment.answer(images, part) for images, part in parts])

    def outcomes(self) -> Tensor:
        """What the server makes of each target, int64 ``(n,)``; see `Deployment.outcome`."""
        return torch.cat([self.deployment.outcome(part) for part in self.single()])

    def sent(self) -> Tensor | None:
        """Of which targets a message comes, bool ``(n,)``; None where all are sent."""
        found = [part.sent for part in self.single()]
        known = [sent for sent in found if sent is not None]
        return torch.cat(known) if known else None

    def left(self) -> Tensor | None:
        """By which exit of the device each target leaves, int64 ``(n,)``; see `Deployment.left`."""
        found = [self.deployment.left(images) for images in self.images.split(PART)]
        known = [left for left in found if left is not None]
        return torch.cat(known) if known else None

    def payload_bytes(self) -> Tensor:
        """Length of the message of each target, int64 ``(n,)``."""
        lengths = [part.payload_bytes for part in self.single()]
        return torch.cat([length for length in lengths if length is not None])

    def _released(self, purpose: str, observations: int, count: int | None) -> Iterator[Release]:
        total = len(self.images) if count is None else min(count, len(self.images))
        for start in range(0, total, PART):
            known, part = self._last.get(purpose, (-1, None))
            if part is None or known != start:
                part = self._transmit(purpose, observations, start)
                self._last[purpose] = start, part
            yield part[slice(0, total - start)]

    def _transmit(self, purpose: str, observations: int, start: int) -> Release:
        words = [*self.names, *([purpose] if purpose else []), *([str(start)] if start else [])]
        return self.deployment.transmit(
            self.images[start : start + PART],
            generator=stream(self.seed, *words),
            observations=observations,
        )
