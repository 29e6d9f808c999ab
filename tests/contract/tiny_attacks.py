"""Settings at which each attack takes a fraction of a second on the toy world.

A class without a row is tested with its defaults. Each row is one set of keywords; several where
what an attack needs depends on them.
"""

from typing import Any

from attacks.deep_image_prior import DeepImagePrior
from attacks.gradient_free_search import GradientFreeSearch
from attacks.inverse_network import InverseNetwork
from attacks.key_recovery import KeyRecovery
from attacks.learned_retrieval import LearnedRetrieval
from attacks.likelihood_maximization import LikelihoodMaximization
from attacks.likelihood_selection import LikelihoodSelection
from attacks.mean_image import MeanImage
from attacks.nearest_neighbor import NearestNeighbor
from attacks.perceptual_network import PerceptualNetwork
from attacks.priors.total_variation import TotalVariation
from attacks.ridge import Ridge
from attacks.shadow_client import ShadowClient
from attacks.shuffled_pairs import ShuffledPairs
from attacks.stacked_combination import StackedCombination
from attacks.transformer_decoder import TransformerDecoder
from attacks.transposed_network import TransposedNetwork
from splitbench.attack import Attack

DECODER = {"width": 16, "blocks": 1, "heads": 2, "patch": 4, "steps": 20, "batch_size": 16}
METRIC = {"components": 16, "steps": 40, "batch_size": 16, "learning_rate": 0.1}
UNTRAINED = {"width": 8, "scales": 1, "steps": 30, "learning_rate": 0.05}
TRANSFORMER = {"width": 16, "layers": 1, "heads": 2, "patch": 4, "steps": 30, "batch_size": 16}
TRANSPOSED = {"width": 16, "steps": 40, "batch_size": 16, "learning_rate": 0.03}
SMOOTH = TotalVariation()
START = Ridge(penalties=(1000.0,))  # can be improved

TINY: dict[type[Attack], list[dict[str, Any]]] = {
    DeepImagePrior: [UNTRAINED],
    InverseNetwork: [DECODER],
    KeyRecovery: [{"decoder": NearestNeighbor(neighbors=3)}],
    LearnedRetrieval: [METRIC],
    PerceptualNetwork: [DECODER],
    ShuffledPairs: [DECODER],
    GradientFreeSearch: [{"components": 4, "generations": 25}],
    ShadowClient: [
        {
            "decoder": InverseNetwork(**DECODER),
            "steps": 100,
            "batch_size": 32,
            "learning_rate": 0.03,
            "observed": 200,
            "weight": 1.0,
            "noise": 0.05,
        }
    ],
    TransformerDecoder: [TRANSFORMER],
    TransposedNetwork: [TRANSPOSED],
    LikelihoodMaximization: [
        {"steps": 20, "weights": (0.01, 1e4), "prior": SMOOTH},
        {
            "steps": 20,
            "weights": (0.01, 1e4),
            "prior": SMOOTH,
            "warm_start": START,
            "restart": True,
        },
    ],
    LikelihoodSelection: [
        {"members": {"retrieval": NearestNeighbor(neighbors=3), "mean": MeanImage()}}
    ],
    StackedCombination: [
        {"members": {"retrieval": NearestNeighbor(neighbors=3), "mean": MeanImage()}}
    ],
}

# Other values for keywords where `check_every_knob_matters` cannot make one up.
OTHERS: dict[type[Attack], dict[str, Any]] = {
    DeepImagePrior: {"max_targets": 3},
    LikelihoodMaximization: {
        "weights": (1.0,),
        "refinements": 0,
        "warm_start": Ridge(),
        "max_targets": 3,
    },
    GradientFreeSearch: {"population": 5, "max_targets": 3},
    KeyRecovery: {"decoder": Ridge()},
    NearestNeighbor: {"neighbors": 5},
    Ridge: {"penalties": (0.1,)},
    LikelihoodSelection: {"members": {"ridge": Ridge()}},
    StackedCombination: {"members": {"ridge": Ridge()}},
    ShadowClient: {"decoder": InverseNetwork(**{**DECODER, "steps": 19})},
    LearnedRetrieval: {"neighbors": 5},
}

# Keywords that do not change guesses, with the reason why they are there.
IDLE: dict[type[Attack], dict[str, str]] = {
    GradientFreeSearch: {"max_targets": "the runner hands over no more targets than this"},
    DeepImagePrior: {"max_targets": "the runner hands over no more targets than this"},
    KeyRecovery: dict.fromkeys(
        ("observed", "simulated", "components"), "the toy world has no key to recover"
    ),
    LikelihoodMaximization: {"max_targets": "the runner hands over no more targets than this"},
    LearnedRetrieval: {"draws": "the toy world's release is not random"},
    NearestNeighbor: {"draws": "the toy world's release is not random"},
}
