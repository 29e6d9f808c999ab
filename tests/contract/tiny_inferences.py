"""Settings at which each inference runs in milliseconds on the toy world.

The secret of the toy world has a left and a right, so mirrored images would be lies.
"""

from typing import Any

from attacks.length_probe import LengthProbe
from attacks.linear_probe import LinearProbe
from attacks.mlp_probe import MlpProbe
from attacks.pattern_probe import PatternProbe
from attacks.release_matching import ReleaseMatching
from splitbench.inference import Inference

TINY: dict[type[Inference], dict[str, Any]] = {
    LengthProbe: {"messages": 40},
    LinearProbe: {"penalties": (0.01, 0.0001), "iterations": 10, "draws": 2},
    MlpProbe: {
        "width": 16,
        "steps": 60,
        "batch_size": 32,
        "learning_rate": 0.01,
        "mirrored": False,
    },
    PatternProbe: {"penalties": (0.01, 0.0001), "iterations": 10, "draws": 2},
    ReleaseMatching: {
        "components": 8,
        "width": 8,
        "steps": 20,
        "batch_size": 32,
        "learning_rate": 0.003,
        "draws": 2,
    },
}
