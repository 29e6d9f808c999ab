"""A split behind which defenses are already at work: what the next one is fitted on."""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from splitbench.defense import Defense
from splitbench.release import Tensors
from splitbench.split import Split


def behind(split: Split, before: Sequence[Defense], generator: torch.Generator) -> Split:
    """The split as whoever comes after some defenses sees it: itself where there are none.

    Args:
        split: Bare; its modules are shared, not copied.
        before: The defenses, in the order in which they protect.
        generator: Of their randomness.
    """
    if not before:
        return split
    client = ProtectedClient(split.client, before, generator)
    return Split(split.cut, client, RestoringServer(split.server, before))


def through(members: Sequence[Defense], features: Tensors, generator: torch.Generator) -> Tensors:
    """What the last of some defenses releases."""
    for member in members:
        features = member.protect(features, generator=generator)
    return features


def back_through(members: Sequence[Defense], tensors: Tensors) -> Tensors:
    """What the server makes of a release, the last defense undone first."""
    return reduce(lambda found, member: member.restore(found), members[::-1], tensors)


class ProtectedClient(nn.Module):
    """A client behind which some defenses are already at work.

    Args:
        client: Images to features.
        before: The defenses, in turn.
        generator: Of their randomness.
    """

    def __init__(
        self, client: nn.Module, before: Sequence[Defense], generator: torch.Generator
    ) -> None:
        super().__init__()
        self.client = client
        self.before = nn.ModuleList(before)
        self.generator = generator

    def forward(self, images: Tensor) -> Tensors:
        """Images ``(b, c, h, w)`` to what the last of them releases."""
        before = [member for member in self.before if isinstance(member, Defense)]
        return through(before, tuple(self.client(images)), self.generator)


class RestoringServer(nn.Module):
    """A server that first undoes what some defenses want undone.

    Args:
        server: Features to logits.
        before: The defenses, in the order in which they protect.
    """

    def __init__(self, server: nn.Module, before: Sequence[Defense]) -> None:
        super().__init__()
        self.server = server
        self.before = nn.ModuleList(before)

    def forward(self, tensors: Tensors) -> Tensor:
        """What is received to logits ``(b, classes)``."""
        before = [member for member in self.before if isinstance(member, Defense)]
        logits: Tensor = self.server(back_through(before, tensors))
        return logits
