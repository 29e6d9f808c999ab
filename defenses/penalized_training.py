"""What defenses have in common that train both sides against a penalty: a piece, not a defense."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from defenses.fine_tuning import check_schedule, fine_tune
from defenses.protected_split import back_through, behind
from splitbench.data.images import LabeledImages
from splitbench.defense import Defense, OnStep, silent
from splitbench.progress import Progress
from splitbench.release import Tensors
from splitbench.split import Split


class PenalizedTraining(Defense, ABC):
    """Trains client and server on ``CE(labels) + weight * penalty(images, release)``.

    Both start from the undefended model. What is released is the retrained client's output.
    Several can be trained at once, see `train_together`. What a penalty needs beside the batch a
    subclass makes in `begin`, keeps up to date in `renew` and gives back in `end`.
    """

    stochastic: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    off: ClassVar[dict[str, object] | None] = {"weight": 0.0}
    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = ("weight", "up")

    def __init__(
        self, *, weight: float, finetune_epochs: int, learning_rate: float, batch_size: int
    ) -> None:
        super().__init__()
        if not 0 <= weight < float("inf"):
            raise ValueError(f"weight={weight}: must be finite and not negative; 0 is off")
        check_schedule(
            finetune_epochs=finetune_epochs, learning_rate=learning_rate, batch_size=batch_size
        )
        self.weight = weight
        self.finetune_epochs = finetune_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size

    @property
    def changes_client(self) -> bool:
        """Unless it is off."""
        return self.weight > 0 and self.finetune_epochs > 0

    @property
    def joins(self) -> bool:
        """Whether it can be trained with others: not if its training has stages of its own."""
        return type(self).fit is PenalizedTraining.fit

    def begin(self, split: Split, train: LabeledImages, *, generator: torch.Generator) -> None:
        """Get ready before the first step; also where it is off.

        Args:
            split: What it stands behind, untrained; the same modules are then trained.
            train: The train role.
            generator: Of whatever is drawn.
        """
        del split, train, generator

    @abstractmethod
    def penalty(
        self, images: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"], released: Tensors
    ) -> Float[Tensor, ""]:
        """How much the release tells, differentiable in what is released.

        Asked once in every step of the training, and only there.
        """

    def renew(self, split: Split, train: LabeledImages, *, generator: torch.Generator) -> None:
        """Follow the client after every epoch, the last one included; arguments as of `begin`."""
        del split, train, generator

    def end(self) -> None:
        """Let go of what only the training needed."""

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Train both sides; nothing at weight 0."""
        train_together([self], split, train, generator=generator, on_step=on_step)

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Return the features: it is the client that was trained."""
        del generator
        return features


def train_together(
    members: Sequence[PenalizedTraining],
    split: Split,
    train: LabeledImages,
    *,
    generator: torch.Generator,
    on_step: OnStep = silent,
) -> None:
    """Train both sides against all penalties at once, from one start, in one loop.

    Every step descends on ``CE(labels) + sum of weight * penalty``. The cross-entropy is of what
    the last member releases. Each penalty sees what its member releases, and thus the noise of
    those before it, as if it were fitted in its place alone. A member that is off adds no penalty
    to the sum; if it has noise, the others are trained under that.

    Args:
        members: In the order in which they protect, with one schedule (`check_one_schedule`).
        split: Trained in place; nothing happens to it if all members are off.
        train: The train role.
        generator: Of batches and of all that is drawn.
        on_step: Called after each step.
    """
    views = [behind(split, members[:i], generator) for i in range(len(members))]
    for member, view in zip(members, views, strict=True):
        member.begin(view, train, generator=generator)
    against = [member for member in members if member.changes_client]
    if against:
        _descend(members, against[0], views, train, generator, on_step)
    for member in members:
        member.end()


def check_one_schedule(members: Mapping[str, PenalizedTraining]) -> None:
    """Refuse members that cannot be trained together; those that are off have no say.

    Raises:
        ValueError: Their epochs, step sizes or batch sizes differ.
    """
    trained = {name: member for name, member in members.items() if member.changes_client}
    for keyword in ("finetune_epochs", "learning_rate", "batch_size"):
        values = {name: getattr(member, keyword) for name, member in trained.items()}
        if len(set(values.values())) > 1:
            told = ", ".join(f"'{name}' has {keyword}={value}" for name, value in values.items())
            raise ValueError(
                f"members: {told}; they are trained together, in one loop: give them the same"
            )


def _descend(
    members: Sequence[PenalizedTraining],
    schedule: PenalizedTraining,
    views: Sequence[Split],
    train: LabeledImages,
    generator: torch.Generator,
    on_step: OnStep,
) -> None:
    """The loop of `train_together`; the first view is the bare split."""
    split = views[0]
    steps = math.ceil(len(train) / schedule.batch_size)

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        releases = _releases(members, tuple(split.client(images)), generator)
        logits = split.server(back_through(members, releases[-1]))
        total = functional.cross_entropy(logits, labels)
        for member, released in zip(members, releases, strict=True):
            if member.changes_client:
                total = total + member.weight * member.penalty(images, labels, released)
        return total

    def told(progress: Progress) -> None:
        on_step(progress)
        if progress.step % steps == 0:  # an epoch is over
            for member, view in zip(members, views, strict=True):
                member.renew(view, train, generator=generator)

    fine_tune(
        [split.client, split.server],
        loss,
        train,
        epochs=schedule.finetune_epochs,
        learning_rate=schedule.learning_rate,
        batch_size=schedule.batch_size,
        generator=generator,
        on_step=told,
    )


def _releases(
    members: Sequence[PenalizedTraining], features: Tensors, generator: torch.Generator
) -> list[Tensors]:
    """What each member releases of what the one before it does."""
    released = accumulate(
        members, lambda sent, member: member.protect(sent, generator=generator), initial=features
    )
    return list(released)[1:]
