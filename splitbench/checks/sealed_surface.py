"""A surface that notes who goes around it."""

import inspect
from typing import Any

from torch import nn

from splitbench.threat import Surface

OWN = ("splitbench.threat", "splitbench.questions", __name__)  # where its methods are written
COPYING = (*OWN, "copy")  # a copy is as well sealed as what it was made of


class Sealed(Surface):
    """Works as any surface does, and notes what others take of it beside its public names.

    Attributes:
        touched: Names that were read or written from outside, each with what was done.
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:
        self.touched: list[str] = []
        super().__init__(*args, **keywords)

    def __getattribute__(self, name: str) -> Any:
        hidden = name.startswith("_") and not name.startswith("__")
        if (hidden and _caller() not in OWN) or (name == "__dict__" and _caller() not in COPYING):
            self.touched.append(f"read surface.{name}")
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: object) -> None:
        if _caller() not in OWN:
            self.touched.append(f"wrote surface.{name}")
        super().__setattr__(name, value)

    def simulated(self, client: nn.Module) -> Surface:
        """As of any surface, and sealed as this one is."""
        made = super().simulated(client)
        vars(made)["touched"] = self.touched
        made.__class__ = Sealed
        return made


def _caller() -> str:
    """Name of the module whose code asked for the attribute."""
    frame = inspect.currentframe()
    for _ in range(2):  # this function, then the method that asks
        frame = frame.f_back if frame else None
    return str(frame.f_globals.get("__name__", "")) if frame else ""
