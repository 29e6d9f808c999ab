"""``python -m offloading.measuring.pinned CORES PID PROGRAM ...`` runs a program on some cores.

The kernel ends it when the process that started it ends; if that has ended already, nothing is run.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

_PR_SET_PDEATHSIG = 1


def pinned(cores: Sequence[int], words: Sequence[str]) -> list[str]:
    """The command line; no cores leave the program wherever it may run."""
    chosen = ",".join(map(str, cores)) or "-"
    program = [sys.executable, "-m", "offloading.measuring.pinned"]
    return [*program, chosen, str(os.getpid()), *words]


def main(words: Sequence[str]) -> NoReturn:
    """Become the program."""
    cores, parent, *program = words
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit("whoever wanted this program has ended")
    if cores != "-":
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    os.execvp(program[0], program)  # noqa: S606 (the words are those of whoever called us)


if __name__ == "__main__":
    main(sys.argv[1:])
