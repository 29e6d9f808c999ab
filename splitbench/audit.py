"""Is a promise kept? A lower bound on epsilon, measured on the messages of a defense.

A proof can be right and the code wrong: a sensitivity of C where two inputs are 2 C apart, noise
that rests in eval mode or is drawn once. An audit knows no proof. It makes many messages of two
inputs, tries to tell them apart, and turns its success into the smallest epsilon that allows it. It
can refute a promise, never prove one.

References:
    Jagielski, Ullman, Oprea. "Auditing differentially private machine learning: how private is
    private SGD?". NeurIPS 2020. arXiv:2006.07709
    Nasr, Hayes, Steinke, Balle, Tramer, Jagielski, Carlini, Terzis. "Tight auditing of
    differentially private machine learning". USENIX Security 2023. arXiv:2302.07956 (Gaussian
    differential privacy, where few errors say more)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from scipy.special import betaincinv, ndtri
from torch import Tensor
from torch.nn import functional

from splitbench.defense import Defense
from splitbench.gaussian_dp import epsilon_of
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors
from splitbench.statistics import Array

Pair = tuple[Tensors, Tensors]
THRESHOLDS = 200  # that are tried
BATCH = 500  # messages at a time
LARGEST = 512  # values of a message whose correlations are looked at
RIDGE, TINY = 1e-9, 1e-18  # of noise and signal: correlated noise has no inverse, none neither


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        claimed: The promise for one message.
        epsilon: With the confidence asked for, the promise holds for no smaller one at its delta;
            0 where nothing was found.
        mu: The same for Gaussian differential privacy, where that is promised.
        pair: Which pair of inputs was the worst.
    """

    claimed: Guarantee
    epsilon: float
    mu: float | None
    pair: int

    @property
    def refuted(self) -> bool:
        """Whether the promise is broken."""
        if self.mu is not None and self.claimed.mu is not None:
            return self.mu > self.claimed.mu
        return self.epsilon > self.claimed.epsilon


def audit(
    defense: Defense,
    pairs: Sequence[Pair],
    *,
    generator: torch.Generator,
    messages: int = 4000,
    confidence: float = 0.95,
) -> Audit:
    """Try to tell messages apart by a threshold on their projection onto a line.

    A quarter of the messages says in which directions to look: along what differs, and where the
    noise lets it be seen best (correlated noise hides less than its size). A quarter chooses among
    pairs, directions and thresholds; the last half counts, so that the bound holds without a
    correction for the choice. Rates are bounded by Clopper and Pearson's exact intervals. Where
    Gaussian differential privacy is promised, what is bounded is mu, which ``Phi^-1(hits) -
    Phi^-1(false alarms)`` may not exceed; else epsilon, by ``log((hits - delta) / false alarms)``,
    which m messages cannot find above ``log(m / 8)`` or so.

    Args:
        defense: Fitted; `protect` is called in the mode that it is in.
        pairs: Features of two inputs each, ``(1, *shape)``; see `canaries`.
        generator: Source of the messages' randomness.
        messages: Of each input, >= 100.
        confidence: That the bound is none too large, in (0, 1).

    Raises:
        ValueError: No pairs, too few messages, or a confidence that is none.
    """
    if not pairs or messages < 100 or not 0 < confidence < 1:
        raise ValueError(
            f"{len(pairs)} pairs, messages={messages}, confidence={confidence}: want a pair, at "
            "least 100 messages, a confidence between 0 and 1"
        )
    claimed = defense.guarantee()
    rule = _Rule(claimed.delta if claimed.formal else 0.0, claimed.mu is not None, confidence)
    chosen: list[tuple[float, float, int]] = []
    for index, pair in enumerate(pairs):
        lines = _lines(pair, *_sent(defense, pair, messages // 4, generator))
        seen = _projected(defense, pair, lines, messages - messages // 4, generator)
        chosen.append((*_counted(seen, messages // 4, rule), index))
    _, bound, worst = max(chosen, key=lambda found: found[0])
    found = max(bound, 0.0)
    epsilon = epsilon_of(delta=rule.delta, mu=found) if rule.gaussian else found
    return Audit(claimed, epsilon, found if rule.gaussian else None, worst)


def canaries(features: Tensors, *, size: float = 1e3) -> list[Pair]:
    """Pairs of features that should be hard to keep indistinguishable.

    They are far larger than real ones, so that all clipping is at work: a single value and all
    values at once, in opposite directions; and the two most different real ones. What a client
    can compute does not matter: it is `protect` that must keep the promise, whatever it is given.

    Args:
        features: Of at least two inputs, ``(b, *shape)``.
        size: Of the planted values, in units of the largest real one.
    """
    largest = max(float(f.abs().max()) for f in features) or 1.0
    zeros = tuple(torch.zeros_like(f[:1]) for f in features)
    single = tuple(z.clone() for z in zeros)
    single[0].view(-1)[0] = size * largest
    every = tuple(z + size * largest for z in zeros)
    flat = torch.cat([f.flatten(1) for f in features], dim=1)
    first, second = divmod(int(torch.cdist(flat, flat).argmax()), len(flat))
    real = tuple(f[[first]] for f in features), tuple(f[[second]] for f in features)
    return [(single, _opposite(single)), (every, _opposite(every)), real]


@dataclass(frozen=True)
class _Rule:
    """How rates become a bound: on mu where that is promised, else on epsilon."""

    delta: float
    gaussian: bool
    confidence: float

    def bounds(self, hits: Array, alarms: Array, n: int) -> Array:
        """Lower bounds from how often an event happens for each of two inputs, n times asked."""
        tail = (1 - self.confidence) / 2
        low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), n - hits + 1, tail), 0.0)
        high = betaincinv(alarms + 1, np.maximum(n - alarms, 1), 1 - tail)
        high = np.where(alarms < n, high, 1.0)
        found: Array
        if self.gaussian:
            found = ndtri(low) - ndtri(high)
        else:
            found = np.log(np.maximum(low - self.delta, np.finfo(float).tiny) / high)
        return found


def _opposite(features: Tensors) -> Tensors:
    return tuple(-f for f in features)


def _flat(tensors: Tensors) -> Tensor:
    return torch.cat([t.flatten(1) for t in tensors], dim=1).double().cpu()


@torch.no_grad()
def _sent(
    defense: Defense, pair: Pair, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """So many messages of each input, ``(count, values)``."""
    first, second = (
        _flat(defense.protect(tuple(f.repeat(count, *[1] * (f.ndim - 1)) for f in features),
                              generator=generator))
        for features in pair
    )  # fmt: skip
    return first, second


def _lines(pair: Pair, first: Tensor, second: Tensor) -> Tensor:
    """Directions to look in, ``(values, directions)``."""
    apart = (_flat(pair[0]) - _flat(pair[1]))[0]
    if len(apart) != first.shape[1]:  # messages have another form than features
        apart = first.mean(0) - second.mean(0)
    if len(apart) > LARGEST:
        return apart[:, None]
    noise = torch.cat([first - first.mean(0), second - second.mean(0)])
    spread = noise.T @ noise / len(noise)
    # Also where there is no noise at all; what differs is then what is looked for.
    floor = RIDGE * spread.diagonal().mean() + TINY * apart.square().mean().clamp(min=1)
    whitened = torch.linalg.solve(spread + floor * torch.eye(len(spread)).double(), apart)
    return torch.stack([apart, functional.normalize(whitened, dim=0)], dim=1)


def _projected(
    defense: Defense, pair: Pair, lines: Tensor, messages: int, generator: torch.Generator
) -> Array:
    """Messages of both inputs seen along each line, ``(directions, 2, messages)``."""
    parts = []
    for start in range(0, messages, BATCH):
        both = _sent(defense, pair, min(BATCH, messages - start), generator)
        parts.append(torch.stack([(sent @ lines).T for sent in both], dim=1))
    seen: Array = torch.cat(parts, dim=2).numpy()
    return seen


def _counted(seen: Array, choosing: int, rule: _Rule) -> tuple[float, float]:
    """Bound of the best event on the first messages, and of the same event on the others."""
    best = (-math.inf, -math.inf)
    for line in seen:
        places = np.unique(np.quantile(line[:, :choosing], np.linspace(0, 1, THRESHOLDS)))
        for order, sign in product((1, -1), (1, -1)):  # who is taken for the first, above or below
            first, other = (
                sign * part[::order] for part in (line[:, :choosing], line[:, choosing:])
            )
            found = rule.bounds(*_above(first, sign * places), choosing)
            at = int(np.argmax(found))
            if found[at] > best[0]:  # and nothing else: what counts may not choose
                place = sign * places[at : at + 1]
                counted = rule.bounds(*_above(other, place), other.shape[1])
                best = float(found[at]), float(counted[0])
    return best


def _above(values: Array, places: Array) -> tuple[Array, Array]:
    """How many of each row lie above each place."""
    first, second = (
        len(row) - np.searchsorted(np.sort(row), places, side="right").astype(np.float64)
        for row in values
    )
    return first, second
