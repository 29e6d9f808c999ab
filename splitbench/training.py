"""Training of the task model: one loop, deterministic given a generator."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from splitbench.data.images import LabeledImages
from splitbench.progress import Progress
from splitbench.rng import isolated
from splitbench.statistics import Proportion, wilson

Augmentation = Literal["none", "flip", "flip+crop"]
SHORTEST = 5  # steps of a cycle; the rise of a shorter one has no length


@dataclass(frozen=True)
class TrainingReport:
    """How a training went.

    Attributes:
        epochs: Epochs run, fewer than asked for if training stopped early.
        best_epoch: The epoch, from 1, whose weights were kept.
        loss: Mean training loss of the last epoch, in nats.
        validation: Accuracy of the kept weights on the held-out part; None without one. Slightly
            optimistic, as it chose the epoch.
        seconds: Wall time; not compared.
    """

    epochs: int
    best_epoch: int
    loss: float
    validation: Proportion | None
    seconds: float = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class Training:
    """AdamW with a one-cycle learning rate, and optionally early stopping on held-out images.

    The cycle ends at a learning rate of zero, so by default nothing is held out and the last
    weights are kept: on 5,000 images of Fashion-MNIST, holding out a tenth and keeping the epoch
    with its lowest cross-entropy costs LeNet-5 one percentage point of accuracy.

    Attributes:
        epochs: Passes over the training part, >= 1.
        batch_size: Images per step, >= 2; an incomplete last batch is left out.
        learning_rate: Peak of the cycle, > 0.
        weight_decay: Decoupled, of all parameters, >= 0.
        label_smoothing: Share of the target that is spread over all classes, in [0, 1).
        augment: ``none``; ``flip``, mirrored with probability 1/2; ``flip+crop``, and shifted by up
            to an eighth of the height in each direction, black pixels moving in.
        validation_fraction: Share of the images held out, in [0, 1). The weights with the lowest
            cross-entropy on them are kept; 0 keeps the last weights.
        patience: Epochs without a lower one before training stops, >= 1; None never stops.

    Raises:
        ValueError: A value is out of its range.
    """

    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 5e-3
    weight_decay: float = 0.1
    label_smoothing: float = 0.1
    augment: Augmentation = "flip"
    validation_fraction: float = 0.0
    patience: int | None = None

    def __post_init__(self) -> None:
        ranges = {
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 2,
            "learning_rate": self.learning_rate > 0,
            "weight_decay": self.weight_decay >= 0,
            "label_smoothing": 0 <= self.label_smoothing < 1,
            "augment": self.augment in get_args(Augmentation),
            "validation_fraction": 0 <= self.validation_fraction < 1,
            "patience": self.patience is None or (self.patience >= 1 and self.validation_fraction),
        }
        for name, valid in ranges.items():
            if not valid:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is out of range; the documentation of "
                    "splitbench.training.Training has the ranges (patience needs a "
                    "validation_fraction above 0)"
                )

    @property
    def label(self) -> str:
        """How a model that was trained so is told from others: not at all."""
        return ""

    def fit(
        self,
        model: nn.Module,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: Callable[[Progress], None] | None = None,
    ) -> TrainingReport:
        """Train a classifier in place, on the device of the images, and leave it in eval mode.

        Args:
            model: Images in [0, 1] to logits ``(b, classes)``; its initial weights are the
                caller's (`splitbench.rng.isolated` seeds them).
            train: Labelled images; a part is held out.
            generator: Decides what is held out, the batches, the augmentation and dropout; the
                global generator is left as it was.
            on_step: Called after every step.

        Raises:
            ValueError: Fewer images than one batch.
            FloatingPointError: The loss became infinite or NaN.
        """
        began = time.monotonic()
        order = torch.randperm(len(train), generator=generator)
        held_out = int(len(train) * self.validation_fraction)
        if len(train) - held_out < self.batch_size:
            raise ValueError(
                f"{len(train) - held_out} images to train on are fewer than one batch of "
                f"{self.batch_size}: choose a smaller batch_size"
            )
        run = _Run(
            training=self,
            model=model.to(train.pixels.device),
            train=train.subset(order[held_out:]),
            validation=train.subset(order[:held_out]),
            generator=generator,
            on_step=on_step or (lambda _: None),
        )
        with isolated(generator):
            epochs, best, loss = run.epochs()
        model.eval()
        kept = accuracy(model, run.validation) if held_out else None
        return TrainingReport(epochs, best, loss, kept, time.monotonic() - began)


def accuracy(model: nn.Module, images: LabeledImages, *, batch_size: int = 500) -> Proportion:
    """Share of images that a model classifies right, with its 95 % Wilson interval.

    The model is evaluated in eval mode, and left in the mode it was in.

    Args:
        model: Images in [0, 1] to logits.
        images: At least one, on the model's device.
        batch_size: Images per forward pass.
    """
    right, _ = _score(model, images, batch_size)
    return wilson(right, len(images))


@dataclass
class _Run:
    """One training in progress."""

    training: Training
    model: nn.Module
    train: LabeledImages
    validation: LabeledImages
    generator: torch.Generator
    on_step: Callable[[Progress], None]
    step: int = 0

    def epochs(self) -> tuple[int, int, float]:
        """Train; returns the epochs run, the one that was kept, and the last epoch's loss."""
        settings = self.training
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=settings.learning_rate,
            total_steps=max(self._steps, SHORTEST),
            pct_start=0.25,
        )
        best_epoch, best_nats = 0, math.inf
        best: dict[str, Tensor] = {}
        for epoch in range(1, settings.epochs + 1):
            loss = self._epoch(optimizer, schedule)
            if not len(self.validation):
                best_epoch = epoch
                continue
            _, nats = _score(self.model, self.validation, 500)
            if nats < best_nats:
                best_epoch, best_nats = epoch, nats
                best = {name: value.clone() for name, value in self.model.state_dict().items()}
            if settings.patience is not None and epoch - best_epoch >= settings.patience:
                break
        if best:
            self.model.load_state_dict(best)
        return epoch, best_epoch, loss

    @property
    def _steps(self) -> int:
        return self.training.epochs * (len(self.train) // self.training.batch_size)

    def _epoch(
        self,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> float:
        self.model.train()
        size = self.training.batch_size
        order = torch.randperm(len(self.train), generator=self.generator)
        losses: list[float] = []
        for index in order[: len(order) // size * size].split(size):
            index = index.to(self.train.labels.device)
            images = augmented(self.train.images(index), self.training.augment, self.generator)
            loss = F.cross_entropy(
                self.model(images),
                self.train.labels[index],
                label_smoothing=self.training.label_smoothing,
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            self.step += 1
            if not torch.isfinite(loss):
                raise FloatingPointError(
                    f"the loss is {losses[-1]} at step {self.step}: lower the learning rate"
                )
            self.on_step(Progress(self.step, self._steps, losses[-1]))
        return sum(losses) / len(losses)


@torch.no_grad()
def _score(model: nn.Module, images: LabeledImages, batch_size: int) -> tuple[int, float]:
    """Images classified right, and the mean cross-entropy in nats."""
    was_training = model.training
    model.eval()
    right, nats = 0, 0.0
    for start in range(0, len(images), batch_size):
        chosen = slice(start, start + batch_size)
        logits, labels = model(images.images(chosen)), images.labels[chosen]
        right += int((logits.argmax(1) == labels).sum())
        nats += float(F.cross_entropy(logits, labels, reduction="sum"))
    model.train(was_training)
    return right, nats / max(len(images), 1)


def augmented(images: Tensor, kind: Augmentation, generator: torch.Generator) -> Tensor:
    """Mirror, and shift, each image ``(b, c, h, w)`` on its own, as `Training.augment` says."""
    if kind == "none":
        return images
    count, channels, height, width = images.shape
    mirrored = (torch.rand(count, generator=generator) < 0.5).to(images.device)
    images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    if kind == "flip":
        return images
    margin = max(1, height // 8)
    shift = torch.randint(2 * margin + 1, (2, count, 1), generator=generator).to(images.device)
    rows = shift[0] + torch.arange(height, device=images.device)
    columns = shift[1] + torch.arange(width, device=images.device)
    example = torch.arange(count, device=images.device)
    channel = torch.arange(channels, device=images.device)
    return F.pad(images, (margin,) * 4)[
        example[:, None, None, None],
        channel[:, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]
