"""Whose prices a plan is for, and when they were read."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PriceList:
    """Where the prices of a plan are from.

    Attributes:
        name: Whose they are.
        date: When they were read, ``2026-06`` or ``2026-06-30``.
        source: Where.

    Raises:
        ValueError: The date is none, or one of the others is empty.
    """

    name: str
    date: str
    source: str

    def __post_init__(self) -> None:
        try:
            day = self.date if self.date.count("-") > 1 else f"{self.date}-01"
            datetime.date.fromisoformat(day)
        except ValueError as error:
            raise ValueError(
                f"date={self.date!r}: say when the prices were read, such as 2026-06 or 2026-06-30"
            ) from error
        if not (self.name.strip() and self.source.strip()):
            raise ValueError(f"{self}: say whose prices they are, and where they were read")

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> "PriceList":
        """From what a file of the group `price` holds, prices aside.

        Raises:
            ValueError: A part is missing or none of its kind.
        """
        missing = [key for key in ("name", "date", "source") if node.get(key) is None]
        if missing:
            raise ValueError(f"says no {' and no '.join(missing)}: add them to its file")
        return cls(name=str(node["name"]), date=str(node["date"]), source=str(node["source"]))

    def __str__(self) -> str:
        """In a sentence."""
        return f"{self.name}, read {self.date} ({self.source})"
