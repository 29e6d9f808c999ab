"""Bursts and recorded requests: their rates, how variable they are, and files that are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offloading.arrivals.bursty import Bursty
from offloading.arrivals.trace import SAMPLE, Trace, TraceError, minute_counts
from offloading.workload import Deterministic, Poisson, Workload

HEADER = "HashOwner,HashApp,HashFunction,Trigger,1,2,3"


def every_kind():
    return [
        Deterministic(rate_per_s=3.0),
        Poisson(rate_per_s=3.0),
        Bursty(rate_per_s=3.0, peak=4.0, share=0.2, burst_s=2.0),
        Bursty(rate_per_s=3.0, peak=5.0, share=0.2, burst_s=2.0),
        Trace(path=str(SAMPLE), function="daily", scale=4.0),
        Trace(),
    ]


@pytest.mark.parametrize("arrivals", every_kind(), ids=repr)
def test_the_repr_builds_the_same_again(arrivals):
    assert repr(eval(repr(arrivals))) == repr(arrivals)


@pytest.mark.parametrize("arrivals", every_kind(), ids=repr)
def test_times_ascend_and_are_as_many_as_were_asked_for(arrivals):
    for count in (0, 1, 1000):
        times = arrivals.times(count, rng=np.random.default_rng(0))
        assert times.shape == (count,)
        assert (np.diff(times) >= 0).all()
        assert (times >= 0).all()


@pytest.mark.parametrize("arrivals", every_kind(), ids=repr)
def test_the_same_generator_gives_the_same_times(arrivals):
    first, again, other = (arrivals.times(50, rng=np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert isinstance(arrivals, Deterministic) or (first != other).any()


def rounds(arrivals):
    """Enough arrivals to see the mean: whole passes of a trace, many cycles otherwise."""
    return 3 * int(arrivals.counts.sum() * arrivals.scale) if isinstance(arrivals, Trace) else 90000


@pytest.mark.parametrize("arrivals", every_kind(), ids=repr)
def test_long_runs_have_the_rate_that_is_claimed(arrivals):
    count = rounds(arrivals)
    times = arrivals.times(count, rng=np.random.default_rng(3))
    assert count / times[-1] == pytest.approx(arrivals.rate_per_s, rel=0.03)


@pytest.mark.parametrize("arrivals", every_kind(), ids=repr)
def test_long_runs_are_as_variable_as_is_claimed(arrivals):
    gaps = np.diff(arrivals.times(rounds(arrivals), rng=np.random.default_rng(4)))
    measured = gaps.var() / gaps.mean() ** 2
    assert measured == pytest.approx(arrivals.variability, rel=0.05, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 100), st.floats(1.01, 50), st.floats(0.01, 1), st.floats(0.01, 1000))
def test_the_variability_of_bursts_is_that_of_the_process_of_matrices(rate, peak, fill, length):
    arrivals = Bursty(rate_per_s=rate, peak=peak, share=fill / peak, burst_s=length)
    rates = np.diag(arrivals.rates_per_s)
    ends = np.array([[-1.0, 1.0], [1.0, -1.0]]) / np.array(arrivals.lengths_s)[:, None]
    stays = np.array([arrivals.share, 1 - arrivals.share])
    seen = stays @ rates / (stays @ rates).sum()  # state in which a request finds the process
    inverse = np.linalg.inv(rates - ends)
    mean, second = seen @ inverse.sum(1), 2 * seen @ inverse @ inverse.sum(1)
    assert mean == pytest.approx(1 / rate, rel=1e-6)
    assert arrivals.variability == pytest.approx(second / mean**2 - 1, rel=1e-6)


def test_bursts_that_hardly_last_are_poisson():
    assert Bursty(rate_per_s=1.0, burst_s=1e-6).variability == pytest.approx(1, abs=1e-4)


def test_nothing_comes_between_bursts_that_bring_everything():
    arrivals = Bursty(rate_per_s=2.0, peak=10.0, share=0.1)
    assert arrivals.rates_per_s == pytest.approx((20.0, 0.0), abs=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate_per_s": 0.0},
        {"rate_per_s": float("nan")},
        {"burst_s": 0.0},
        {"peak": 1.0},
        {"share": 0.0},
        {"peak": 5.0, "share": 0.3},
    ],
)
def test_bursts_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=r"want|must"):
        Bursty(**{"rate_per_s": 1.0, **wrong})


def test_a_trace_replays_its_minutes_and_starts_over():
    arrivals = Trace(path=str(SAMPLE), function="bursts")
    day = int(arrivals.counts.sum())
    times = arrivals.times(2 * day, rng=np.random.default_rng(0))
    seen = np.bincount((times // 60).astype(int), minlength=2880)
    np.testing.assert_array_equal(seen, np.tile(arrivals.counts, 2))


def test_the_sample_says_that_it_is_made_up_and_has_a_day_of_minutes():
    assert "Made up, not recorded" in SAMPLE.read_text().splitlines()[0]
    assert minute_counts(SAMPLE).shape == (1440,)


def test_rows_are_told_apart_and_added_up(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(f"{HEADER}\no,a,f1,http,1,0,2\no,a,f2,timer,0,5,0\n")
    assert minute_counts(path, "f2").tolist() == [0, 5, 0]
    assert minute_counts(path).tolist() == [1, 5, 2]
    assert Trace(path=str(path), scale=3.0).rate_per_s == pytest.approx(3 * 8 / 180)


@pytest.mark.parametrize(
    ("text", "function", "said"),
    [
        ("a,b\n1,2\n", "", "want a column HashFunction"),
        ("", "", "want a column HashFunction"),
        (f"{HEADER}\no,a,f1,http,1,0,2\n", "g", "0 rows"),
        (f"{HEADER}\no,a,f1,http,1,0,2\no,a,f2,http,1,0,2\n", "f", "2 rows"),
        (f"{HEADER}\no,a,f1,http,1,x,2\n", "", "not a number"),
        (f"{HEADER}\no,a,f1,http,1\n", "", "not a number"),
        (f"{HEADER}\no,a,f1,http,1,-1,2\n", "", "less than no requests"),
        (f"{HEADER}\no,a,f1,http,0,0,0\n", "", "no requests in 3 minutes"),
    ],
)
def test_a_file_that_is_no_trace_is_named_with_what_is_wrong(tmp_path, text, function, said):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(TraceError, match=said) as refusal:
        _ = Trace(path=str(path), function=function).rate_per_s
    assert "trace.csv" in str(refusal.value)


def test_a_missing_file_and_one_that_is_no_text_are_refused(tmp_path):
    with pytest.raises(TraceError, match="cannot read"):
        minute_counts(tmp_path / "nowhere.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match="not a csv file"):
        minute_counts(tmp_path / "bytes.csv")


def test_many_devices_look_like_poisson():
    one = Bursty(rate_per_s=1.0)
    many = Workload(arrivals=one, devices=100)
    assert many.rate_per_s == 100
    assert many.shared_variability == pytest.approx(1 + (one.variability - 1) / 100)
