"""A client that notes who gets hold of it, on whatever way."""

import inspect
from typing import Any

from splitbench.checks.attack_world import ToyClient

PASSING = ("torch", "copy")  # they act for whoever called them


class SealedClient(ToyClient):
    """Computes as any toy client does, and notes when code outside the benchmark asks it for more.

    Attributes:
        touched: What was done to it from outside; a copy of the client begins a list of its own.
    """

    touched: list[str]

    @staticmethod
    def sealing(client: ToyClient) -> "SealedClient":
        """Seal a client in place."""
        client.touched = []  # type: ignore[assignment]  # a list is no module
        client.__class__ = SealedClient
        assert isinstance(client, SealedClient)
        return client

    def __getattribute__(self, name: str) -> Any:
        if not _asking().startswith("splitbench."):
            object.__getattribute__(self, "touched").append("got hold of the client")
        return super().__getattribute__(name)


def _asking() -> str:
    """Name of the module that is behind the access."""
    frame, name = inspect.currentframe(), __name__
    while frame and (name == __name__ or name.partition(".")[0] in PASSING):
        frame = frame.f_back
        name = str(frame.f_globals.get("__name__", "")) if frame else ""
    return name
