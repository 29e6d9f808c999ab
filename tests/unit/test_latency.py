"""Latency, with a clock that the test turns."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from torch import nn

import configs
from splitbench import latency
from splitbench.codecs.float32 import Float32
from splitbench.latency import Latency, measure, measure_latency, pinned_threads
from splitbench.link import Link

PRESETS = sorted((Path(configs.__file__).parent / "link").glob("*.yaml"))


@pytest.fixture
def clock(monkeypatch):
    state = SimpleNamespace(ms=0.0)
    fake = SimpleNamespace(perf_counter_ns=lambda: int(state.ms * 1e6))
    monkeypatch.setattr(latency, "time", fake)
    return state


def link(**changes):
    return Link(**{"name": "test", "up_mbps": 8.0, "down_mbps": 80.0, "rtt_ms": 20.0} | changes)


class TestLink:
    def test_takes_a_round_trip_and_each_byte_once_with_the_headers_of_its_packets(self):
        packet = 1460 / 1500  # of which so much is payload
        assert link().transfer_ms(0) == 20
        assert link().transfer_ms(1000 * packet) == pytest.approx(21)
        assert link().transfer_ms(1000 * packet, 10_000 * packet) == pytest.approx(22)
        assert link().up_ms(1000 * packet) == pytest.approx(11)
        assert link().down_ms(10_000 * packet) == pytest.approx(11)

    @pytest.mark.parametrize("wrong", [{"jitter_ms": -1.0}, {"loss": 1.0}])
    def test_refuses_what_no_network_does(self, wrong):
        with pytest.raises(ValueError, match="jitter_ms must not be negative"):
            link(**wrong)

    @pytest.mark.parametrize("wrong", [{"up_mbps": 0.0}, {"down_mbps": -1.0}, {"rtt_ms": -1.0}])
    def test_refuses_numbers_that_no_network_has(self, wrong):
        with pytest.raises(ValueError, match="must be positive"):
            link(**wrong)

    @pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
    def test_of_every_preset_has_its_file_name_and_a_source(self, path):
        node = yaml.safe_load(path.read_text())
        assert node.pop("_target_") == "splitbench.link.Link"
        assert Link(**node).name == path.stem
        assert path.read_text().startswith("#")


class TestMeasure:
    def test_passes_values_on_and_times_each_phase_of_each_run(self, clock):
        def phase(ms):
            def run(value):
                clock.ms += ms
                return value + ms

            return run

        got = measure({"first": phase(1), "second": phase(3)}, 0, runs=4, warmup=2)
        assert {k: v.tolist() for k, v in got.items()} == {"first": [1] * 4, "second": [3] * 4}

    def test_goes_through_all_phases_before_it_repeats_one(self):
        seen = []
        phases = {name: lambda _, name=name: seen.append(name) for name in "ab"}
        measure(phases, None, runs=3, warmup=0)
        assert "".join(seen) == "ababab"

    def test_throws_the_warm_up_away(self, clock):
        calls = []

        def slow_at_first(value):
            clock.ms += 100 if len(calls) < 3 else 1
            calls.append(value)

        assert measure({"phase": slow_at_first}, 0, runs=5, warmup=3)["phase"].tolist() == [1] * 5
        assert len(calls) == 8

    def test_runs_without_gradients_and_with_so_many_threads(self):
        seen = []
        before = torch.get_num_threads()

        def look(_):
            seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled()))

        measure({"phase": look}, None, runs=1, warmup=0, threads=before + 1)
        assert seen == [(before + 1, True)]
        assert torch.get_num_threads() == before

    def test_refuses_no_runs(self):
        with pytest.raises(ValueError, match="runs=0"):
            measure({}, None, runs=0)


class TestPinnedThreads:
    def test_gives_the_threads_back_after_an_error(self):
        before = torch.get_num_threads()
        with pytest.raises(ZeroDivisionError), pinned_threads(before + 2):
            1 / (before + 2 - torch.get_num_threads())
        assert torch.get_num_threads() == before

    def test_refuses_no_threads(self):
        with pytest.raises(ValueError, match="threads=0"), pinned_threads(0):
            pass


class TestMeasureLatency:
    @staticmethod
    def parts(clock, seen):
        class Client(nn.Module):
            def forward(self, images):
                clock.ms += 2
                return (images.mean(1, keepdim=True), images[:, :, :2])

        def server(tensors):
            clock.ms += 7
            seen.append([tuple(t.shape) for t in tensors])
            return torch.zeros(1, 10)

        def protect(features):
            clock.ms += 5
            return tuple(-t for t in features)

        return Client(), server, protect

    def test_counts_what_protects_with_the_client_and_hands_the_server_a_batch_of_one(self, clock):
        seen = []
        client, server, protect = self.parts(clock, seen)
        image = torch.rand(3, 4, 4)
        got = measure_latency(client, Float32(), server, image, protect=protect, runs=3, warmup=1)
        assert (got.client_ms_median, got.client_ms_p95, got.server_ms_median) == (7, 7, 7)
        assert (got.encode_ms_median, got.decode_ms_p95, got.runs, got.threads) == (0, 0, 3, 1)
        assert seen == [[(1, 1, 4, 4), (1, 3, 2, 4)]] * 4
        message = Float32().encode([-t[0] for t in client(image[None])])
        assert got.payload_bytes == len(message)

    def test_gives_the_median_and_the_95th_percentile_of_the_runs(self, clock):
        client, _, _ = self.parts(clock, [])
        waits = iter(range(1, 22))

        def server(_):
            clock.ms += next(waits)
            return torch.zeros(1, 10)

        got = measure_latency(client, Float32(), server, torch.rand(3, 4, 4), runs=21, warmup=0)
        assert (got.server_ms_median, got.server_ms_p95) == (11, 20)

    def test_adds_the_modelled_link_to_the_measured_phases(self):
        got = Latency(
            client_ms_median=1,
            client_ms_p95=9,
            encode_ms_median=2,
            encode_ms_p95=9,
            decode_ms_median=3,
            decode_ms_p95=9,
            server_ms_median=4,
            server_ms_p95=9,
            payload_bytes=1000,
            runs=1,
            threads=1,
        )
        assert got.end_to_end_ms(link()) == 10 + link().transfer_ms(1000)
        reply = got.end_to_end_ms(link(), reply_bytes=10_000)
        assert reply == 10 + link().transfer_ms(1000, 10_000)

    def test_refuses_a_batch(self):
        with pytest.raises(ValueError, match="one image"):
            measure_latency(lambda x: (x,), Float32(), lambda t: t[0], torch.rand(2, 3, 4, 4))
