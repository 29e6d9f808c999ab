"""Waiting times against closed forms and against a hand-written birth and death chain."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offloading.queueing import erlang_b, erlang_c, mean_wait_ms, wait_percentile_ms

LOADS = [(0.3, 1), (0.95, 1), (1.7, 2), (3.0, 8), (47.0, 50), (480.0, 500)]


def busy_probabilities(load, servers, longest=60_000):
    """Stationary distribution of the number of requests in M/M/c, state by state."""
    log = [0.0]
    for k in range(1, longest):
        log.append(log[-1] + math.log(load / min(k, servers)))
    weights = np.exp(np.array(log) - max(log))
    return weights / weights.sum()


@pytest.mark.parametrize(("load", "servers"), LOADS)
def test_erlang_c_is_the_chance_that_all_are_busy_in_the_chain(load, servers):
    chain = busy_probabilities(load, servers)
    assert erlang_c(load, servers) == pytest.approx(chain[servers:].sum(), rel=1e-9)


@pytest.mark.parametrize(("load", "servers"), LOADS)
def test_erlang_b_follows_its_recursion(load, servers):
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = load * blocked / (k + load * blocked)
    assert erlang_b(load, servers) == pytest.approx(blocked, rel=1e-9)


@pytest.mark.parametrize(("load", "servers"), LOADS)
def test_the_mean_wait_is_the_length_of_the_queue_over_the_rate(load, servers):
    chain = busy_probabilities(load, servers)
    queue = (np.arange(chain.size - servers) * chain[servers:]).sum()
    rate = load / 0.02  # of 20 ms each
    assert mean_wait_ms(rate, 20.0, servers) == pytest.approx(1000 * queue / rate, rel=1e-9)


def test_one_server_with_equal_times_waits_half_as_long_as_with_exponential_ones():
    rate, service = 40.0, 20.0
    used = rate * service / 1000
    wanted = used * service / (2 * (1 - used))  # Pollaczek and Khinchine
    assert mean_wait_ms(rate, service, 1, 1.0, 0.0) == pytest.approx(wanted)
    assert mean_wait_ms(rate, service, 1, 1.0, 1.0) == pytest.approx(2 * wanted)


def test_a_wait_of_one_server_grows_with_the_second_moment_of_its_times():
    rate, times = 10.0, np.array([10.0, 10.0, 10.0, 210.0])  # ms, equally likely
    second = (times**2).mean()
    wanted = rate / 1000 * second / (2 * (1 - rate * times.mean() / 1000))
    variability = times.var() / times.mean() ** 2
    assert mean_wait_ms(rate, times.mean(), 1, 1.0, variability) == pytest.approx(wanted)


@pytest.mark.parametrize("q", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize(("load", "servers"), LOADS)
def test_the_percentile_leaves_its_share_above_it(load, servers, q):
    wait = float(wait_percentile_ms(load / 0.02, 20.0, servers, q=q))
    above = erlang_c(load, servers) * math.exp(-(servers - load) * wait / 20.0)
    assert above == pytest.approx(min(1 - q, float(erlang_c(load, servers))), rel=1e-9)


def test_percentiles_integrate_to_the_mean():
    q = (np.arange(200_000) + 0.5) / 200_000
    waits = wait_percentile_ms(38.0, 50.0, 2, 1.0, 3.0, q=q)
    assert waits.mean() == pytest.approx(float(mean_wait_ms(38.0, 50.0, 2, 1.0, 3.0)), rel=1e-3)


def test_infinite_servers_make_nobody_wait_and_too_few_make_everybody_wait_for_ever():
    servers = np.array([math.inf, 2.0, 3.0, 1.0])
    waits = mean_wait_ms(100.0, 20.0, servers)
    assert waits[0] == 0
    assert np.isinf(waits[[1, 3]]).all()
    assert 0 < waits[2] < math.inf
    late = wait_percentile_ms(100.0, 20.0, servers, q=0.99)
    assert late[0] == 0
    assert np.isinf(late[[1, 3]]).all()


def test_a_clock_that_feeds_equal_times_makes_nobody_wait_until_it_is_too_fast():
    assert mean_wait_ms(49.0, 20.0, 1, 0.0, 0.0) == 0
    assert mean_wait_ms(51.0, 20.0, 1, 0.0, 0.0) == math.inf


def test_nobody_waits_where_nothing_comes_or_nothing_is_to_do():
    assert mean_wait_ms(0.0, 20.0, 1) == 0
    assert wait_percentile_ms(10.0, 0.0, 1, q=0.99) == 0


def test_arrays_are_taken_element_by_element():
    service, servers = np.array([[5.0], [15.0]]), np.array([1.0, 4.0, math.inf])
    waits = mean_wait_ms(60.0, service, servers, 0.5, 0.2)
    assert waits.shape == (2, 3)
    assert waits[1, 1] == mean_wait_ms(60.0, 15.0, 4, 0.5, 0.2)


@settings(derandomize=True, database=None, deadline=None)
@given(st.floats(0.01, 0.99), st.integers(1, 300))
def test_more_load_never_waits_less_and_more_servers_never_wait_longer(used, servers):
    rate = used * servers / 0.02
    wait = mean_wait_ms(rate, 20.0, servers)
    assert mean_wait_ms(rate * 1.005, 20.0, servers) >= wait
    assert mean_wait_ms(rate, 20.0, servers + 1) <= wait


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((-1.0, 20.0, 1), "rate_per_s"),
        ((1.0, math.nan, 1), "service_ms"),
        ((1.0, 20.0, 0), "servers"),
        ((1.0, 20.0, 1, -0.1), "arrival_variability"),
        ((1.0, 20.0, 1, 1.0, math.inf), "service_variability"),
    ],
)
def test_what_makes_no_sense_is_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        mean_wait_ms(*arguments)


@pytest.mark.parametrize("q", [-0.1, 1.0, math.nan])
def test_a_percentile_out_of_range_is_refused(q):
    with pytest.raises(ValueError, match="share in"):
        wait_percentile_ms(1.0, 20.0, 1, q=q)
