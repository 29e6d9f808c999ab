"""How strong the noise of a message is beside what it says."""

import math

import torch

from splitbench.defense import Defense
from splitbench.release import Tensors

DRAWS = 16  # messages of each image, where the noise is not known in closed form


@torch.no_grad()
def snr_db(defense: Defense, features: Tensors, *, generator: torch.Generator) -> float | None:
    """Mean square of what messages say on average over the mean variance of their noise.

    Both means are over all values of all live tensors, and over the images. Exact where the
    defense knows its noise (`Defense.signal_and_noise`), else measured on repeated messages, where
    what they say is their own mean. A constant that is added to every message is noise to nobody.

    Args:
        defense: Fitted.
        features: The client's, each ``(b, *shape)``.
        generator: Of the repeated messages.

    Returns:
        In dB; None where messages have no noise, or say nothing.
    """
    if not defense.stochastic:
        return None
    known = defense.signal_and_noise(features)
    signal, noise = _measured(defense, features, generator) if known is None else _powers(*known)
    if not (signal > 0 and noise > 0):
        return None
    return 10 * math.log10(signal / noise)


def _powers(signal: Tensors, variance: Tensors) -> tuple[float, float]:
    """Mean square, and mean variance, of which each value of the signal has one."""
    pairs = list(zip(signal, variance, strict=True))
    total = sum(values.numel() for values in signal)
    square = sum(float(values.double().square().sum()) for values in signal)
    spread = sum(float(v.double().expand_as(values).sum()) for values, v in pairs)
    return square / total, spread / total


def _measured(
    defense: Defense, features: Tensors, generator: torch.Generator
) -> tuple[float, float]:
    """The same from repeated messages; the mean of few of them is corrected for its own noise."""
    drawn = [defense.protect(features, generator=generator) for _ in range(DRAWS)]
    stacks = [torch.stack(parts).double() for parts in zip(*drawn, strict=True)]
    square, noise = _powers(
        tuple(stack.mean(0) for stack in stacks), tuple(stack.var(0) for stack in stacks)
    )
    return square - noise / DRAWS, noise
