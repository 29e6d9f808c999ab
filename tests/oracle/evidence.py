"""What real attacks on worlds of a known law leave for the leaderboard."""

import dataclasses

import numpy as np
from torch import Tensor
from worlds import World

from attacks.constant_color import ConstantColor
from attacks.mean_image import MeanImage
from experiments.judge import traits
from splitbench.leaderboard import Evidence
from splitbench.leakage import leakage
from splitbench.metrics.mean_squared_error import MeanSquaredError
from splitbench.null_channel import other_targets
from splitbench.record import Interval, Scores
from splitbench.statistics import Array, Resampler
from tests.unit.records import SETTINGS, cells

FLOORS = {"constant_color/mse": ConstantColor, "mean_image/mse": MeanImage}
((TEMPLATE, _),) = cells(settings=SETTINGS[:1], cuts=("relu3",), attacks=("ridge",))


def judged(world: World, guess: Tensor, *, attack: str, depth: int = 1) -> Evidence:
    """The record of guesses of all targets of a world.

    Args:
        world: What was attacked.
        guess: Images ``(n, 1, 4, 4)``.
        attack: Its name.
        depth: Where the model was cut.
    """
    other, deployment = other_targets(len(guess)), world.deployment
    blind = {name: world.guess(kind()) for name, kind in FLOORS.items()}
    errors, floors = mse(guess, world.targets), mse_of(blind, world.targets)
    null = {"mse": guess, **blind}
    best = np.stack([*floors.values()], axis=1)
    leak = leakage(errors, best, resampler=Resampler(resamples=200))
    record = dataclasses.replace(
        TEMPLATE,
        cell_id=f"{attack} at {depth} behind {deployment.defense!r}",
        targets=len(guess),
        cell=dataclasses.replace(
            TEMPLATE.cell,
            attack=attack,
            attack_name=attack,
            cut=f"layer {depth}",
            cut_index=depth,
            defense=repr(deployment.defense),
            codec=repr(deployment.codec),
            defense_name=type(deployment.defense).__name__,
        ),
        leakage={"L": Interval(mean=leak.mean, low=leak.low, high=leak.high, n=leak.n)},
        traits=traits(deployment.defense, deployment.codec),
    )
    pixels = np.zeros((1, *guess.shape[1:]), np.uint8)
    scores = Scores({"mse": errors}, floors, pixels, pixels, mse_of(null, world.targets[other]))
    return Evidence(record, scores)


def mse(guess: Tensor, truth: Tensor) -> Array:
    return MeanSquaredError()(guess, truth).numpy()


def mse_of(guesses: dict[str, Tensor], truth: Tensor) -> dict[str, Array]:
    return {name: mse(guess, truth) for name, guess in guesses.items()}
