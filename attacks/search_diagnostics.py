"""Whether a search found images that explain the release, as the adversary itself can tell."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from splitbench.release import Release
from splitbench.threat import Surface

GREY = 0.5
BATCH = 128  # images looked at together
LARGEST = 1e6  # to which ratios of mismatches are cut: a record holds finite numbers


def search_diagnostics(
    guess: Float[Tensor, "b c h w"], release: Release, surface: Surface, noise: Tensor | None
) -> Mapping[str, float]:
    """How much of the release the guesses explain, and whether the search had a slope to follow.

    Args:
        guess: Images in [0, 1].
        release: What they were found for.
        surface: Grants the client.
        noise: Mean mismatch of a true image, as the channel makes it; None where it makes none.

    Returns:
        ``residual_over_grey``, the mean mismatch of the guesses over that of a grey image;
        ``flat_share``, the share of images for which the mismatch has no finite slope at the grey
        image other than zero; with `noise` also ``residual_over_noise``. Ratios are at most 1e6.
        Of images of which nothing was sent there is nothing to find, and nothing is said.
    """
    if release.sent is not None:
        guess, release = guess[release.sent], release[release.sent]
    if not len(guess):
        return {}
    starts, ends, flats = [], [], []
    for first in range(0, len(guess), BATCH):
        part, shown = release[slice(first, first + BATCH)], guess[first : first + BATCH]
        grey = torch.full_like(shown, GREY).requires_grad_()
        with torch.enable_grad():
            start = surface.mismatch(part, tuple(surface.client(grey)))
            slope = torch.autograd.grad(start.sum(), grey)[0].flatten(1)
        flats.append((slope == 0).all(1) | ~slope.isfinite().all(1))
        starts.append(start.detach())
        ends.append(surface.mismatch(part, tuple(surface.client(shown))).detach())
    start, end = torch.cat(starts).mean(), torch.cat(ends).mean()
    found = {
        "residual_over_grey": _ratio(end, start),
        "flat_share": float(torch.cat(flats).float().mean()),
    }
    return found if noise is None else {**found, "residual_over_noise": _ratio(end, noise)}


def _ratio(value: Tensor, unit: Tensor) -> float:
    """Of two mismatches; 1 where both are nothing."""
    if not unit > 0:
        return LARGEST if value > 0 else 1.0
    return float((value / unit).nan_to_num(LARGEST, LARGEST).clamp(max=LARGEST))
