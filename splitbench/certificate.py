"""Least errors of any guess, from how much a message can say at most, under a named prior.

Two bounds, each for images that are drawn from a normal distribution. A message of at most R bits
leaves the error of the best code of that rate (reverse water-filling). Noise of finite Fisher
information leaves what van Trees' inequality says. Both hold for every guess, biased or not, of
whoever knows the prior, the client and the defense. Photographs are not drawn from a normal
distribution: for them both are descriptions of the message, and no attack may be held against them.

References:
    Cover, Thomas. "Elements of information theory", 2nd edition, section 10.3.3. 2006.
    Gill, Levit. "Applications of the van Trees inequality". Bernoulli 1995. doi:10.2307/3318681
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from splitbench.defense import Defense
from splitbench.fisher import Client, fisher_along, van_trees
from splitbench.guarantee import Guarantee

FLAT = 1e-9  # of the largest variance: a direction in which nothing varies
SHORTER = math.log2(256 / 255)  # bits that the shorter messages add to those of full length


@dataclass(frozen=True, eq=False)
class NormalPrior:
    """A normal distribution of images by its principal directions.

    Attributes:
        name: As it stands behind "drawn from".
        mean: ``(c, h, w)``, in [0, 1].
        directions: Orthonormal, ``(r, pixels)``, those of the largest variance first; images do
            not vary outside of them.
        variances: Along each, ``(r,)``, > 0, in squared units of pixels in [0, 1].
        applies: True where the images under attack are drawn from it; else why they are not.
    """

    name: str
    mean: Float[Tensor, "c h w"]
    directions: Float[Tensor, "r pixels"]
    variances: Float[Tensor, " r"]
    applies: bool | str

    @property
    def pixels(self) -> int:
        """Values of one image."""
        return self.mean.numel()

    @classmethod
    def of_covariance(
        cls,
        mean: Float[Tensor, "c h w"],
        covariance: Float[Tensor, "pixels pixels"],
        *,
        name: str,
        applies: bool | str,
    ) -> "NormalPrior":
        """From a covariance that is known."""
        variances, vectors = torch.linalg.eigh(covariance.double())
        return cls._of(mean, vectors.T, variances, name, applies)

    @classmethod
    def of_images(
        cls, images: Float[Tensor, "n c h w"], *, name: str, applies: bool | str
    ) -> "NormalPrior":
        """With the mean and the covariance of some images, at least two; of rank n - 1 at most."""
        flat = images.flatten(1).double()
        mean = flat.mean(0)
        centred = (flat - mean) / math.sqrt(len(flat) - 1)
        if len(flat) >= flat.shape[1]:
            variances, vectors = torch.linalg.eigh(centred.T @ centred)
            directions = vectors.T
        else:  # the same from the smaller matrix
            variances, vectors = torch.linalg.eigh(centred @ centred.T)
            directions = (vectors.T @ centred) / variances.clamp(min=1e-300).sqrt()[:, None]
        return cls._of(mean.view(images.shape[1:]).to(images), directions, variances, name, applies)

    @classmethod
    def _of(
        cls, mean: Tensor, directions: Tensor, variances: Tensor, name: str, applies: bool | str
    ) -> "NormalPrior":
        kept = variances.flip(0) > FLAT * variances.max()
        return cls(name, mean, directions.flip(0)[kept], variances.flip(0)[kept], applies)

    def sample(self, count: int, *, generator: torch.Generator) -> Float[Tensor, "n c h w"]:
        """Images; what a normal distribution puts outside of [0, 1] stays there."""
        white = torch.randn(count, len(self.variances), generator=generator, dtype=torch.float64)
        moved = (white * self.variances.sqrt()) @ self.directions
        return (self.mean.double() + moved.view(count, *self.mean.shape)).to(self.mean.dtype)


def least_distortion(variances: Float[Tensor, " r"], *, bits: float) -> float:
    """Least squared error of a normal vector, summed over its values, after R bits about it.

    Reverse water-filling: directions that vary more than the level keep the level, the others all
    of their variance.

    Args:
        variances: Along the principal directions, > 0.
        bits: R, >= 0.

    Raises:
        ValueError: A negative number of bits.
    """
    if not bits >= 0:
        raise ValueError(f"bits={bits}: must not be negative")
    ordered = variances.double().sort(descending=True).values
    counts = torch.arange(1, len(ordered) + 1)
    # The level if the first k directions were told about; logarithms, for it may be tiny.
    levels = (ordered.log2().cumsum(0) - 2 * bits) / counts
    told = int((levels < ordered.log2()).sum())
    if told == 0:
        return float(ordered.sum())
    return told * 2 ** float(levels[told - 1]) + float(ordered[told:].sum())


def rate_certificate(prior: NormalPrior, *, payload_bytes: int, messages: int = 1) -> Guarantee:
    """What messages of limited length leave unknown, however they are made.

    Args:
        prior: Of the images.
        payload_bytes: Of the longest message that can be sent (`Codec.payload_bound`), not of the
            longest that was; random or not, its length included.
        messages: That differ, about one image, >= 1.

    Raises:
        ValueError: Less than one message, or a length below zero.
    """
    if payload_bytes < 0 or messages < 1:
        raise ValueError(f"payload_bytes={payload_bytes}, messages={messages}: want 0, 1 or more")
    bits = messages * (8 * payload_bytes + SHORTER)
    least = least_distortion(prior.variances, bits=bits) / prior.pixels
    sent = f"{payload_bytes} bytes" if messages == 1 else f"{messages} times {payload_bytes} bytes"
    return _certificate(
        f"rate bound: {sent} leave an error of {least:.3g}",
        least,
        prior,
        (f"All that is seen of an image is {sent} at most.",),
    )


@torch.no_grad()
def noise_certificate(
    client: Client,
    defense: Defense,
    prior: NormalPrior,
    *,
    observations: int = 1,
    directions: int | None = None,
    draws: int = 16,
    generator: torch.Generator,
) -> Guarantee:
    """What noise leaves unknown: van Trees' inequality along the principal directions.

    Exact for a linear client under normal noise, in all directions: the error of the best guess.

    Args:
        client: As in `splitbench.fisher.fisher_trace`.
        defense: Fitted; says what its noise tells of each feature (`Defense.information`).
        prior: Of the images.
        observations: Releases of the same image that the adversary sees.
        directions: The first so many; whoever is told the rest has this error at least. None
            takes all. Each costs a forward pass of every draw.
        draws: Images from the prior over which the information is averaged, >= 1; any one will do
            for a linear client.
        generator: Of the draws.

    Raises:
        NotApplicableError: The release has no Fisher information.
        ValueError: No draws.
    """
    if draws < 1:
        raise ValueError(f"draws={draws}: must be at least 1")
    count = len(prior.variances) if directions is None else min(directions, len(prior.variances))
    units = prior.directions[:count].view(count, *prior.mean.shape).to(prior.mean.dtype)
    shown = prior.sample(draws, generator=generator)
    information = torch.stack([fisher_along(client, defense, image, units) for image in shown])
    mean_error = van_trees(
        observations * information.double(), (1 / prior.variances[:count]).diag()
    )
    least = float(mean_error) * count / prior.pixels
    return _certificate(
        f"van Trees bound: the noise leaves an error of {least:.3g}",
        least,
        prior,
        (
            f"The information of the noise is its mean over {draws} draws from the prior.",
            "The client is differentiable but for a set of images that has no volume.",
        ),
    )


def _certificate(
    found: str, least: float, prior: NormalPrior, assumptions: tuple[str, ...]
) -> Guarantee:
    share = least * prior.pixels / float(prior.variances.sum())
    return Guarantee(
        "certified",
        f"{found} in mean square per pixel ({share:.2g} of the variance) under {prior.name}",
        least_mse=least,
        prior=prior.name,
        assumptions=assumptions,
        applies=prior.applies,
    )
