"""Cutting a model in two: where it can be done, and the client and server that result."""

from splitbench.split.cuts import Cut, CutError, Cuttable, Granularity, Split, Taps, cuts, split
from splitbench.split.stages import Stages
from splitbench.split.trace import UntraceableError
from splitbench.split.walk import stops, walk

__all__ = [
    "Cut",
    "CutError",
    "Cuttable",
    "Granularity",
    "Split",
    "Stages",
    "Taps",
    "UntraceableError",
    "cuts",
    "split",
    "stops",
    "walk",
]
