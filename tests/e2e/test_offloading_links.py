"""Links between real processes, where this machine allows to make them."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from offloading.emulation.calibration import calibrate
from offloading.emulation.emulation import EmulationError
from offloading.emulation.namespaces import Namespaces, run
from offloading.emulation.shaped_sockets import ShapedSockets
from offloading.emulation.tun_relay import TunRelay
from splitbench.link import Link

HOPS = {
    ("device", "edge"): Link(name="near", up_mbps=40.0, down_mbps=80.0, rtt_ms=4.0),
    ("edge", "cloud"): Link(name="far", up_mbps=80.0, down_mbps=80.0, rtt_ms=10.0),
}


@pytest.fixture
def tun():
    links = TunRelay(hops=HOPS)
    try:
        with links:
            yield links
    except EmulationError as error:
        pytest.skip(f"no TUN devices here: {error}")


def there(links):
    listed = run(["ip", "netns", "list"])
    return [name for name in links if name in listed]


def test_two_hops_of_namespaces_carry_packets_each_at_its_own_pace(tun):
    near, far = (calibrate(tun, hop, sizes=(1, 150_000), repeats=3) for hop in HOPS)
    assert 1.4 < near.points[1].up_ms / near.points[1].down_ms < 2.6
    assert 1.5 < far.points[0].up_ms / near.points[0].up_ms < 4
    tun.check()
    names = [*tun.names.values()]
    assert there(names) == names
    tun.close()
    assert there(names) == []


def test_a_relay_that_was_killed_is_noticed(tun):
    tun.children.running[0].kill()
    tun.children.running[0].wait()
    with pytest.raises(EmulationError, match="a part of the tun links has ended"):
        tun.check()


def test_what_a_killed_process_leaves_is_removed_by_the_next_one(tun):
    del tun  # only to know that namespaces can be made
    program = (
        "import os, signal; from offloading.emulation.namespaces import Namespaces;"
        "rooms = Namespaces(); print(*rooms.open(['a', 'b']).values(), flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL
    names = killed.stdout.split()
    assert there(names) == names
    assert {*names} <= {*Namespaces().sweep()}
    assert there(names) == []


def test_relays_do_not_outlive_a_killed_process(tun):
    del tun
    program = (
        "import os, signal; from offloading.emulation.tun_relay import TunRelay;"
        "from splitbench.link import Link;"
        "links = TunRelay(hops={('a', 'b'): Link(name='t', up_mbps=1, down_mbps=1, rtt_ms=1)});"
        "links.open(); print(links.children.running[0].pid, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    pid = int(killed.stdout)
    for _ in range(500):  # the kernel does it, soon
        if not running(pid):
            break
        time.sleep(0.02)
    assert not running(pid)
    Namespaces().sweep()


def running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().split()[2]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_shaped_sockets_need_no_rights():
    hop = ("device", "edge")
    with ShapedSockets(hops={hop: HOPS[hop]}) as links:
        found = calibrate(links, hop, sizes=(1, 150_000), repeats=3)
        links.check()
    assert 1.4 < found.points[1].up_ms / found.points[1].down_ms < 2.6
    assert found.points[0].up_ms >= 2
