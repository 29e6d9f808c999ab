"""What an adversary without queries works with: a client without memory, and others' traffic."""

import copy

import torch
from torch import nn

from splitbench.answers import Answers
from splitbench.data.images import LabeledImages
from splitbench.deployment import Deployment
from splitbench.release import Release
from splitbench.rng import isolated

SPREAD = 0.02  # deviation of parameters whose module does not know how to initialise them


def forgotten(module: nn.Module, *, generator: torch.Generator) -> nn.Module:
    """A trainable copy in training mode, with all parameters and running statistics fresh.

    Modules initialise themselves; parameters of modules that cannot (a class token) are drawn from
    a narrow normal distribution. Constants, such as those of the normalisation of images, are part
    of the architecture and stay.
    """
    fresh = copy.deepcopy(module).requires_grad_(True).train()
    with isolated(generator), torch.no_grad():
        for part in fresh.modules():
            for parameter in part.parameters(recurse=False):
                parameter.normal_(std=SPREAD)
            for name in ("reset_parameters", "_reset_parameters"):
                if hasattr(part, name):
                    getattr(part, name)()
    return fresh


class Traffic:
    """Releases of other users, in the order in which they came."""

    def __init__(
        self,
        deployment: Deployment,
        images: LabeledImages,
        *,
        observations: int,
        seed: int,
    ) -> None:
        """Listen.

        Args:
            deployment: The system that they use.
            images: What they send.
            observations: Releases of each image that are pooled into one.
            seed: Of the randomness in their releases.
        """
        self._users = len(images)
        self._answers = Answers(
            deployment, images.images, observations=observations, seed=seed, name="traffic"
        )

    def __len__(self) -> int:
        """How many were looked at."""
        return len(self._answers)

    def first(self, count: int) -> Release:
        """The first `count` releases, or all if there are fewer."""
        return self._answers.first(min(count, self._users))
