"""Changing the plan while the network changes."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offloading.adaptation.estimator import HarmonicMean, MovingAverage
from offloading.adaptation.load import Load
from offloading.adaptation.menu import Choice, Menu, MenuError
from offloading.adaptation.policy import Bandit, Feedback, Static, Table
from offloading.adaptation.rate import STALE_S, Rate
from offloading.adaptation.replay import Clairvoyant, latencies, replay
from offloading.bandwidth import BandwidthTrace, TraceError
from offloading.figure import Figure
from offloading.option import Option
from offloading.plan import Phase, Placement, Plan, Segment
from splitbench.link import Link


def choice(name, *, fixed_ms=10.0, server_ms=0.0, payload_bytes=0.0, leakage=0.0):
    return Choice(
        name=name,
        fixed_ms=fixed_ms,
        server_ms=server_ms,
        payload_bytes=payload_bytes,
        leakage=leakage,
    )


LOCAL = choice("local", fixed_ms=100.0)
DEEP = choice("deep", fixed_ms=60.0, payload_bytes=10_000, leakage=0.2)
EARLY = choice("early", fixed_ms=20.0, server_ms=5.0, payload_bytes=100_000, leakage=0.5)
IMAGE = choice("image", fixed_ms=10.0, server_ms=8.0, payload_bytes=150_000, leakage=1.0)
EVERY = (LOCAL, DEEP, EARLY, IMAGE)
FAST = BandwidthTrace(seconds=(0.0,), mbps=(1000.0,), duration_s=1.0, source="test")
OUTAGE = BandwidthTrace(
    seconds=(0.0, 60.0, 120.0), mbps=(200.0, 0.5, 200.0), duration_s=240.0, source="test"
)
STEP = BandwidthTrace(seconds=(0.0, 60.0), mbps=(200.0, 1.0), duration_s=120.0, source="test")
TIMES = np.arange(0, 120, 0.5)


def menu(limit=0.6):
    return Menu(EVERY, leakage_limit=limit)


def policies(plans, trace):
    return [
        *(Static(plans, i) for i in range(len(plans))),
        Table(plans, HarmonicMean(), mbps=20.0),
        Table(plans, MovingAverage(), mbps=20.0, margin=0.0, dwell_s=0.0),
        Bandit(plans, MovingAverage(), mbps=20.0),
        Clairvoyant(plans, trace),
    ]


choices_of_any_kind = st.lists(
    st.builds(
        Choice,
        name=st.uuids().map(str),
        fixed_ms=st.floats(0, 500),
        server_ms=st.floats(0, 100),
        payload_bytes=st.one_of(st.just(0.0), st.floats(1, 1e6)),
        leakage=st.floats(0, 1),
    ),
    min_size=1,
    max_size=6,
)


class TestMenu:
    def test_holds_no_plan_above_the_limit(self):
        plans = menu(0.3)
        assert [c.name for c in plans.choices] == ["local", "deep"]
        assert plans.refused == {"early": ("leakage",), "image": ("leakage",)}

    def test_holds_no_plan_that_exceeds_another_limit(self):
        shallow = dataclasses.replace(EARLY, exceeds=("at_least", "leakage"))
        plans = Menu([LOCAL, shallow], leakage_limit=0.3)
        assert plans.choices == (LOCAL,)
        assert plans.refused == {"early": ("at_least", "leakage")}

    def test_says_which_limits_nothing_keeps(self):
        dear = dataclasses.replace(DEEP, exceeds=("usd_per_million",))
        said = r"exceeded: leakage, usd_per_million; the least L is 0\.2"
        with pytest.raises(MenuError, match=said):
            Menu([dear, EARLY], leakage_limit=0.1)

    @given(choices_of_any_kind, st.floats(0, 1), st.integers(0, 100))
    @settings(max_examples=30, deadline=None)
    def test_no_policy_ever_picks_a_plan_above_the_limit(self, choices, limit, seed):
        if min(c.leakage for c in choices) > limit:
            with pytest.raises(MenuError):
                Menu(choices, leakage_limit=limit)
            return
        plans = Menu(choices, leakage_limit=limit)
        allowed = {c.name for c in choices if c.leakage <= limit}
        trace = BandwidthTrace.synthetic(mean_mbps=8, spread=1.0, duration_s=20, seed=seed)
        for policy in policies(plans, trace):
            found = replay(policy, plans, trace, np.arange(0, 20, 1.0))
            assert {found.plans[i] for i in found.chosen} <= allowed

    def test_takes_a_plan_apart_so_that_its_latency_follows_the_rate(self):
        link = Link(name="l", up_mbps=10.0, down_mbps=50.0, rtt_ms=20.0)
        slower = Link(name="l", up_mbps=2.0, down_mbps=50.0, rtt_ms=20.0)
        assumed = Figure(0.0, "assumed")

        def plan(over):
            ms = {
                ("compute", "phone"): 30.0,
                ("encode", "phone"): 1.0,
                ("network", "phone>cloud"): over.up_ms(50_000.0),
                ("queue", "cloud"): 2.0,
                ("decode", "cloud"): 0.5,
                ("compute", "cloud"): 4.0,
                ("network", "cloud>phone"): over.down_ms(64.0),
            }
            option = Option(
                cut="c",
                name="x",
                payload_bytes=50_000.0,
                leakage=Figure(0.4, "measured"),
                accuracy=assumed,
                accuracy_drop=assumed,
            )
            segments = (
                Segment(tier="phone", start="input", end="c"),
                Segment(tier="cloud", start="c", end="output"),
            )
            return Plan(
                placement=Placement(segments=segments, option=option),
                scenario="s",
                model="m",
                figures={"leakage": Figure(0.4, "measured")},
                phases=tuple(
                    Phase(kind=k, where=w, ms=Figure(v, "assumed")) for (k, w), v in ms.items()
                ),
            )

        found = Choice.of(plan(link), link)
        totals = [sum(p.ms.value for p in plan(over).phases) for over in (link, slower)]
        assert found.latency_ms(np.array([10.0, 2.0])) == pytest.approx(totals)
        assert (found.server_ms, found.leakage) == (4.5, 0.4)


class TestLoad:
    def test_holds_each_number_until_the_next_one(self, tmp_path):
        file = tmp_path / "load.csv"
        for header in ("", "seconds,requests waiting\n"):
            file.write_text(f"{header}0,1\n10,30\n20,0\n")
            found = Load.read(file)
            assert found.source == "load.csv"
            assert not found.is_nothing
            assert [*found.at(np.array([0.0, 9.9, 10.0, 19.0, 20.0, 900.0]))] == [
                1,
                1,
                30,
                30,
                0,
                0,
            ]

    def test_of_one_number_is_the_same_at_all_times(self):
        assert [*Load.constant(3).at(np.array([0.0, 7.0]))] == [3, 3]
        assert Load.constant(0).is_nothing

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("5,1\n6,2\n", "must be of second 0"),
            ("0,1\n5,2\n5,3\n", "must ascend"),
            ("0,1\n5,-2\n", "numbers >= 0"),
            ("0,nan\n", "numbers >= 0"),
            ("0,1\n5\n", "no two numbers"),
            ("seconds,beauty\n0,1\n", "columns"),
            ("", "no rows"),
        ],
    )
    def test_what_is_none_is_refused(self, tmp_path, text, said):
        (tmp_path / "load.csv").write_text(text)
        with pytest.raises(TraceError, match=said) as refusal:
            Load.read(tmp_path / "load.csv")
        assert "load.csv" in str(refusal.value)

    def test_a_file_that_is_not_there_and_a_negative_number_are_refused(self, tmp_path):
        with pytest.raises(TraceError, match="cannot read the load"):
            Load.read(tmp_path / "nowhere.csv")
        with pytest.raises(TraceError, match="load=-1"):
            Load.constant(-1)


class TestEstimators:
    def test_mean_of_the_last_transfers_is_that_of_times_per_bit(self):
        mean = HarmonicMean(window=2)
        assert mean.mbps is None
        for rate in (1000.0, 10.0, 30.0):
            mean.observe(rate)
        assert mean.mbps == pytest.approx(15.0)

    def test_average_moves_towards_what_was_seen(self):
        average = MovingAverage(weight=0.5)
        assert average.mbps is None
        average.observe(10.0)
        assert average.mbps == pytest.approx(10.0)
        average.observe(30.0)
        assert average.mbps == pytest.approx(15.0)

    @pytest.mark.parametrize(
        "make", [lambda: HarmonicMean(window=0), lambda: MovingAverage(weight=0.0)]
    )
    def test_settings_that_mean_nothing_are_refused(self, make):
        with pytest.raises(ValueError, match=r"window=0|weight=0"):
            make()


class TestTable:
    def test_has_the_best_plan_for_every_rate(self):
        plans = menu()
        table = Table(plans, HarmonicMean(), mbps=20.0)
        for low, high, best in zip(table.edges, table.edges[1:], table.best, strict=False):
            assert best == plans.latency_ms(float(np.sqrt(low * high))).argmin()

    def test_changes_when_the_network_does_and_not_all_the_time(self):
        plans = menu()
        found = replay(Table(plans, HarmonicMean(window=2), mbps=100.0), plans, STEP, TIMES)
        before, after = found.chosen[TIMES < 60], found.chosen[TIMES > 65]
        assert {found.plans[i] for i in before} == {"early"}
        assert found.plans[np.bincount(after).argmax()] == "local"
        worst = max(replay(Static(plans, i), plans, STEP, TIMES).mean_regret_ms for i in range(3))
        assert found.mean_regret_ms < worst / 4

    def test_sends_now_and_then_where_it_would_never_learn_otherwise(self):
        back = BandwidthTrace(
            seconds=(0.0, 30.0), mbps=(0.5, 200.0), duration_s=120.0, source="test"
        )
        plans = menu()
        found = replay(Table(plans, HarmonicMean(window=1), mbps=0.5), plans, back, TIMES)
        assert found.plans[found.chosen[TIMES == 29.5][0]] == "local"
        assert found.plans[found.chosen[-1]] == "early"

    def test_stays_for_a_while_and_does_not_change_for_little(self):
        waver = BandwidthTrace(
            seconds=tuple(np.arange(120.0)),
            mbps=tuple([14.0, 22.0] * 60),  # about the boundary of two plans
            duration_s=120.0,
            source="test",
        )
        plans = menu()
        changes = [
            replay(Table(plans, HarmonicMean(window=1), mbps=20.0, **how), plans, waver, TIMES)
            for how in ({"margin": 0.0, "dwell_s": 0.0}, {"margin": 0.0, "dwell_s": 30.0}, {})
        ]
        often, seldom, _ = (found.changes_per_minute for found in changes)
        assert seldom <= 2 < often
        firm = Table(plans, HarmonicMean(window=1), mbps=20.0, margin=0.9, dwell_s=0.0)
        assert replay(firm, plans, waver, TIMES).changes_per_minute == 0

    def test_turns_away_from_a_server_that_says_it_is_busy(self):
        plans = Menu([LOCAL, EARLY], leakage_limit=1.0)
        table = Table(plans, HarmonicMean(), mbps=1000.0, dwell_s=0.0)
        assert table.choose(0.0) == 1
        table.learn(0.0, Feedback(choice=1, latency_ms=200.0, sent_mbps=1000.0, load=30.0))
        assert table.choose(1.0) == 0


class TestSilence:
    """A device that sends nothing during an outage notices that it is over."""

    @pytest.fixture(params=[Table, Bandit])
    def found(self, request):
        plans = menu()
        policy = request.param(plans, HarmonicMean(), mbps=200.0)
        return replay(policy, plans, OUTAGE, np.arange(0, 240, 0.5))

    def test_it_turns_silent_in_the_outage(self, found):
        during = found.chosen[(found.seconds > 80) & (found.seconds < 120)]
        assert (np.array(found.plans)[during] == "local").mean() > 0.9

    def test_two_requests_to_see_are_enough_afterwards(self, found):
        after = found.chosen[found.seconds > 120 + 2 * STALE_S + 1]
        assert "local" not in np.array(found.plans)[after]

    def test_transfers_from_before_a_silence_do_not_count(self):
        rate = Rate(HarmonicMean(), mbps=5.0, stale_s=10.0)
        for second in range(4):
            rate.observe(second, 1.0)
        rate.observe(12.9, 3.0)
        assert 1.0 < rate.mbps < 3.0
        rate.observe(30.0, 100.0)
        assert rate.mbps == pytest.approx(100.0)


class TestReplay:
    @given(st.integers(0, 1000))
    @settings(max_examples=20, deadline=None)
    def test_nobody_beats_the_clairvoyant_whose_regret_is_nothing(self, seed):
        trace = BandwidthTrace.synthetic(mean_mbps=10, spread=1.2, duration_s=30, seed=seed)
        plans, times = menu(), np.arange(0, 30, 1.0)
        found = [replay(policy, plans, trace, times) for policy in policies(plans, trace)]
        assert (found[-1].regret_ms == 0).all()
        for each in found:
            assert (each.regret_ms >= 0).all()
            assert each.violations >= each.unavoidable

    @given(st.integers(0, 1000), st.floats(1.0, 10.0))
    @settings(max_examples=20, deadline=None)
    def test_more_bandwidth_is_never_slower_for_any_plan(self, seed, factor):
        slow = BandwidthTrace.synthetic(mean_mbps=10, spread=1.2, duration_s=30, seed=seed)
        rates = tuple(factor * rate for rate in slow.mbps)
        fast = BandwidthTrace(seconds=slow.seconds, mbps=rates, duration_s=30.0, source="test")
        times = np.arange(0, 30, 1.0)
        before, after = (latencies(menu(), t, times, 0 * times) for t in (slow, fast))
        assert (after <= before + 1e-6).all()

    def test_takes_the_time_that_the_formula_says_at_one_rate(self):
        plans = menu(1.0)
        found = latencies(plans, FAST, np.array([0.0, 7.3]), np.array([0.0, 2.0]))
        assert found[:, 0] == pytest.approx(plans.latency_ms(1000.0))
        assert found[:, 1] == pytest.approx(plans.latency_ms(1000.0, 2.0))

    @pytest.mark.parametrize("policy", [Table, Bandit])
    def test_who_sends_is_told_the_load_of_that_time(self, policy):
        told = []

        class Listening(policy):
            def learn(self, now_s, outcome):
                told.append((now_s, outcome.load))
                super().learn(now_s, outcome)

        plans = menu()
        load = np.where(TIMES < 60, 0.0, 25.0)
        found = replay(Listening(plans, HarmonicMean(), mbps=20.0), plans, STEP, TIMES, load=load)
        sends = np.array([plans.choices[number].payload_bytes > 0 for number in found.chosen])
        assert sends.any()
        assert [number for _, number in told] == [
            float(waits) if sent else None for waits, sent in zip(load, sends, strict=True)
        ]
        assert (found.waiting == load).all()

    def test_the_clairvoyant_knows_the_load(self):
        plans = Menu([LOCAL, EARLY], leakage_limit=1.0)
        load = np.where(TIMES < 60, 0.0, 25.0)
        known = dict(zip(TIMES.tolist(), load.tolist(), strict=True))
        found = replay(Clairvoyant(plans, FAST, known), plans, FAST, TIMES, load=load)
        assert (found.regret_ms == 0).all()
        assert {*found.chosen[TIMES < 60]} == {1}
        assert {*found.chosen[TIMES >= 60]} == {0}

    def test_counts_what_is_late_and_what_had_to_be(self):
        plans = menu()
        local = replay(Static(plans, 0), plans, STEP, TIMES, deadline_ms=90.0)
        assert local.violations == 1.0
        clairvoyant = replay(Clairvoyant(plans, STEP), plans, STEP, TIMES, deadline_ms=90.0)
        assert clairvoyant.violations == clairvoyant.unavoidable == pytest.approx(0.5, abs=0.02)

    def test_gives_each_request_a_value_in_every_array(self):
        plans = menu()
        found = replay(Table(plans, HarmonicMean(), mbps=5.0), plans, STEP, TIMES)
        for values in (found.mbps, found.estimates_mbps, found.chosen, found.latency_ms):
            assert values.shape == TIMES.shape
        assert found.estimates_mbps[0] == 5.0
        assert found.mbps[0] == 200.0


class TestBandit:
    def test_learns_without_a_profile_what_is_fast(self):
        plans = menu()
        times = np.arange(0, 400, 0.5)
        found = replay(Bandit(plans, MovingAverage(), mbps=20.0), plans, STEP, times)
        late = times > 240  # it has seen either network
        worst = max(replay(Static(plans, i), plans, STEP, times).mean_regret_ms for i in range(3))
        assert found.regret_ms[late].mean() < worst / 3
        assert {*found.chosen} == {0, 1, 2}

    def test_refuses_settings_that_mean_nothing(self):
        with pytest.raises(ValueError, match="boldness"):
            Bandit(menu(), MovingAverage(), mbps=1.0, boldness=-1.0)
        with pytest.raises(ValueError, match="margin"):
            Table(menu(), MovingAverage(), mbps=1.0, margin=-1.0)
