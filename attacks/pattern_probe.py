"""What it tells which values arrived, without a look at any of them."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from attacks.linear_probe import LinearProbe
from splitbench.release import Release


class PatternProbe(LinearProbe):
    """The linear probe, on the pattern of what is zero and what is not: a side channel.

    Messages that keep the largest values say which these are; erased elements, pruned channels and
    images that an exit answers leave zeros. Encrypting or perturbing what is kept leaves the
    pattern as it is; noise on every value destroys it. It does not apply where all messages have
    the same one.

    Threat model:
        Auxiliary images whose values are known, and queries. Of the target nothing but the places
        of the zeros is looked at.

    Cost: As of `LinearProbe`.

    Args:
        penalties: As of `LinearProbe`.
        iterations: As of `LinearProbe`.
        draws: As of `LinearProbe`.

    Deviations from the paper:
        The paper watches memory accesses and running times of an accelerator that skips zeros, and
        finds structure and weights of the network; here the pattern is given, and what it tells of
        the image is asked.

    References:
        Hua, Zhang, Suh. "Reverse engineering convolutional neural networks through side-channel
        information leaks". DAC 2018. doi:10.1145/3195970.3196105
    """

    side_channel: ClassVar[bool] = True

    def says_nothing_about(self, release: Release) -> str:
        """One pattern for all messages tells nothing."""
        kept = release.flat() != 0
        return "" if (kept != kept[:1]).any() else "the same values are zero in all messages"

    def _seen(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """1 where something arrived."""
        return (features != 0).to(features.dtype)
