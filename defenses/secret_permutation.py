"""Features in a secret order."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from defenses.secret_mixing import SecretMixing


class SecretPermutation(SecretMixing):
    """Reorders the features by a secret permutation, which the server's adapter undoes.

    It is drawn once, when the defense is fitted, uniformly among all permutations, and is the same
    for all messages of all devices. Nothing is lost, not even to rounding.

    Args:
        per: Reorder ``channel``s, ``position``s (pixels of feature maps, tokens) or every
            ``element``. A vector has nothing but elements.

    Threat model:
        Whoever reads the messages without the key, with the weights and all settings. Secret is
        the order, which all devices and a trusted part of the server hold: whoever has one of
        them, or runs that part, is not kept out.

    Guarantee:
        None. To whoever holds the key the release is the features themselves; who does not hold
        it still sees every value, and each unit keeps its statistics.

    Known to fall to:
        Matching the units' statistics with those of features of the adversary's own images
        (`KeyRecovery`), without a single pair; pairs; a decoder that is trained on pairs.

    Deviations from the paper:
        The papers permute patches or tokens for a model that bears any order, and draw anew for
        every image; here one key serves for long, as it must where the server's adapter is to
        undo it, and any cut of any model will do.

    References:
        Yao et al. "Privacy-preserving split learning via patch shuffling over transformers".
        ICDM 2022.
        Thomas et al. "Hidden no more: attacking and defending private third-party LLM inference".
        ICML 2025. arXiv:2505.18332

    Example:
        >>> SecretPermutation(per="position").key_action.group
        'permutation'
    """

    group: ClassVar[Literal["rotation", "permutation"]] = "permutation"

    def __init__(self, *, per: Literal["channel", "position", "element"] = "channel") -> None:
        if per not in ("channel", "position", "element"):
            raise ValueError(f"per={per!r}: choose 'channel', 'position' or 'element'")
        super().__init__(per=per)

    def draw(self, units: int, *, generator: torch.Generator) -> Tensor:
        """A uniformly random order of so many units, ``(k,)``."""
        return torch.randperm(units, generator=generator)

    def mix(self, units: Float[Tensor, "b k r"], key: Tensor) -> Float[Tensor, "b k r"]:
        """Take the units in the order of the key."""
        return units[:, key]

    def unmix(self, units: Float[Tensor, "b k r"], key: Tensor) -> Float[Tensor, "b k r"]:
        """Put each unit back in its place."""
        return units[:, key.argsort()]
