"""Rates that change in time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloading.bandwidth import BandwidthTrace, TraceError
from offloading.emulation.shaper import Direction, Shaper
from splitbench.link import FRAMING, Link

STEPS = BandwidthTrace(seconds=(0.0, 1.0, 2.0), mbps=(8.0, 0.0, 4.0), duration_s=4.0, source="test")


class TestBandwidthTrace:
    def test_has_at_each_time_the_rate_that_began_last_and_starts_again(self):
        assert [STEPS.at(t) for t in (0, 0.5, 1, 1.9, 2, 3.99, 4, 5)] == [8, 8, 0, 0, 4, 4, 8, 0]
        assert STEPS.mean_mbps == 4.0

    def test_lets_bits_pass_at_the_rates_that_hold_meanwhile(self):
        assert STEPS.finish_s(0, 4e6) == pytest.approx(0.5)
        assert STEPS.finish_s(0, 8e6) == pytest.approx(1.0)  # not after the pause
        assert STEPS.finish_s(0.5, 6e6) == pytest.approx(2.5)  # 4 million before it, 2 after
        assert STEPS.finish_s(1.5, 0) == 1.5
        assert STEPS.finish_s(3.0, 4e6 + 8e6) == pytest.approx(5.0)
        assert STEPS.finish_s(4.5, 6e6) == pytest.approx(6.5)
        assert STEPS.finish_s(0, 10 * 16e6) == pytest.approx(40.0)

    @given(st.floats(0, 20), st.floats(1, 1e8), st.floats(1, 1e8))
    def test_sends_one_after_the_other_what_it_sends_together(self, start, first, second):
        apart = STEPS.finish_s(STEPS.finish_s(start, first), second)
        assert apart == pytest.approx(STEPS.finish_s(start, first + second), abs=1e-6)

    @given(st.integers(0, 1000), st.floats(0, 100), st.floats(0, 1e8))
    def test_is_never_slower_with_more_bandwidth(self, seed, start, bits):
        slow = BandwidthTrace.synthetic(mean_mbps=5, duration_s=20, seed=seed)
        fast = BandwidthTrace(
            seconds=slow.seconds,
            mbps=tuple(1.5 * rate for rate in slow.mbps),
            duration_s=slow.duration_s,
            source="faster",
        )
        assert fast.finish_s(start, bits) <= slow.finish_s(start, bits) + 1e-9

    def test_reads_two_columns_with_and_without_a_header(self):
        plain = BandwidthTrace.from_csv("10,5\n11,6\n12,7\n", source="t")
        assert (plain.seconds, plain.mbps, plain.duration_s) == ((0, 1, 2), (5, 6, 7), 3)
        named = BandwidthTrace.from_csv("cell,Mbps,Seconds\na,5,10\nb,6,11\nc,7,12\n", source="t")
        assert named == plain

    def test_reads_a_list_of_packets(self):
        # Three in the first tenth of a second, one in the second.
        trace = BandwidthTrace.from_packets("0\n50\n99\n150\n", source="t")
        assert trace.mbps == pytest.approx((0.36, 0.12))
        assert trace.duration_s == pytest.approx(0.2)

    def test_reads_either_from_a_file(self, tmp_path):
        (tmp_path / "a.csv").write_text("0,5\n1,6\n")
        (tmp_path / "b.up").write_text("0\n7\n")
        assert BandwidthTrace.read(tmp_path / "a.csv").mbps == (5, 6)
        assert BandwidthTrace.read(tmp_path / "b.up").source == "b.up"
        with pytest.raises(TraceError, match="cannot read the trace"):
            BandwidthTrace.read(tmp_path / "c.csv")

    @pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "0,x\n", "0,-1\n", "1,2\n0,2\n", "0,0\n"])
    def test_refuses_what_is_no_trace(self, text):
        with pytest.raises(TraceError):
            BandwidthTrace.from_csv(text, source="t")
        with pytest.raises(TraceError):
            BandwidthTrace.from_packets("1,2", source="t")

    def test_says_that_it_is_invented_and_has_the_mean_that_was_asked_for(self):
        trace = BandwidthTrace.synthetic(mean_mbps=7.0, seed=3)
        assert trace.mean_mbps == pytest.approx(7.0)
        assert "synthetic" in trace.source
        assert trace == BandwidthTrace.synthetic(mean_mbps=7.0, seed=3)
        assert trace != BandwidthTrace.synthetic(mean_mbps=7.0, seed=4)


def direction(**changes):
    return Direction(**{"mbps": 8.0, "delay_ms": 10.0} | changes)


class TestShaper:
    def test_lets_a_message_arrive_after_its_bits_and_the_delay(self):
        shaper = Shaper(direction())
        assert shaper.arrival_s(5.0, 1000) == pytest.approx(5.011)

    def test_queues_what_is_sent_meanwhile_and_saves_no_credit(self):
        shaper = Shaper(direction())
        assert shaper.arrival_s(0.0, 1000) == pytest.approx(0.011)
        assert shaper.arrival_s(0.0, 1000) == pytest.approx(0.012)
        assert shaper.arrival_s(9.0, 1000) == pytest.approx(9.011)

    def test_agrees_with_the_formula_of_the_link(self):
        link = Link(name="t", up_mbps=6.0, down_mbps=13.0, rtt_ms=40.0)
        size = 123_456
        up = Shaper(Direction.up(link)).arrival_s(0.0, size * FRAMING)
        down = Shaper(Direction.down(link)).arrival_s(0.0, size * FRAMING)
        assert 1000 * up == pytest.approx(link.up_ms(size))
        assert 1000 * down == pytest.approx(link.down_ms(size))

    def test_loses_as_many_packets_as_asked_for_and_no_others(self):
        shaper = Shaper(direction(loss=0.2), seed=1)
        arrivals = [shaper.arrival_s(i, 100) for i in range(2000)]
        assert arrivals.count(None) == shaper.lost
        assert 330 < shaper.lost < 470  # four standard deviations

    def test_loses_what_the_queue_cannot_hold(self):
        shaper = Shaper(direction(queue_bytes=2500))
        arrivals = [shaper.arrival_s(0.0, 1000) for _ in range(5)]
        assert [a is None for a in arrivals] == [False, False, False, True, True]

    def test_varies_the_delay_but_keeps_the_order(self):
        shaper = Shaper(direction(jitter_ms=5.0), seed=2)
        arrivals = [shaper.arrival_s(i / 1000, 1) for i in range(1000)]
        assert arrivals == sorted(arrivals)
        apart = [shaper.arrival_s(10.0 + i, 1) - 10 - i for i in range(1000)]
        mean = sum(apart) / 1000
        spread = (sum((a - mean) ** 2 for a in apart) / 1000) ** 0.5
        assert mean == pytest.approx(0.010, rel=0.1)
        assert spread == pytest.approx(0.005, rel=0.1)

    def test_follows_a_trace_from_when_it_begins(self):
        shaper = Shaper(direction(delay_ms=0.0, trace=STEPS), began_s=100.0)
        assert shaper.arrival_s(100.0, 1e6) == pytest.approx(101.0)
        assert shaper.arrival_s(101.5, 0.5e6) == pytest.approx(103.0)

    def test_can_be_told_to_another_process(self):
        import json

        told = direction(trace=STEPS, jitter_ms=1.0)
        assert Direction.of_plain(json.loads(json.dumps(told.plain()))) == told
