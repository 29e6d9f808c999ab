"""What an adversary without queries works with: a client without memory, and others' traffic."""

import copy

import torch
from torch import nn

from splitbench.data.images import LabeledImages
from splitbench.deployment import Deployment
from splitbench.pool import batches, joined
from splitbench.release import Release
from splitbench.rng import isolated
from splitbench.threat_model import ThreatModelError

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
    """Releases of other users, recorded in the order in which they came."""

    def __init__(
        self, deployment: Deployment, images: LabeledImages | None, generator: torch.Generator
    ) -> None:
        """Listen.

        Args:
            deployment: The system that they use.
            images: What they send; None where there is nobody.
            generator: Of the randomness in their releases.
        """
        self._deployment = deployment
        self._images = images
        self._generator = generator
        self._heard: list[Release] = []

    def __len__(self) -> int:
        """How many were recorded."""
        return sum(len(part) for part in self._heard)

    def first(self, count: int, *, observations: int) -> Release:
        """The first `count` releases, or all if there are fewer."""
        if self._images is None:
            raise ThreatModelError("this surface was opened without traffic of other users")
        for images in batches(self._images.images(slice(len(self), max(count, len(self))))):
            self._heard.append(
                self._deployment.release(
                    images, generator=self._generator, observations=observations
                )
            )
        return joined(self._heard, self._deployment)[slice(count)]
