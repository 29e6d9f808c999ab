"""What raises a flag on a record: pure functions of what the judge has measured."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from splitbench.deployment import Deployment
from splitbench.record import Interval
from splitbench.rng import stream

FEW_TARGETS = 100
# A blind guess learnt from the auxiliary data may be a hair better than the judge's own.
BLIND_MARGIN = 0.01
MUCH_NOISE = 2.0  # mismatch of a search's guesses over that of the truth
LITTLE_EXPLAINED = 0.1  # the same over that of a grey image
NO_BETTER = 0.5  # what guesses leave beyond the noise, over what a grey image leaves beyond it
# Of the noise, that a grey image leaves beyond it: three times the chance in 800 values (16 targets
# of 50 values each). Below it a release can hardly tell an image from grey.
TELLS = 0.15
FLAT = 0.01  # share of images without a slope to follow
CHANCE = 0.001  # of lengths that differ so much between classes: there are many cells
MATES = 8  # images that are released beside the one that is looked at


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is known about one cell.

    Attributes:
        floor: The attack never sees the release.
        gradient_free: It searches, and follows no gradients.
        knows_class: It is told the server's prediction, and so may beat a blind guess.
        targets: Images that it took on.
        leak: Its L.
        accuracy: Of the task, with the defense on.
        majority: Share of the largest class among the targets.
        lengths: Shortest and longest message in bytes.
        batch_dependent: See `depends_on_batch`.
        diagnostics: As in the record.
    """

    floor: bool
    gradient_free: bool
    knows_class: bool
    targets: int
    leak: Interval
    accuracy: Interval
    majority: float
    lengths: tuple[float, float]
    batch_dependent: bool
    diagnostics: Mapping[str, float]


def flags_of(found: Findings) -> tuple[str, ...]:
    """The flags of one record."""
    blind = found.floor and not found.knows_class
    raised = {
        "gradients_mislead": found.gradient_free,
        "few_targets": found.targets < FEW_TARGETS,
        "at_floor": not found.floor and found.leak.high <= 0,
        "above_one": found.leak.mean > 1,
        "blind_leaks": blind and found.leak.low > BLIND_MARGIN,
        "utility_collapsed": found.accuracy.low <= found.majority,
        "payload_varies": found.lengths[0] != found.lengths[1],
        "payload_tells_class": found.diagnostics.get("payload_class_p", 1.0) < CHANCE,
        "batch_dependent": found.batch_dependent,
        "search_failed": search_failed(found.diagnostics),
    }
    return tuple(name for name, value in raised.items() if value)


def search_failed(diagnostics: Mapping[str, float]) -> bool:
    """Whether a search left much of the release unexplained, or had no gradient to follow.

    Much is more than a tenth of what a grey image leaves, and, where the channel is noisy, more
    than twice what the truth itself leaves.

    Where the noise is as strong as the features, a grey image leaves no more than that either.
    There it is much if the guesses explain less than half of what a grey image leaves beyond the
    noise, provided that this is clearly more than nothing. A good search stays far below: the mean
    of the features, given a release in normal noise, leaves less than the noise does, by the mean
    squared error of that mean, whatever the client and the prior (Stein's identity). Searches that
    reached what others found left a tenth at most, those that had not left grey eight tenths and
    more.

    References:
        Stein. "Estimation of the mean of a multivariate normal distribution". Annals of Statistics
        1981. doi:10.1214/aos/1176345632
    """
    left = diagnostics.get("residual_over_grey", 0.0)
    noisy = diagnostics.get("residual_over_noise", math.inf)
    flat = diagnostics.get("flat_share", 0.0) > FLAT
    return flat or (left > LITTLE_EXPLAINED and (noisy > MUCH_NOISE or _no_better(left, noisy)))


def _no_better(left: float, noisy: float) -> bool:
    """Whether guesses hardly explain the release better than grey does, though it tells the two."""
    beyond = noisy / left - 1  # what a grey image leaves beyond the noise, in units of the noise
    return beyond > TELLS and noisy - 1 > NO_BETTER * beyond


def payload_class_p(lengths: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Probability that chance alone makes lengths differ so much between classes (Kruskal-Wallis).

    1 where all messages have one length, or there is only one class.

    References:
        Kruskal, Wallis. "Use of ranks in one-criterion variance analysis". Journal of the American
        Statistical Association 1952. doi:10.1080/01621459.1952.10483441
    """
    groups = [lengths[labels == label] for label in np.unique(labels)]
    if len(groups) < 2 or len(np.unique(lengths)) < 2:
        return 1.0
    return float(stats.kruskal(*groups).pvalue)


def depends_on_batch(deployment: Deployment, images: Tensor) -> bool:
    """Whether the release of an image changes with the images that are released beside it.

    Two batches of one size share their first image and the generator's seed: what differs in the
    release of that image comes from its neighbours. False where there are too few images to ask.
    """
    mates = min(MATES, (len(images) - 1) // 2)
    if mates < 1:
        return False
    parts = (images[1 : 1 + mates], images[1 + mates : 1 + 2 * mates])
    one, other = (
        deployment.release(torch.cat([images[:1], part]), generator=stream(0, "batch")).tensors
        for part in parts
    )
    return any(
        not torch.allclose(a[0], b[0], rtol=1e-4, atol=1e-5 * float(a.abs().max() + 1))
        for a, b in zip(one, other, strict=True)
    )
