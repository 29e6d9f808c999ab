"""How much the release of an image tells about its pixels, in the sense of Fisher.

For a release ``z = f(x) + n`` with noise of Fisher information J per value the information about
the image is ``I(x) = (df/dx)^T J (df/dx)``, and its trace per pixel is known as dFIL. The inverse
``1 / dFIL`` bounds the mean squared error of every *unbiased* estimate. Attackers that have learnt
are biased and go below it, as they should: it is a scale to calibrate by, and no guarantee.

What the noise is added to, f, is the `Defense.place` of the features: clipped ones, for example.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor
from torch.autograd import forward_ad

from splitbench.defense import Defense
from splitbench.release import Tensors

Client = Callable[[Tensor], Tensors]


class NotApplicableError(ValueError):
    """The release has no Fisher information: it does not depend smoothly on the features."""


@dataclass(frozen=True)
class FisherTrace:
    """An estimate of the trace of the information, image by image.

    Attributes:
        trace: ``(b,)``, per squared unit of pixel values in [0, 1].
        standard_error: Of the estimate, ``(b,)``; 0 where it is exact.
        pixels: Values of one image.
    """

    trace: Float[Tensor, " b"]
    standard_error: Float[Tensor, " b"]
    pixels: int

    @property
    def dfil(self) -> Float[Tensor, " b"]:
        """Information per pixel, averaged over the pixels of each image."""
        return self.trace / self.pixels


@torch.no_grad()
def fisher_trace(
    client: Client,
    defense: Defense,
    images: Float[Tensor, "b c h w"],
    *,
    probes: int = 64,
    observations: int = 1,
    generator: torch.Generator,
) -> FisherTrace:
    """Estimate the trace by Hutchinson's method with random signs, by forward-mode products.

    The variance of one probe is ``2 (|I|_F^2 - sum_i I_ii^2)``.

    Args:
        client: Images to features, differentiable and in eval mode; normalisation of pixels
            belongs to it.
        defense: Fitted; says what its noise tells of each feature (`Defense.information`).
        images: In [0, 1].
        probes: Random directions, >= 2.
        observations: Releases of the same image that the adversary sees.
        generator: Of the directions.

    Raises:
        NotApplicableError: The defense has no Fisher information.
        ValueError: Fewer than two probes.
    """
    if probes < 2:
        raise ValueError(f"probes={probes}: want at least 2, for their spread is the error")
    found = [
        _along(client, defense, images, random_signs(images, generator)) for _ in range(probes)
    ]
    values = observations * torch.stack(found)
    error = values.std(0) / probes**0.5
    return FisherTrace(values.mean(0), error, images[0].numel())


@torch.no_grad()
def exact_fisher_trace(
    client: Client,
    defense: Defense,
    images: Float[Tensor, "b c h w"],
    *,
    observations: int = 1,
) -> FisherTrace:
    """The same without chance, by one product for each pixel: for small images.

    Raises:
        NotApplicableError: The defense has no Fisher information.
    """
    pixels = images[0].numel()
    units = torch.eye(pixels).to(images).view(pixels, 1, *images.shape[1:])
    parts = [_along(client, defense, images, unit.expand_as(images)) for unit in units]
    trace = observations * torch.stack(parts).sum(0)
    return FisherTrace(trace, torch.zeros_like(trace), pixels)


@torch.no_grad()
def fisher_matrix(
    client: Client,
    defense: Defense,
    images: Float[Tensor, "b c h w"],
    *,
    observations: int = 1,
) -> Float[Tensor, "b d d"]:
    """The whole information about the flattened pixels of each image: for small images.

    Raises:
        NotApplicableError: The defense has no Fisher information.
    """
    pixels = images[0].numel()
    units = torch.eye(pixels).to(images).view(pixels, 1, *images.shape[1:])
    columns = []
    for unit in units:
        rows = [
            (slope * weight.sqrt()).unsqueeze(-1).flatten(1)
            for slope, weight in _told(client, defense, images, unit.expand_as(images))
        ]
        columns.append(torch.cat(rows, dim=1))
    jacobian = torch.stack(columns, dim=2)
    return observations * jacobian.transpose(1, 2) @ jacobian


@torch.no_grad()
def fisher_along(
    client: Client,
    defense: Defense,
    image: Float[Tensor, "c h w"],
    directions: Float[Tensor, "k c h w"],
) -> Float[Tensor, "k k"]:
    """The information about an image along some directions, all in one pass.

    Raises:
        NotApplicableError: The defense has no Fisher information.
    """
    _weights(defense, tuple(client(image[None])))  # says so before anything is differentiated
    images = image.expand_as(directions).contiguous()
    parts = [
        (slope * weight.sqrt()).flatten(1)
        for slope, weight in _told(client, defense, images, directions)
    ]
    rows = torch.cat(parts, dim=1)
    return rows @ rows.T


def push_forward(
    client: Client, images: Float[Tensor, "b c h w"], direction: Float[Tensor, "b c h w"]
) -> tuple[Tensors, Tensors]:
    """Features, and how they move along a direction of the images.

    Gradients with respect to the client's parameters flow through both, unless they are off.
    """
    return _pushed(lambda given: client(*given), (images,), (direction,))


def random_signs(like: Tensor, generator: torch.Generator) -> Tensor:
    """A probe of Hutchinson's method: each value 1 or -1."""
    return torch.randint(2, like.shape, generator=generator).to(like) * 2 - 1


def van_trees(
    information: Float[Tensor, "b d d"], prior: Float[Tensor, "d d"]
) -> Float[Tensor, ""]:
    """Least mean squared error per pixel of *any* estimate, biased or not, under a smooth prior.

    ``tr((E[I(x)] + J)^-1) / d``, with the expectation over images drawn from the prior and J the
    prior's own information ``E[grad log p grad log p^T]``. For a linear client with normal noise
    and a normal prior it is the error of the best estimate exactly. It holds only for the prior
    that is named: pictures have none with finite information, so there it says nothing.

    Args:
        information: At images drawn from the prior.
        prior: Information of the prior, symmetric, positive semi-definite.

    References:
        Van Trees. "Detection, estimation, and modulation theory, part I". 1968.
        Gill, Levit. "Applications of the van Trees inequality". Bernoulli 1995.
        doi:10.2307/3318681
    """
    total = information.mean(0) + prior
    bound: Tensor = torch.linalg.inv(total).trace() / len(total)
    return bound


def safe_van_trees(
    information: Float[Tensor, "b d d"], prior: Float[Tensor, "d d"], *, confidence: float
) -> float:
    """A bound like `van_trees` that chance does not raise, for what attacks are held against.

    The inverse of a mean over few draws is too large on average, and so is `van_trees`. But
    ``(tr C)^2 / tr(C (E[I(x)] + J) C) / d`` is a bound for every symmetric matrix C, and equal to
    `van_trees` for the best one. Here the first half of the draws proposes C; the second half gives
    the mean in the denominator, which is taken at the upper end of its Student interval. Where the
    information is the same everywhere, as for a linear client, nothing is lost.

    Args:
        information: At images drawn from the prior, at least four.
        prior: As in `van_trees`.
        confidence: That the mean is no larger, in (0, 1).

    Raises:
        ValueError: Fewer than four draws.
    """
    if len(information) < 4:
        raise ValueError(f"{len(information)} draws: want at least 4, two of them for an interval")
    half = len(information) // 2
    weights = torch.linalg.inv(information[:half].mean(0) + prior)
    told = (weights @ information[half:] @ weights).diagonal(dim1=1, dim2=2).sum(1)
    quantile = float(stats.t.ppf(confidence, len(told) - 1))
    most = told.mean() + quantile * told.std() / len(told) ** 0.5
    bound = weights.trace().square() / ((weights @ prior @ weights).trace() + most)
    return float(bound) / len(prior)


def _along(client: Client, defense: Defense, images: Tensor, direction: Tensor) -> Tensor:
    """``v^T I(x) v`` for each image."""
    parts = [
        (slope.square() * weight).unsqueeze(-1).flatten(1).sum(1)
        for slope, weight in _told(client, defense, images, direction)
    ]
    return torch.stack(parts).sum(0)


def _told(
    client: Client, defense: Defense, images: Tensor, direction: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """How each tensor that the noise is added to moves, and what the noise tells of it."""
    features, slopes = push_forward(client, images, direction)
    weights = _weights(defense, features)
    _, moves = _pushed(defense.place, features, slopes)
    return list(zip(moves, weights, strict=True))


def _pushed(
    function: Callable[[Tensors], Tensors], given: Tensors, directions: Tensors
) -> tuple[Tensors, Tensors]:
    """What a function makes of some tensors, and how that moves along directions of theirs."""
    with _dual_level():
        duals = [
            forward_ad.make_dual(g, d.contiguous()) for g, d in zip(given, directions, strict=True)
        ]
        pairs = [forward_ad.unpack_dual(f) for f in function(tuple(duals))]
    values = tuple(pair.primal for pair in pairs)
    # What does not depend on the image at all has no tangent.
    slopes = tuple(torch.zeros_like(p.primal) if p.tangent is None else p.tangent for p in pairs)
    return values, slopes


@contextmanager
def _dual_level() -> Iterator[None]:
    """Forward-mode differentiation, without what torch says of itself when it first does it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
        with forward_ad.dual_level():
            yield


def _weights(defense: Defense, features: Tensors) -> Tensors:
    found = defense.information(features)
    if found is None:
        raise NotApplicableError(
            f"{defense!r} has no Fisher information that is known: it rounds, erases, answers or "
            "releases features as they are, or joins noises of several kinds; the theory needs one "
            "noise with a density"
        )
    around = defense.place(features)
    return tuple(weight.expand_as(f) for weight, f in zip(found, around, strict=True))
