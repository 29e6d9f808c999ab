"""Invoices to the cent, and the rates at which machines and functions cost the same."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offloading.breakeven import (
    Job,
    always_rented_per_s,
    break_even_per_s,
    cheaper_rented,
    usd_per_million,
)
from offloading.pricing import Function, Hourly, Owned
from offloading.scenario import Hop
from splitbench.link import Link

LAMBDA = Function(usd_per_gb_second=0.0000166667, usd_per_request=2e-7, memory_mb=1769)
M7G = Hourly(usd_per_hour=0.0816, parallel=2)
JOB = Job(busy_ms=100.0)
MILLION = 1_000_000


def test_one_processor_for_a_tenth_of_a_second_costs_three_dollars_and_eight_cents_a_million():
    usd, _ = usd_per_million(LAMBDA, M7G, JOB, [1.0, 100.0])
    assert usd == pytest.approx([3.0793] * 2, abs=1e-4)
    assert usd[0] == pytest.approx(1e6 * (0.0000166667 * 1769 / 1024 * 0.1 + 2e-7))


def test_a_rented_machine_of_eight_cents_breaks_even_at_26_500_an_hour():
    assert 3600 * break_even_per_s(LAMBDA, M7G, JOB) == pytest.approx(26_500, rel=5e-4)


@pytest.mark.parametrize(
    ("memory_mb", "ms", "millions", "gb_seconds", "dollars"),
    [
        (512, 1000.0, 3, 1_500_000.0, 25.00 + 0.60),
        (1769, 100.0, 10, 1_727_539.0625, 28.79 + 2.00),
        (128, 0.2, 100, 12_500.0, 0.21 + 20.00),  # a started millisecond is a millisecond
        (10_240, 900_000.0, 0.001, 9_000_000.0, 150.00),
    ],
)
def test_a_function_sends_its_invoice(memory_mb, ms, millions, gb_seconds, dollars):
    offer = Function(usd_per_gb_second=0.0000166667, usd_per_request=2e-7, memory_mb=memory_mb)
    use = Job(busy_ms=ms).at([1.0])
    billed = memory_mb / 1024 * offer.billed_ms(use) / 1000 * millions * MILLION
    assert billed == pytest.approx(gb_seconds)
    assert round(offer.usd(use).item() * millions * MILLION, 2) == pytest.approx(dollars)


def test_a_function_is_billed_for_its_starts_and_while_it_waits():
    offer = Function(usd_per_gb_second=0.00001, usd_per_request=0.0, memory_mb=2048)
    use = Job(busy_ms=30.2, waiting_ms=50.0, start_ms=10.0).at([1.0])
    assert offer.billed_ms(use).item() == 91
    assert offer.usd(use).item() == pytest.approx(0.00001 * 2 * 0.091)


def test_less_memory_than_a_processor_computes_longer_and_more_does_not_compute_faster():
    half, double = (
        Function(usd_per_gb_second=1.0, usd_per_request=0.0, memory_mb=m) for m in (1024, 4096)
    )
    assert half.stretch == pytest.approx(1769 / 1024)
    assert double.stretch == 1
    assert LAMBDA.stretch == 1


@pytest.mark.parametrize(
    ("rate", "machines", "month"),
    [(0.001, 1, 59.57), (14.0, 1, 59.57), (14.1, 2, 119.14), (100.0, 8, 476.54)],
)
def test_machines_are_paid_for_by_the_month_of_730_hours(rate, machines, month):
    use = JOB.at([rate])
    assert M7G.machines(use).item() == machines  # each works 70 % of 20 a second
    requests = rate * 3600 * 730
    assert round(M7G.usd(use).item() * requests, 2) == pytest.approx(month)


def test_what_one_owns_costs_nothing_more():
    assert Owned().usd(JOB.at([5.0])).item() == 0


def test_traffic_is_paid_by_the_gigabyte():
    link = Link(name="x", up_mbps=1.0, down_mbps=1.0, rtt_ms=0.0)
    hop = Hop(link=link, up_usd_per_gb=0.0, down_usd_per_gb=0.09)
    assert round(hop.usd(150_528, 100_000) * 10 * MILLION, 2) == 90.00


def test_at_the_ends_of_a_range_costs_are_equal_or_a_machine_is_added():
    ranges = cheaper_rented(LAMBDA, M7G, JOB, up_to_per_s=100.0)
    assert [r.machines for r in ranges] == [1, 2, 3, 4, 5, 6, 7, 8]
    capacity = 14.0
    for found in ranges:
        functions, machines = usd_per_million(LAMBDA, M7G, JOB, [found.low_per_s * (1 + 1e-12)])
        begins = found.low_per_s == pytest.approx((found.machines - 1) * capacity)
        assert begins or functions.item() == pytest.approx(machines.item())
        if begins:
            assert machines.item() < functions.item()
    assert ranges[1].low_per_s == pytest.approx(2 * break_even_per_s(LAMBDA, M7G, JOB))
    assert ranges[-1].high_per_s == 100.0


prices = st.floats(0.01, 10.0)


@settings(derandomize=True, database=None, deadline=None)
@given(prices, st.floats(0.1, 2.0), st.integers(1, 4), st.floats(10.0, 500.0), st.floats(0, 300))
def test_ranges_agree_with_prices_rate_by_rate(rent, dearness, parallel, busy_ms, waiting_ms):
    job = Job(busy_ms=busy_ms, waiting_ms=waiting_ms)
    machine = Hourly(usd_per_hour=rent, parallel=parallel)
    function = Function(usd_per_gb_second=0.00002 * dearness, usd_per_request=0.0, memory_mb=2048)
    limit = 200.0
    ranges = cheaper_rented(function, machine, job, up_to_per_s=limit)
    rates = np.random.default_rng(0).uniform(0.01, limit, 300)
    functions, machines = usd_per_million(function, machine, job, rates)
    inside = np.zeros(rates.size, dtype=bool)
    for found in ranges:
        inside |= (rates > found.low_per_s) & (rates <= found.high_per_s)
    close = np.isclose(functions, machines, rtol=1e-6)
    np.testing.assert_array_equal(inside[~close], (machines < functions)[~close])


@settings(derandomize=True, database=None, deadline=None)
@given(prices, st.floats(0.1, 2.0), st.floats(10.0, 500.0))
def test_the_first_and_the_last_crossing_are_those_of_the_ranges(rent, dearness, busy_ms):
    job, machine = Job(busy_ms=busy_ms), Hourly(usd_per_hour=rent)
    function = Function(usd_per_gb_second=0.00002 * dearness, usd_per_request=0.0, memory_mb=2048)
    first, last = (find(function, machine, job) for find in (break_even_per_s, always_rented_per_s))
    ranges = cheaper_rented(function, machine, job, up_to_per_s=300.0)
    assert (first is None) == (last is None)
    if first is None or not ranges:
        assert not ranges
        return
    assert ranges[0].low_per_s == pytest.approx(first)
    assert first <= last
    gaps = [
        (a.high_per_s, b.low_per_s)
        for a, b in pairwise(ranges)
        if b.low_per_s > a.high_per_s * (1 + 1e-9)
    ]
    assert all(low <= last * (1 + 1e-9) for _, low in gaps)
    if last < 150 and gaps:
        assert gaps[-1][1] == pytest.approx(last)


def test_functions_that_cost_less_than_a_machine_that_never_rests_are_never_left():
    dear = Hourly(usd_per_hour=1.0)
    assert break_even_per_s(LAMBDA, dear, JOB) is None
    assert always_rented_per_s(LAMBDA, dear, JOB) is None
    assert cheaper_rented(LAMBDA, dear, JOB, up_to_per_s=1000.0) == []


@pytest.mark.parametrize("wrong", [{"busy_ms": 0.0}, {"busy_ms": 1.0, "waiting_ms": -1.0}])
def test_jobs_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="busy_ms"):
        Job(**wrong)


def test_a_search_without_end_is_refused():
    with pytest.raises(ValueError, match="up_to_per_s"):
        cheaper_rented(LAMBDA, M7G, JOB, up_to_per_s=float("inf"))
