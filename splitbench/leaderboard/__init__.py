"""Records to rows: pure, in a fixed order, the same rows for the same records in any order.

A row is one defended system under one adversary: (data, model, cut, defense, codec, threat). Its
leakage is that of the best single attack, raised to that of every other release that the
adversary could have computed from this one (`simulable`). A board holds the rows that may be
compared: one protocol, one model, the very same images.
"""

from splitbench.leaderboard.board import UNRANKED, Board, boards
from splitbench.leaderboard.evidence import Evidence, LeaderboardError
from splitbench.leaderboard.operating import DROPS, Family, families
from splitbench.leaderboard.rows import (
    COSTS,
    QUALITY,
    RECOGNITION,
    Entry,
    Exit,
    Inferred,
    Lead,
    Quality,
    Recognition,
    Row,
)

__all__ = [
    "COSTS",
    "DROPS",
    "QUALITY",
    "RECOGNITION",
    "UNRANKED",
    "Board",
    "Entry",
    "Evidence",
    "Exit",
    "Family",
    "Inferred",
    "Lead",
    "LeaderboardError",
    "Quality",
    "Recognition",
    "Row",
    "boards",
    "families",
]
