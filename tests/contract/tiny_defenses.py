"""Settings at which each defense is fitted in milliseconds and every keyword matters.

A class without a row is tested with its defaults.
"""

from typing import Any

from defenses.distillation_bottleneck import DistillationBottleneck
from defenses.gaussian_noise import GaussianNoise
from defenses.laplace_noise import LaplaceNoise
from defenses.quantization import Quantization
from splitbench.defense import Defense

TINY: dict[type[Defense], list[dict[str, Any]]] = {
    GaussianNoise: [{"noise_std": 0.5, "finetune_epochs": 1}],
    LaplaceNoise: [{"noise_std": 0.5, "finetune_epochs": 1}],
    Quantization: [
        {"bits": 6, "finetune_epochs": 1},
        {"bits": 6, "finetune_epochs": 1, "trains": "both"},
    ],
    DistillationBottleneck: [{"channels": 2, "stride": 2, "epochs": 1, "beta": 1.0}],
}
