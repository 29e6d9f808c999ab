"""Network namespaces: each side gets a network stack of its own."""

import itertools
import os
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress

from offloading.emulation.emulation import EmulationError

Runner = Callable[[Sequence[str]], str]
PREFIX = "splitbench"
_NUMBERS = itertools.count()  # one process may have several sets of them
# A persistent connection whose window is open is what `Link` is about: it must not close again
# while nothing is sent, and buffers must not be the limit.
SETTINGS = {
    "ipv4/tcp_slow_start_after_idle": "0",
    "ipv4/tcp_no_metrics_save": "1",
    "ipv4/tcp_rmem": "4096 4194304 16777216",
    "ipv4/tcp_wmem": "4096 4194304 16777216",
    "ipv6/conf/default/disable_ipv6": "1",  # its greetings would be counted
}


def run(words: Sequence[str]) -> str:
    """Run a program and return its output.

    Raises:
        EmulationError: It is missing, or fails; with what it said.
    """
    try:
        done = subprocess.run(  # noqa: S603 (words are ours)
            list(words), capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmulationError(f"{words[0]}: {error}") from error
    if done.returncode:
        raise EmulationError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


class Namespaces:
    """One namespace for each side; their names say which process they belong to.

    Args:
        runner: Runs commands; tests put another one here.
    """

    def __init__(self, runner: Runner = run) -> None:
        self.runner = runner
        self.made: list[str] = []

    def open(self, sides: Sequence[str]) -> dict[str, str]:
        """Make them, after removing what killed processes have left.

        Returns:
            The namespace of each side.

        Raises:
            EmulationError: Not allowed here.
        """
        self.sweep()
        ours = f"{PREFIX}-{os.getpid()}-{next(_NUMBERS)}"
        names = {side: f"{ours}-{place}" for place, side in enumerate(sides)}
        for name in names.values():
            self.runner(["ip", "netns", "add", name])
            self.made.append(name)
            self.runner(["ip", "-n", name, "link", "set", "lo", "up"])
            for key, value in SETTINGS.items():
                file = f"/proc/sys/net/{key}"
                order = f"[ ! -e {file} ] || echo {value} > {file}"
                self.runner(["ip", "netns", "exec", name, "sh", "-c", order])
        return names

    def close(self) -> None:
        """Remove them, and whatever still runs inside."""
        while self.made:
            self._remove(self.made.pop())

    def sweep(self) -> list[str]:
        """Remove what belongs to processes that are no more; return the names."""
        listed = self.runner(["ip", "netns", "list"])
        found = re.findall(rf"^({PREFIX}-(\d+)-\S+)", listed, re.MULTILINE)
        stale = [name for name, pid in found if not alive(int(pid))]
        for name in stale:
            self._remove(name)
        return stale

    def _remove(self, name: str) -> None:
        with suppress(EmulationError):  # somebody else may be sweeping
            for pid in self.runner(["ip", "netns", "pids", name]).split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        with suppress(EmulationError):
            self.runner(["ip", "netns", "del", name])


def alive(pid: int) -> bool:
    """Whether a process of this number exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
