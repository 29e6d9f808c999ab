"""Settings at which each defense is fitted in milliseconds and every keyword matters.

A class without a row is tested with its defaults. The worlds that they are fitted in are kept, and
so is what was fitted, for all tests of a process.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from torch import nn

from defenses.adversarial_training import AdversarialTraining
from defenses.binarization import Binarization
from defenses.chain import Chain
from defenses.channel_pruning import ChannelPruning
from defenses.conditional_entropy import ConditionalEntropy
from defenses.distillation_bottleneck import DistillationBottleneck
from defenses.dropout import Dropout
from defenses.early_exit import EarlyExit
from defenses.entropic_student import EntropicStudent
from defenses.fisher_noise import FisherNoise
from defenses.fisher_regularization import FisherRegularization
from defenses.gaussian_noise import GaussianNoise
from defenses.laplace_noise import LaplaceNoise
from defenses.local_dp_gaussian import LocalDpGaussian
from defenses.local_dp_laplace import LocalDpLaplace
from defenses.no_peek import NoPeek
from defenses.quantization import Quantization
from defenses.resistance_transfer import ResistanceTransfer
from defenses.secret_permutation import SecretPermutation
from defenses.secret_rotation import SecretRotation
from defenses.shredder import Shredder
from defenses.stochastic_rounding import StochasticRounding
from defenses.structured_pruning import StructuredPruning
from defenses.top_k import TopK
from defenses.variational_bottleneck import VariationalBottleneck
from splitbench.checks.defense_world import DefenseWorld, defense_world
from splitbench.defense import Defense

world = cache(defense_world)
NOISE, BITS = GaussianNoise(noise_std=0.5), Quantization(bits=4)
PENALIZED: dict[str, Any] = {"finetune_epochs": 2, "batch_size": 24}

TINY: dict[type[Defense], list[dict[str, Any]]] = {
    GaussianNoise: [
        {"noise_std": 0.5, "finetune_epochs": 1},
        {"noise_std": 0.5, "finetune_epochs": 1, "trains": "both"},
    ],
    LaplaceNoise: [
        {"noise_std": 0.5, "finetune_epochs": 1},
        {"noise_std": 0.5, "finetune_epochs": 1, "trains": "both"},
    ],
    # Epsilons at which something is left of the features in 240 examples.
    LocalDpGaussian: [
        {"epsilon": 500.0, "clip": 1.0, "finetune_epochs": 1},
        {"epsilon": 100.0, "channels": 1, "stride": 2, "finetune_epochs": 1},
    ],
    LocalDpLaplace: [
        {"epsilon": 2000.0, "clip": 5.0, "finetune_epochs": 1},
        {"epsilon": 100.0, "channels": 1, "stride": 2, "finetune_epochs": 1},
    ],
    Quantization: [
        {"bits": 6, "finetune_epochs": 1},
        {"bits": 6, "finetune_epochs": 1, "trains": "both"},
    ],
    Dropout: [
        {"rate": 0.4, "finetune_epochs": 1},
        {"rate": 0.4, "finetune_epochs": 1, "per": "channel"},
    ],
    Chain: [
        {"members": {"noise": NOISE, "bits": BITS}},
        {
            "members": {
                "bottleneck": DistillationBottleneck(channels=2, epochs=1),
                "noise": NOISE,
                "bits": BITS,
            }
        },
        {"members": {"exit": EarlyExit(share=0.4), "noise": NOISE}},
        {
            "members": {
                "bottleneck": DistillationBottleneck(channels=3, epochs=1),
                "rounding": StochasticRounding(bits=3),
            }
        },
        {
            "members": {
                "no_peek": NoPeek(weight=2.0, learning_rate=0.01, **PENALIZED),
                "entropy": ConditionalEntropy(weight=0.5, learning_rate=0.01, **PENALIZED),
            }
        },
        {"members": {"private": LocalDpGaussian(epsilon=500.0, clip=1.0), "bits": BITS}},
    ],
    NoPeek: [
        {"weight": 2.0, "learning_rate": 0.01, **PENALIZED},
        {"weight": 2.0, "learning_rate": 0.01, "estimator": "squared_distance", **PENALIZED},
    ],
    ChannelPruning: [{"share": 0.4, "width": 8, "learning_rate": 0.001, **PENALIZED}],
    ConditionalEntropy: [
        {
            "weight": 0.05,
            "noise_std": 0.3,
            "components": 2,
            "threshold": 1.1,
            "finetune_epochs": 4,
            "learning_rate": 0.01,
            "batch_size": 24,
        }
    ],
    FisherNoise: [{"target_mse": 0.05, "images": 100, "probes": 4, "finetune_epochs": 1}],
    FisherRegularization: [{"weight": 0.1, "learning_rate": 0.01, **PENALIZED}],
    TopK: [{"share": 0.3, "finetune_epochs": 1}],
    StochasticRounding: [{"bits": 3, "finetune_epochs": 1}],
    SecretPermutation: [{"per": "channel"}, {"per": "position"}, {"per": "element"}],
    SecretRotation: [{"per": "channel"}, {"per": "element"}],
    # As strong and as long as it takes for the weight to show at every cut and seed.
    AdversarialTraining: [
        {
            "weight": 0.5,
            "decoders": 2,
            "lives": 1,
            "width": 8,
            "finetune_epochs": 6,
            "learning_rate": 0.01,
            "batch_size": 24,
        }
    ],
    # Of three classes all: two are too few images for the weight to show in what is left.
    ResistanceTransfer: [
        {
            "weight": 0.5,
            "source": 0.9,
            "decoders": 2,
            "lives": 1,
            "width": 8,
            "finetune_epochs": 4,
            "transfer_epochs": 1,
            "tuning_epochs": 1,
            "learning_rate": 0.01,
            "batch_size": 24,
        }
    ],
    VariationalBottleneck: [
        {"beta": 0.01, "channels": 2, "stride": 2, "learning_rate": 0.01, **PENALIZED}
    ],
    Shredder: [
        {
            "noise_std": 0.5,
            "tensors": 4,
            "noise_epochs": 1,
            "batch_size": 24,
            "rewards": "spread",
            "finetune_epochs": 1,
        }
    ],
    EarlyExit: [
        {"share": 0.3, "side": 2, "held_out": 0.3, "batch_size": 24},
        {"share": 0.3, "after": ["stem"], "side": 2, "held_out": 0.3, "batch_size": 24},
    ],
    DistillationBottleneck: [
        {"channels": 2, "stride": 2, "epochs": 1, "beta": 1.0},
        {"channels": 2, "epochs": 2, "batch_size": 24, "adversarial_weight": 1.0},
        {"channels": 2, "epochs": 2, "batch_size": 24, "nat_price": 0.01},
    ],
    StructuredPruning: [
        {"share": 0.34, **PENALIZED},
        {"share": 0.34, "layers": "all", **PENALIZED},
    ],
    EntropicStudent: [
        {"beta": 0.02, "channels": 2, "epochs": 2, "finetune_epochs": 1, "learning_rate": 0.02}
    ],
    Binarization: [
        {"per": "tensor", "finetune_epochs": 1},
        {"scale": "message", "finetune_epochs": 1, "trains": "both"},
    ],
}


class TwoConvolutions(nn.Sequential):
    """A model with a layer within the client, as the usual small one has none."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 3, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(3, 3, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(27, 3),
        )


# Where every keyword of a defense matters, if not at the first cut of the usual world.
ELSEWHERE: dict[type[Defense], Callable[[], DefenseWorld]] = {
    StructuredPruning: partial(defense_world, "3", model=TwoConvolutions)
}

# Other values for keywords where `check_every_knob_matters` cannot make one up.
OTHERS: dict[type[Defense], dict[str, Any]] = {
    Chain: {"members": {"noise": NOISE}},
    # Of eight targets none need lie between the given share and twice it.
    EarlyExit: {"share": 1.0, "after": ["mul"]},
}
