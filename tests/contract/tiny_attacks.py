"""Settings at which each attack takes a fraction of a second on the toy world.

A class without a row is tested with its defaults. Each row is one set of keywords; several where
what an attack needs depends on them.
"""

from typing import Any

from attacks.gradient_free_search import GradientFreeSearch
from attacks.inverse_network import InverseNetwork
from attacks.likelihood_maximization import LikelihoodMaximization
from attacks.likelihood_selection import LikelihoodSelection
from attacks.mean_image import MeanImage
from attacks.nearest_neighbor import NearestNeighbor
from attacks.priors.total_variation import TotalVariation
from attacks.ridge import Ridge
from attacks.shadow_client import ShadowClient
from attacks.shuffled_pairs import ShuffledPairs
from attacks.stacked_combination import StackedCombination
from splitbench.attack import Attack

DECODER = {"width": 16, "blocks": 1, "heads": 2, "patch": 4, "steps": 20, "batch_size": 16}
SMOOTH = TotalVariation()
START = NearestNeighbor(neighbors=1)

TINY: dict[type[Attack], list[dict[str, Any]]] = {
    InverseNetwork: [DECODER],
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
        }
    ],
    LikelihoodMaximization: [
        {"steps": 20, "weights": (0.01,), "prior": SMOOTH},
        {
            "steps": 20,
            "weights": (0.01, 1.0),
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
    LikelihoodMaximization: {"weights": (10.0,), "warm_start": Ridge(), "max_targets": 3},
    GradientFreeSearch: {"population": 5, "max_targets": 3},
    NearestNeighbor: {"neighbors": 5},
    Ridge: {"penalties": (0.1,)},
    LikelihoodSelection: {"members": {"ridge": Ridge()}},
    StackedCombination: {"members": {"ridge": Ridge()}},
    ShadowClient: {"decoder": InverseNetwork(**{**DECODER, "steps": 19})},
}

# Keywords that do not change guesses, with the reason why they are there.
IDLE: dict[type[Attack], dict[str, str]] = {
    GradientFreeSearch: {"max_targets": "the runner hands over no more targets than this"},
    LikelihoodMaximization: {"max_targets": "the runner hands over no more targets than this"},
    NearestNeighbor: {"draws": "the toy world's release is not random"},
}
