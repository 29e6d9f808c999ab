"""How long a request waits until a server is free.

Closed forms, element by element over arrays. What is exact: the mean for Poisson arrivals with
exponential service times (Erlang) or with one server (Pollaczek and Khinchine), and the
percentiles for Poisson arrivals with exponential service times. Everything else is Allen and
Cunneen's approximation: the wait of the exponential case times ``(arrivals + service) / 2``, both
as squared coefficients of variation, and a tail that is exponential. It asks how variable single
times are and not whether short ones follow each other: bursts that last make it too optimistic,
arrivals more regular than Poisson too cautious. `offloading.simulation` is the check.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincc, gammaln, xlogy

Array = NDArray[np.float64]
POISSON = EXPONENTIAL = 1.0  # squared coefficient of variation of exponential times


def erlang_b(load: ArrayLike, servers: ArrayLike) -> Array:
    """Share of requests that find all servers busy and go away.

    Args:
        load: Arrival rate times mean service time, >= 0.
        servers: >= 1, also infinite.
    """
    offered, count = _pair(load, servers)
    finite = np.where(np.isinf(count), 1.0, count)
    log_probability = xlogy(finite, offered) - offered - gammaln(finite + 1)
    blocked = np.exp(log_probability) / np.maximum(gammaincc(finite + 1, offered), 1e-300)
    return np.where(np.isinf(count), 0.0, blocked)


def erlang_c(load: ArrayLike, servers: ArrayLike) -> Array:
    """Share of requests that wait, of Poisson arrivals; 1 where servers do not keep up.

    Args:
        load: Arrival rate times mean service time, >= 0.
        servers: >= 1, also infinite.
    """
    offered, count = _pair(load, servers)
    kept_up = offered < count
    blocked = erlang_b(np.where(kept_up, offered, 0.0), count)
    used = np.where(kept_up, offered / count, 0.0)
    return np.where(kept_up, blocked / (1 - used * (1 - blocked)), 1.0)


def mean_wait_ms(
    rate_per_s: ArrayLike,
    service_ms: ArrayLike,
    servers: ArrayLike,
    arrival_variability: ArrayLike = POISSON,
    service_variability: ArrayLike = EXPONENTIAL,
) -> Array:
    """Mean time in the queue, before service.

    Args:
        rate_per_s: Requests per second that come to all servers together, >= 0.
        service_ms: Mean service time, >= 0.
        servers: Requests that are worked on at a time, >= 1; infinite never make anybody wait.
        arrival_variability: Squared coefficient of variation of the times between arrivals, >= 0.
        service_variability: Of service times, >= 0.

    Returns:
        Milliseconds; infinite where the servers do not keep up.
    """
    asked = (rate_per_s, service_ms, servers, arrival_variability, service_variability)
    return _mean(*_wait(*asked))


def wait_percentile_ms(
    rate_per_s: ArrayLike,
    service_ms: ArrayLike,
    servers: ArrayLike,
    arrival_variability: ArrayLike = POISSON,
    service_variability: ArrayLike = EXPONENTIAL,
    *,
    q: ArrayLike,
) -> Array:
    """Time in the queue that a share `q` of the requests does not exceed.

    Those that wait are taken to wait an exponential time, as they do where service times are.

    Args:
        rate_per_s: As for `mean_wait_ms`, and so on.
        service_ms: Likewise.
        servers: Likewise.
        arrival_variability: Likewise.
        service_variability: Likewise.
        q: In [0, 1).

    Returns:
        Milliseconds; infinite where the servers do not keep up.

    Raises:
        ValueError: `q` is out of range.
    """
    asked = (rate_per_s, service_ms, servers, arrival_variability, service_variability)
    return _percentile(*_wait(*asked), q)


def waits_ms(
    rate_per_s: ArrayLike,
    service_ms: ArrayLike,
    servers: ArrayLike,
    arrival_variability: ArrayLike = POISSON,
    service_variability: ArrayLike = EXPONENTIAL,
    *,
    q: ArrayLike,
) -> tuple[Array, Array]:
    """`mean_wait_ms` and `wait_percentile_ms`, for which what both need is computed once."""
    asked = (rate_per_s, service_ms, servers, arrival_variability, service_variability)
    chance, if_waiting = _wait(*asked)
    return _mean(chance, if_waiting), _percentile(chance, if_waiting, q)


def _mean(chance: Array, if_waiting: Array) -> Array:
    return np.where(np.isinf(if_waiting), np.inf, chance * if_waiting)


def _percentile(chance: Array, if_waiting: Array, q: ArrayLike) -> Array:
    share = np.asarray(q, dtype=np.float64)
    if not ((share >= 0) & (share < 1)).all():
        raise ValueError(f"q={q!r}: want a share in [0, 1)")
    periods = np.log(np.maximum(chance / (1 - share), 1.0))
    finite = np.where(np.isinf(if_waiting), 0.0, if_waiting)
    return np.where(np.isinf(if_waiting), np.inf, periods * finite)


def _wait(
    rate_per_s: ArrayLike,
    service_ms: ArrayLike,
    servers: ArrayLike,
    arrival_variability: ArrayLike,
    service_variability: ArrayLike,
) -> tuple[Array, Array]:
    """How likely a request waits, and how long on average if it does."""
    rate, service, count, arrivals, lengths = (
        np.asarray(value, dtype=np.float64)
        for value in (rate_per_s, service_ms, servers, arrival_variability, service_variability)
    )
    for name, value in (
        ("rate_per_s", rate),
        ("service_ms", service),
        ("arrival_variability", arrivals),
        ("service_variability", lengths),
    ):
        if not ((value >= 0) & (value < math.inf)).all():
            raise ValueError(f"{name}={value}: must be finite, and not negative")
    offered, count = _pair(rate * service / 1000, count)
    spare = count - offered
    kept_up = spare > 0
    exponential = service / np.where(kept_up, spare, 1.0)
    if_waiting = np.where(kept_up, exponential * (arrivals + lengths) / 2, np.inf)
    return erlang_c(offered, count), if_waiting


def _pair(load: ArrayLike, servers: ArrayLike) -> tuple[Array, Array]:
    offered, count = np.asarray(load, dtype=np.float64), np.asarray(servers, dtype=np.float64)
    if not ((offered >= 0) & (offered < math.inf)).all():
        raise ValueError(f"load={load!r}: must be finite, and not negative")
    if not (count >= 1).all():
        raise ValueError(f"servers={servers!r}: at least 1")
    shaped = np.broadcast_arrays(offered, count)
    return shaped[0], shaped[1]
