"""What a release is taken for by a search that explains it: a piece, not an attack."""

import math
from enum import IntEnum

import torch
from jaxtyping import Float
from torch import Tensor

from splitbench.release import Release, Tensors
from splitbench.threat import Surface

GREY = 0.5
PRECISION = 0.01  # relative error to which a deterministic channel is taken at its word
EXACT = 1e-9  # mismatch of the truth, relative to that of another image, that counts as none


class Reading(IntEnum):
    """What a quantised release is taken for."""

    CELLS = 0  # anything in the cell is as likely
    CENTRES = 1  # the decoded value, give or take the rounding
    EXACT = 2  # the decoded value


def likely_readings(
    release: Release, features: Tensors, surface: Surface
) -> tuple[list[Reading], Tensor]:
    """Readings worth a try, and the squared rounding error of one value.

    All of them, where what was released lies apart from the features and the mismatch is nothing.

    Args:
        release: Of images that the adversary knows.
        features: Of the same images.
        surface: Says how badly features explain a release.
    """
    if surface.is_likelihood(release, features):  # maybe of other tensors than are released
        return [Reading.CELLS], torch.tensor(0.0)
    apart = distance(release, surface.expected(features)).mean()
    rounding = apart / sum(spec.numel for spec in surface.specs)
    rounds = bool(surface.mismatch(release, features).mean() < EXACT * apart)
    return list(Reading) if rounds else [Reading.CELLS], rounding


def unexplained(
    release: Release, features: Tensors, reading: Reading, surface: Surface
) -> Float[Tensor, " b"]:
    """How badly features explain a release that is read so."""
    if reading == Reading.CELLS:
        return surface.mismatch(release, features)
    return distance(release, surface.expected(features))


def nats_per_unit(
    release: Release, reading: Reading, surface: Surface, *, noise: Tensor, rounding: Tensor
) -> Float[Tensor, " b"]:
    """What one unit of `unexplained` costs in nats, for each release.

    Args:
        release: Under attack.
        reading: What it is taken for.
        surface: As above.
        noise: Mean mismatch of the truth, as the channel was seen to make it.
        rounding: Squared rounding error of one value.
    """
    if reading == Reading.CENTRES:
        return (1 / (2 * rounding)).repeat(len(release))
    features = tuple(surface.client(grey_images(release, surface)))
    exact = math.prod(surface.image_shape) / (2 * PRECISION**2)
    if reading == Reading.EXACT:
        return exact / distance(release, surface.expected(features)).detach().clamp(min=1e-12)
    if surface.is_likelihood(release, features):
        return torch.ones(len(release))
    wrong = surface.mismatch(release, features).detach()
    if bool(noise <= EXACT * wrong.mean()):
        return exact / wrong.clamp(min=1e-12)
    values = sum(spec.numel for spec in surface.specs)
    return (values / (2 * noise)).repeat(len(release))


def grey_images(release: Release, surface: Surface) -> Float[Tensor, "b c h w"]:
    """One grey image for each release, where it is."""
    grey = torch.full((len(release), *surface.image_shape), GREY)
    return grey.to(release.tensors[0].device)


def distance(release: Release, features: Tensors) -> Float[Tensor, " b"]:
    """Squared distance to the decoded values; 0 where nothing was sent."""
    pairs = zip(release.tensors, features, strict=True)
    errors = [(seen - f).unsqueeze(-1).flatten(1) for seen, f in pairs]
    total = torch.stack([error.square().sum(1) for error in errors]).sum(0)
    return total if release.sent is None else torch.where(release.sent, total, 0 * total)
