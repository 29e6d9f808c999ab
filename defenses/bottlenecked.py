"""What defenses have in common that put a narrow passage at the cut: a piece, not a defense."""

import copy
from abc import ABC

from defenses.bottleneck import NarrowingClient, WideningServer
from splitbench.defense import Defense
from splitbench.split import Split


class Bottlenecked(Defense, ABC):
    """Ends the client in a few channels and lets the server begin by restoring the shapes."""

    def __init__(self, *, channels: int, stride: int) -> None:
        super().__init__()
        at_least_one(channels=channels, stride=stride)
        self.channels = channels
        self.stride = stride

    @property
    def changes_client(self) -> bool:
        """Always."""
        return True

    @property
    def narrowed(self) -> type[NarrowingClient]:
        """The kind of client."""
        return NarrowingClient

    def adapt(self, split: Split) -> Split:
        """Put the bottleneck on the client and an adapter on the server; both are copies.

        Raises:
            ValueError: A tensor of the cut is neither image-like nor tokens nor a vector, or has
                fewer channels.
        """
        specs = split.cut.tensors
        size = {"channels": self.channels, "stride": self.stride}
        client = self.narrowed(copy.deepcopy(split.client), specs, **size)
        server = WideningServer(copy.deepcopy(split.server), specs, **size)
        return Split(split.cut, client.eval(), server.eval())


def at_least_one(**values: int) -> None:
    """Raise ValueError for keywords below 1."""
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name}={value}: must be at least 1")
