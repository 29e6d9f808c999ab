"""What Gaussian noise promises, exactly: the privacy curve of the analytic Gaussian mechanism.

Everything here depends on one number, ``mu = sensitivity / noise_std``: how many standard
deviations of the noise the two most different inputs lie apart. A mechanism is mu-GDP if telling
two inputs apart is no easier than telling N(0, 1) from N(mu, 1); k messages have ``mu sqrt(k)``.

The classic formula, which most code has, is here to be compared with: it asks for more noise than
is needed, and holds for epsilon up to 1 only.

References:
    Balle, Wang. "Improving the Gaussian mechanism for differential privacy: analytical calibration
    and optimal denoising". ICML 2018. arXiv:1805.06530
    Dwork, Roth. "The algorithmic foundations of differential privacy". Foundations and Trends in
    Theoretical Computer Science 2014, theorem A.1. doi:10.1561/0400000042
    Dong, Roth, Su. "Gaussian differential privacy". Journal of the Royal Statistical Society B
    2022. arXiv:1905.02383
"""

import math
from collections.abc import Callable
from functools import cache

from scipy.special import erfcx, log_ndtr

STEPS = 200  # of a bisection: ends where two neighbouring floating-point numbers are left


def delta_of(*, epsilon: float, mu: float) -> float:
    """The smallest delta with which noise of this `mu` is (epsilon, delta)-private.

    Args:
        epsilon: Finite, >= 0.
        mu: Sensitivity over standard deviation, finite, >= 0.

    Returns:
        ``Phi(mu / 2 - epsilon / mu) - e^epsilon Phi(-mu / 2 - epsilon / mu)``, in [0, 1).

    Raises:
        ValueError: A value is out of its range.
    """
    _check(epsilon=epsilon, mu=mu)
    return math.exp(_log_delta(epsilon, mu))


@cache
def mu_of(*, epsilon: float, delta: float) -> float:
    """The largest `mu`, that is the least noise, that is (epsilon, delta)-private.

    Args:
        epsilon: Finite, >= 0.
        delta: In (0, 1).

    Raises:
        ValueError: A value is out of its range.
    """
    _check(epsilon=epsilon)
    wanted = _log_probability(delta)
    high = 1.0
    while _log_delta(epsilon, high) <= wanted:
        high *= 2
    return _last(lambda mu: _log_delta(epsilon, mu) <= wanted, 0.0, high)


@cache
def epsilon_of(*, delta: float, mu: float) -> float:
    """The smallest epsilon with which noise of this `mu` is (epsilon, delta)-private.

    Args:
        delta: In (0, 1).
        mu: Finite, >= 0.

    Raises:
        ValueError: A value is out of its range.
    """
    _check(mu=mu)
    wanted = _log_probability(delta)
    if _log_delta(0.0, mu) <= wanted:
        return 0.0
    high = 1.0
    while _log_delta(high, mu) > wanted:
        high *= 2
    return high - _last(lambda less: _log_delta(high - less, mu) <= wanted, 0.0, high)


def noise_std(*, epsilon: float, delta: float, sensitivity: float) -> float:
    """The least standard deviation that is (epsilon, delta)-private.

    Args:
        epsilon: Finite, >= 0.
        delta: In (0, 1).
        sensitivity: Largest Euclidean distance between what two neighbouring inputs release
            before the noise, finite, > 0.

    Raises:
        ValueError: A value is out of its range.
    """
    if not (sensitivity > 0 and math.isfinite(sensitivity)):
        raise ValueError(f"sensitivity={sensitivity}: must be positive and finite")
    return sensitivity / mu_of(epsilon=epsilon, delta=delta)


def classic_mu_of(*, epsilon: float, delta: float) -> float:
    """What the classic formula takes for `mu_of`: ``epsilon / sqrt(2 ln(1.25 / delta))``.

    Args:
        epsilon: In (0, 1].
        delta: In (0, 1).

    Raises:
        ValueError: A value is out of its range; for epsilon > 1 the formula has no proof, and for
            large ones it promises more than its noise keeps.
    """
    _log_probability(delta)
    if not 0 < epsilon <= 1:
        raise ValueError(
            f"epsilon={epsilon}: the classic formula of Gaussian noise is proven for epsilon up to "
            "1 only; calibrate analytically"
        )
    return epsilon / math.sqrt(2 * math.log(1.25 / delta))


def _log_delta(epsilon: float, mu: float) -> float:
    """Logarithm of `delta_of`; nothing overflows, and nothing that matters cancels.

    With ``a, b = epsilon / mu -+ mu / 2`` the second term ``e^epsilon Phi(-b)`` is the density at a
    times the Mills ratio ``M(t) = Phi(-t) / phi(t)`` at b, so delta is ``phi(a) (M(a) - M(b))``.
    """
    if mu == 0:
        return -math.inf
    near, far = epsilon / mu - mu / 2, epsilon / mu + mu / 2
    log_density = -(near**2) / 2 - math.log(2 * math.pi) / 2
    if near >= 0:
        left = _mills(near) - _mills(far)
        return log_density + math.log(left) if left > 0 else -math.inf
    # Phi(-near) is at least a half, and what is taken off it smaller.
    log_first = float(log_ndtr(-near))
    return log_first + math.log1p(-math.exp(log_density - log_first) * _mills(far))


def _mills(t: float) -> float:
    return math.sqrt(math.pi / 2) * float(erfcx(t / math.sqrt(2)))


def _last(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The largest number known to hold, between one that does and one that does not."""
    for _ in range(STEPS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _log_probability(delta: float) -> float:
    if not 0 < delta < 1:
        raise ValueError(
            f"delta={delta}: must lie between 0 and 1, both excluded; no Gaussian noise has delta 0"
        )
    return math.log(delta)


def _check(**values: float) -> None:
    for name, value in values.items():
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name}={value}: must be finite and not negative")
