"""How often a secret can be guessed at best, by whoever holds a message that is private.

Bounds on any adversary, whatever it knows beforehand, computes or was trained on. They are about
inputs that the promise tells apart from no other; what all inputs have in common is no secret.

References:
    Balle, Cherubin, Hayes. "Reconstructing training data with informed adversaries". IEEE S&P
    2022. arXiv:2201.04845
    Kaissis, Hayes, Ziller, Rueckert. "Bounding data reconstruction attacks with the hypothesis
    testing interpretation of differential privacy". 2023. arXiv:2307.03928
"""

import math

from scipy.optimize import minimize_scalar
from scipy.special import ndtr, ndtri

from splitbench.gaussian_dp import delta_of

SURE = 10.0  # standard deviations beyond which a normal variable is not found


def bounded_guess(*, epsilon: float, delta: float = 0.0, candidates: int) -> float:
    """Bound on naming one of N equally likely inputs from an (epsilon, delta)-private message.

    Each pair of inputs satisfies ``P(S) <= e^epsilon Q(S) + delta``; summed over the sets S in
    which each candidate is named, this bounds the mean rate of being right. Randomised response
    over N values attains it for delta 0.

    Args:
        epsilon: >= 0, infinite where nothing is promised.
        delta: In [0, 1].
        candidates: N, >= 1.

    Returns:
        ``(1 + (N - 1) e^-epsilon delta) / (1 + (N - 1) e^-epsilon)``; for delta 0 this is
        ``e^epsilon / (e^epsilon + N - 1)``.

    Raises:
        ValueError: A value is out of its range.
    """
    _check_candidates(candidates)
    if not (epsilon >= 0 and 0 <= delta <= 1):
        raise ValueError(f"epsilon={epsilon}, delta={delta}: want epsilon >= 0, delta in [0, 1]")
    others = (candidates - 1) * math.exp(-epsilon)
    return (1 + others * delta) / (1 + others)


def gaussian_guess(*, mu: float, candidates: int) -> float:
    """Bound on naming one of N equally likely inputs from a mu-GDP message.

    The least of `bounded_guess` over all pairs (epsilon, delta) of the privacy curve; each of them
    is a bound, so none is lost where the search for the least ends early. Exact for two inputs, for
    which it is ``Phi(mu / 2)``.

    Args:
        mu: Finite, >= 0; of all messages together.
        candidates: N, >= 1.

    Raises:
        ValueError: A value is out of its range.
    """
    _check_candidates(candidates)

    def bound(epsilon: float) -> float:
        delta = delta_of(epsilon=epsilon, mu=mu)
        return bounded_guess(epsilon=epsilon, delta=delta, candidates=candidates)

    # Beyond, delta is so small that a larger epsilon only loosens the bound.
    highest = mu * (mu / 2 + SURE)
    inside = minimize_scalar(bound, bounds=(0.0, highest), method="bounded") if mu > 0 else None
    return min(bound(0.0), 1.0 if inside is None else float(inside.fun))


def gaussian_reconstruction(*, mu: float, prior: float) -> float:
    """Bound on rebuilding a secret, whatever its distribution, from a mu-GDP message.

    Args:
        mu: >= 0; of all messages together.
        prior: How often the best guess without any message is near enough to count, in [0, 1].

    Returns:
        ``Phi(mu + Phi^-1(prior))``: how often any guess that has seen the message is.

    Raises:
        ValueError: A value is out of its range.
    """
    if not (mu >= 0 and 0 <= prior <= 1):
        raise ValueError(f"mu={mu}, prior={prior}: want mu >= 0, prior in [0, 1]")
    return float(ndtr(mu + ndtri(prior)))


def _check_candidates(candidates: int) -> None:
    if candidates < 1:
        raise ValueError(f"candidates={candidates}: must be at least 1")
