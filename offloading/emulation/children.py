"""Processes that do not outlive whoever started them."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence

_PR_SET_PDEATHSIG = 1
_PATIENCE_S = 3.0


class Children:
    """Starts processes and ends them: by `close`, and by the kernel if this process is killed."""

    def __init__(self) -> None:
        self.running: list[subprocess.Popen[bytes]] = []

    def start(
        self, words: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program with pipes to its input, output and error output.

        Nobody reads the latter until the process ends: it must not say much.

        Args:
            words: Program and arguments; no shell.
            environment: Added to this process's.
        """
        child = subprocess.Popen(  # noqa: S603 (words are ours)
            list(words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            preexec_fn=tied(),
        )
        self.running.append(child)
        return child

    def close(self) -> None:
        """End all of them, politely at first."""
        for child in self.running:
            if child.poll() is None:
                child.terminate()
        for child in self.running:
            try:
                child.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    _shut(pipe.close)
        self.running.clear()


def tied() -> Callable[[], object]:
    """For `preexec_fn`: the kernel ends the child when the thread that started it ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _shut(close: Callable[[], None]) -> None:
    try:
        close()
    except BrokenPipeError:  # what was still to be written to a child that is gone
        return
