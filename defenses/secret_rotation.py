"""Features rotated by a secret orthogonal matrix."""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from defenses.secret_mixing import SecretMixing


class SecretRotation(SecretMixing):
    """Multiplies the features by a secret orthogonal matrix, which the server's adapter transposes.

    The matrix is drawn once, when the defense is fitted, uniformly among all orthogonal matrices
    (Haar measure: QR of a Gaussian matrix with the signs of the diagonal taken out), and is the
    same for all messages of all devices. The task loses nothing but rounding. Lengths and angles
    of features stay as they are, whatever the key.

    Per channel the device pays ``channels`` multiplications for each value and the key is small;
    per element both grow with the size of the release, to ``size ** 2``: 88 MB for 4704 values.

    Args:
        per: Mix the ``channel``s of each position alike, or every ``element`` of a tensor with
            every other. The channels of a vector are its elements.

    Threat model:
        Whoever reads the messages without the key, with the weights and all settings. Secret is
        the matrix, which all devices and a trusted part of the server hold: whoever has one of
        them, or runs that part, is not kept out.

    Guarantee:
        None. To whoever holds the key the release is the features themselves; who does not hold
        it still sees every distance between images.

    Known to fall to:
        As many pairs of images and releases as there are units, by least squares, exactly; a
        decoder that is trained on pairs, whatever the key; the moments of a thousand releases and
        the server's answers to them, without a pair (`KeyRecovery`).

    Deviations from the paper:
        The paper of 2006 multiplies tables that are to be mined, and already breaks rotations of
        independent columns without a pair; here it is the activation of a network that is rotated.

    References:
        Liu, Kargupta, Ryan. "Random projection-based multiplicative data perturbation for privacy
        preserving distributed data mining". IEEE TKDE 2006. doi:10.1109/TKDE.2006.14
        Mezzadri. "How to generate random matrices from the classical compact groups". Notices of
        the AMS 2007. arXiv:math-ph/0609050
        Kerckhoffs. "La cryptographie militaire". Journal des sciences militaires 1883.

    Example:
        >>> SecretRotation(per="channel").guarantee().kind
        'none'
    """

    group: ClassVar[Literal["rotation", "permutation"]] = "rotation"

    def __init__(self, *, per: Literal["channel", "element"] = "channel") -> None:
        if per not in ("channel", "element"):
            raise ValueError(f"per={per!r}: choose 'channel' or 'element'")
        super().__init__(per=per)

    def draw(self, units: int, *, generator: torch.Generator) -> Float[Tensor, "k k"]:
        """A uniformly random orthogonal matrix."""
        gaussian = torch.randn(units, units, generator=generator, dtype=torch.float64)
        q, r = torch.linalg.qr(gaussian)
        # LAPACK chooses the signs; without this the law would not be uniform.
        rotation: Tensor = q * torch.where(r.diagonal() < 0, -1.0, 1.0)
        return rotation.float()

    def mix(self, units: Float[Tensor, "b k r"], key: Tensor) -> Float[Tensor, "b k r"]:
        """Multiply by the matrix."""
        return torch.einsum("ij,bjr->bir", key, units)

    def unmix(self, units: Float[Tensor, "b k r"], key: Tensor) -> Float[Tensor, "b k r"]:
        """Multiply by its transpose."""
        return torch.einsum("ji,bjr->bir", key, units)
