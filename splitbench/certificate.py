"""Least errors of any guess, from how much a message can say at most, under a named prior.

Two bounds, each for images that are drawn from a normal distribution. A message of at most R bits
leaves the error of the best code of that rate (reverse water-filling). Noise of finite Fisher
information leaves what van Trees' inequality says. Both hold for every guess, biased or not, of
whoever knows the prior, the client and the defense. Photographs are not drawn from a normal
distribution: for them both are descriptions of the message, and no attack may be held against them.
Images of a known law (`splitbench.data.gaussian_images`) are, and there every attack is.

References:
    Cover, Thomas. "Elements of information theory", 2nd edition, section 10.3.3. 2006.
    Gill, Levit. "Applications of the van Trees inequality". Bernoulli 1995. doi:10.2307/3318681
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from splitbench.defense import Defense
from splitbench.fisher import Client, fisher_along, safe_van_trees, van_trees
from splitbench.guarantee import Guarantee
from splitbench.normal_prior import NormalPrior

SHORTER = math.log2(256 / 255)  # bits that the shorter messages add to those of full length


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
    confidence: float | None = None,
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
        confidence: That chance in the draws does not raise the bound (`safe_van_trees`, >= 4
            draws): for a prior that applies. None takes the mean for what it estimates, which
            errs upwards unless the client is linear.
        generator: Of the draws.

    Raises:
        NotApplicableError: The release has no Fisher information.
        ValueError: Too few draws.
    """
    if draws < 1:
        raise ValueError(f"draws={draws}: must be at least 1")
    count = len(prior.variances) if directions is None else min(directions, len(prior.variances))
    units = prior.directions[:count].view(count, *prior.mean.shape).to(prior.mean.dtype)
    shown = prior.sample(draws, generator=generator)
    told = torch.stack([fisher_along(client, defense, image, units) for image in shown])
    information, own = observations * told.double(), (1 / prior.variances[:count]).diag()
    if confidence is None:
        mean_error = float(van_trees(information, own))
    else:
        mean_error = safe_van_trees(information, own, confidence=confidence)
    least = mean_error * count / prior.pixels
    sure = "" if confidence is None else f", at its upper end with {confidence:.1%} confidence"
    return _certificate(
        f"van Trees bound: the noise leaves an error of {least:.3g}",
        least,
        prior,
        (
            f"The information of the noise is its mean over {draws} draws from the prior{sure}.",
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
