"""Gradient descent on parts of a split: what defenses train with, not a defense itself."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from splitbench.data.images import LabeledImages
from splitbench.defense import OnStep, silent
from splitbench.progress import Progress
from splitbench.release import Tensors
from splitbench.split import Split


def check_schedule(*, finetune_epochs: int, learning_rate: float, batch_size: int) -> None:
    """Refuse keywords of a defense with which `fine_tune` could not run.

    Raises:
        ValueError: Negative epochs, or a step size or batch size that is not positive.
    """
    if finetune_epochs < 0:
        raise ValueError(f"finetune_epochs={finetune_epochs}: must not be negative; 0 is off")
    if not learning_rate > 0:
        raise ValueError(f"learning_rate={learning_rate}: must be positive")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: must be at least 1")


def steps_of(train: LabeledImages, *, epochs: int, batch_size: int) -> int:
    """Steps that `fine_tune` takes."""
    return epochs * math.ceil(len(train) / batch_size)


def fine_tune(
    modules: Sequence[nn.Module],
    loss: Callable[[Tensor, Tensor], Tensor],
    train: LabeledImages,
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    generator: torch.Generator,
    on_step: OnStep = silent,
) -> None:
    """Minimise a loss over all parameters of some modules, in place.

    Adam with a learning rate that falls to zero along a cosine. The modules stay in eval mode:
    batch normalisation keeps the statistics that inference will use, so that training couples no
    examples and a restored model computes what was trained; dropout, which would draw from the
    global generator, is off. Modules without parameters leave nothing to do.

    Args:
        modules: What is trained; the ``requires_grad`` flags of their parameters are restored.
        loss: Images ``(b, c, h, w)`` in [0, 1] and labels ``(b,)`` to a scalar.
        train: The train role.
        epochs: Passes over it, >= 0.
        learning_rate: First step size of Adam, > 0.
        batch_size: Images per step, > 0; the last batch of an epoch may be smaller.
        generator: Shuffles each epoch.
        on_step: Called after each step.
    """
    parameters = [p for module in modules for p in module.parameters()]
    steps = steps_of(train, epochs=epochs, batch_size=batch_size)
    if not parameters or steps == 0:
        return
    for module in modules:
        module.eval()
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    with trainable(parameters):
        batches = _batches(train, epochs, batch_size, parameters[0].device, generator)
        for step, (images, labels) in enumerate(batches, start=1):
            value = loss(images, labels)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
            on_step(Progress(step, steps, float(value.detach())))


def fine_tune_server(
    split: Split,
    train: LabeledImages,
    *,
    receive: Callable[[Tensors], Tensors],
    epochs: int,
    learning_rate: float,
    batch_size: int,
    generator: torch.Generator,
    on_step: OnStep = silent,
) -> None:
    """Train the server, by cross-entropy, on what it will receive; the client stays as it is.

    Args:
        split: Its server is changed in place.
        train: The train role.
        receive: Features of the frozen client to what arrives at the server, drawn afresh for
            every batch.
        epochs: See `fine_tune`, as for all that follow.
        learning_rate: See `fine_tune`.
        batch_size: See `fine_tune`.
        generator: See `fine_tune`.
        on_step: See `fine_tune`.
    """

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            received = receive(tuple(split.client(images)))
        return functional.cross_entropy(split.server(received), labels)

    fine_tune(
        [split.server],
        loss,
        train,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        generator=generator,
        on_step=on_step,
    )


@contextmanager
def trainable(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Let gradients reach these parameters for a while; leave none behind."""
    flags = [p.requires_grad for p in parameters]
    for p in parameters:
        p.requires_grad_(True)
    try:
        yield
    finally:
        for p, flag in zip(parameters, flags, strict=True):
            p.requires_grad_(flag)
            p.grad = None


def _batches(
    train: LabeledImages,
    epochs: int,
    batch_size: int,
    device: torch.device,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    for _ in range(epochs):
        for index in torch.randperm(len(train), generator=generator).split(batch_size):
            yield train.images(index).to(device), train.labels[index].to(device)
