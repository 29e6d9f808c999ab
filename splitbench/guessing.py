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

from scipy.special import ndtr, ndtri


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

    Args:
        mu: >= 0; of all messages together.
        candidates: N, >= 1.

    Returns:
        ``Phi(mu + Phi^-1(1 / N))``.

    Raises:
        ValueError: A value is out of its range.
    """
    _check_candidates(candidates)
    if not mu >= 0:
        raise ValueError(f"mu={mu}: must not be negative")
    return float(ndtr(mu + ndtri(1 / candidates)))


def _check_candidates(candidates: int) -> None:
    if candidates < 1:
        raise ValueError(f"candidates={candidates}: must be at least 1")
