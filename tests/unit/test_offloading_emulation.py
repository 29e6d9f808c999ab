"""Links between processes: what is asked of the system, and what shaped sockets do."""

import itertools
import socket
import threading

import pytest

from offloading.emulation import backends, namespaces
from offloading.emulation.analytic import Analytic
from offloading.emulation.backends import emulation
from offloading.emulation.calibration import CalibrationError, calibrate, fitted
from offloading.emulation.emulation import EmulationError
from offloading.emulation.namespaces import Namespaces
from offloading.emulation.netem import Netem, joining
from offloading.emulation.probe import answer, ask
from offloading.emulation.proxy import Proxy
from offloading.emulation.shaped_sockets import ShapedSockets
from offloading.emulation.shaper import Direction
from splitbench.link import Link

HOP = ("device", "cloud")
LINK = Link(name="test", up_mbps=10.0, down_mbps=20.0, rtt_ms=30.0)


class System:
    """Remembers what it is told to run; fails where it is told to."""

    def __init__(self, *, fails_at=None, listed=""):
        self.done = []
        self.fails_at = fails_at
        self.listed = listed

    def __call__(self, words):
        self.done.append(list(words))
        if self.fails_at and self.fails_at in words:
            raise EmulationError(f"unknown {self.fails_at}")
        return self.listed if list(words) == ["ip", "netns", "list"] else ""

    def having(self, *words):
        return [done for done in self.done if set(words) <= set(done)]


class TestNamespaces:
    def test_are_removed_again_one_by_one(self):
        system = System()
        rooms = Namespaces(system)
        names = rooms.open(["device", "cloud"])
        assert len({*names.values()}) == 2
        rooms.close()
        rooms.close()
        for name in names.values():
            assert system.having("add", name) == [["ip", "netns", "add", name]]
            assert system.having("del", name) == [["ip", "netns", "del", name]]

    def test_of_processes_that_are_no_more_are_swept_and_no_others(self, monkeypatch):
        listed = "other\nsplitbench-11-0-0 (id: 1)\nsplitbench-22-0-0\nsplitbench-22-0-1 (id: 3)\n"
        system = System(listed=listed)
        monkeypatch.setattr(namespaces, "alive", lambda pid: pid == 11)
        assert Namespaces(system).sweep() == ["splitbench-22-0-0", "splitbench-22-0-1"]
        removed = [words[-1] for words in system.having("del")]
        assert removed == ["splitbench-22-0-0", "splitbench-22-0-1"]


class TestNetem:
    def test_shapes_each_direction_where_it_leaves(self):
        link = Link(name="t", up_mbps=6.0, down_mbps=13.5, rtt_ms=41.0, jitter_ms=2.0, loss=0.01)
        tc = [" ".join(words) for words in joining("near", "far", 0, link) if words[0] == "tc"]
        assert tc == [
            "tc -n near qdisc add dev sb0 root netem rate 6000000bit delay 20500us 2000us "
            "distribution normal loss random 1% limit 2666",
            "tc -n far qdisc add dev sb0 root netem rate 13500000bit delay 20500us 2000us "
            "distribution normal loss random 1% limit 2666",
        ]

    def test_joins_three_sides_and_runs_programs_in_their_rooms(self):
        system = System()
        hops = {("device", "edge"): LINK, ("edge", "cloud"): LINK}
        with Netem(hops=hops, runner=system) as links:
            assert links.command("edge", ["program"]) == [
                *("ip", "netns", "exec", links.names["edge"], "program")
            ]
            assert links.reach("edge", "cloud", 80) == "10.200.1.2:80"
            assert len(system.having("netem")) == 4
            with pytest.raises(EmulationError, match="no link from 'device' to 'cloud'"):
                links.reach("device", "cloud", 80)
        assert len(system.having("del")) == 3

    def test_leaves_nothing_behind_where_the_kernel_lacks_it(self):
        system = System(fails_at="netem")
        with (
            pytest.raises(EmulationError, match="unknown netem"),
            Netem(hops={HOP: LINK}, runner=system),
        ):
            pytest.fail("opened")
        made = [words[-1] for words in system.done if words[:3] == ["ip", "netns", "add"]]
        assert len(made) == 2
        assert sorted(words[-1] for words in system.having("del")) == sorted(made)


class TestBackends:
    @pytest.fixture
    def poor(self, monkeypatch):
        """A machine on which nothing may be done to the network."""

        class Forbidden(Netem):
            def open(self):
                raise EmulationError("not permitted")

        class ForbiddenToo(Forbidden):
            backend = "tun"

        kinds = (Forbidden, ForbiddenToo, ShapedSockets, Analytic)
        monkeypatch.setattr(backends, "BACKENDS", kinds)

    def test_takes_the_best_that_works_and_says_why_no_better(self, poor):
        found, reasons = emulation("auto", hops={HOP: LINK})
        assert found.backend == "proxy"
        assert reasons == ("netem: not permitted", "tun: not permitted")

    def test_never_takes_the_formula_unasked(self, poor):
        lossy = Link(name="lossy", up_mbps=1.0, down_mbps=1.0, rtt_ms=1.0, loss=0.1)
        with pytest.raises(EmulationError, match="proxy: shaped sockets see no packets"):
            emulation("auto", hops={HOP: lossy})
        assert emulation("analytic", hops={HOP: lossy})[0].backend == "analytic"

    def test_refuses_another_name(self):
        with pytest.raises(ValueError, match="choose from auto, netem"):
            emulation("magic", hops={HOP: LINK})


class TestCalibration:
    SIZES = (1, 50_000, 100_000, 200_000)

    def times(self, link, rate=1.0, constant=0.0):
        up = [link.up_ms(size) / rate + constant for size in self.SIZES]
        down = [link.down_ms(size) / rate + constant for size in self.SIZES]
        return up, down

    def test_finds_the_link_behind_exact_times(self):
        found = fitted("tun", LINK, self.SIZES, *self.times(LINK))
        assert found.measured.up_mbps == pytest.approx(10.0)
        assert found.measured.down_mbps == pytest.approx(20.0)
        assert found.measured.rtt_ms == pytest.approx(30.0)
        assert found.worst_error == pytest.approx(0.0)
        found.check()

    def test_refuses_an_imitation_that_is_off_and_says_by_how_much(self):
        found = fitted("tun", LINK, self.SIZES, *self.times(LINK, rate=0.8))
        assert found.measured.up_mbps == pytest.approx(8.0)
        with pytest.raises(CalibrationError, match=r"misses by \+25% at .* more than 10%"):
            found.check()
        found.check(tolerance=0.3)

    def test_does_not_mind_what_small_messages_do(self):
        up, down = self.times(LINK)
        found = fitted("tun", LINK, self.SIZES, [5 * up[0], *up[1:]], down)
        found.check()

    def test_wants_no_trace(self):
        from offloading.bandwidth import BandwidthTrace

        traces = {HOP: BandwidthTrace.synthetic(mean_mbps=1)}
        with pytest.raises(EmulationError, match="changes with a trace"):
            calibrate(Analytic(hops={HOP: LINK}, traces=traces), HOP)


@pytest.fixture
def shaped(tmp_path):
    """Times of messages over a proxy between unix sockets: the fastest of three of each."""
    numbers = itertools.count()
    opened = []

    def listen():
        path = str(tmp_path / f"{next(numbers)}")
        listener = socket.socket(socket.AF_UNIX)
        opened.append(listener)
        listener.bind(path)
        listener.listen()
        return listener, path

    def dial(path):
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(path)
        return peer

    def times(up, down, sizes):
        (server, far), (entrance, near) = listen(), listen()
        proxy = Proxy(entrance, lambda: dial(far), up=up, down=down)
        workers = [threading.Thread(target=w) for w in (lambda: answer(server), one(proxy))]
        for worker in workers:
            worker.start()
        with dial(near) as peer:
            found = [*ask(peer, list(sizes) * 3)]
        for worker in workers:
            worker.join()
        count = len(sizes)
        return [tuple(map(min, zip(*found[i::count], strict=True))) for i in range(count)]

    yield times
    for listener in opened:
        listener.close()


def one(proxy):
    """Serves a single connection, to its end."""
    return lambda: proxy.carry(proxy.listener.accept()[0])


class TestProxy:
    def test_takes_twice_as_long_at_half_the_rate(self, shaped):
        fast, slow = (
            shaped(way, way, [(100_000, 1)])[0][0]
            for way in (Direction(mbps=40.0, delay_ms=0.0), Direction(mbps=20.0, delay_ms=0.0))
        )
        assert 1.5 < slow / fast < 3

    def test_shapes_each_direction_by_itself(self, shaped):
        up, down = Direction(mbps=10.0, delay_ms=0.0), Direction(mbps=100.0, delay_ms=0.0)
        ((there, _), (_, back)) = shaped(up, down, [(60_000, 1), (1, 60_000)])
        assert 4 < there / back < 25

    def test_delays_every_message_alike(self, shaped):
        way = Direction(mbps=1000.0, delay_ms=40.0)
        ((there, back),) = shaped(way, way, [(1, 1)])
        assert there >= 40
        assert back >= 40

    def test_ends_a_connection_that_nobody_answers(self, tmp_path):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "x"))
        listener.listen()

        def nobody():
            raise ConnectionRefusedError

        way = Direction(mbps=1.0, delay_ms=0.0)
        threading.Thread(
            target=Proxy(listener, nobody, up=way, down=way).serve, daemon=True
        ).start()
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(str(tmp_path / "x"))
        assert peer.recv(1) == b""
        peer.close()
        listener.close()

    def test_refuses_to_lose_packets_that_it_never_sees(self):
        way = Direction(mbps=1.0, delay_ms=0.0, loss=0.1)
        with pytest.raises(ValueError, match="set loss to 0"):
            Proxy(None, None, up=way, down=way)


def test_a_peer_cannot_claim_an_enormous_message():
    near, far = socket.socketpair()

    class Listener:
        def accept(self):
            return far, None

    with near:
        near.sendall(b"\xff" * 8)
        with pytest.raises(ValueError, match="at most"):
            answer(Listener())


def test_the_formula_adds_what_the_link_says():
    links = Analytic(hops={HOP: LINK})
    assert links.added_ms(HOP, 1000, 500) == (LINK.up_ms(1000), LINK.down_ms(500))
    assert not links.shapes
