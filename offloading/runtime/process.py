"""A server in a process of its own, for as long as somebody needs it."""

import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from offloading.runtime.errors import ArtefactError

START_SECONDS = 120.0
STOP_SECONDS = 10.0
MODULE = "offloading.runtime.serve_process"


class ServerProcess:
    """Starts ``serve_process`` and waits until it takes requests.

    Args:
        folder: Of the artefact.
        address: ``host:port`` or ``unix:PATH``.
        options: More of the command line, such as ``--next ADDRESS``.
        prefix: Put before the command: ``ip netns exec cloud``, ``taskset -c 1``, ...
        environment: Added to this process's.

    Attributes:
        address: Where it listens.
        plan: Id of the plan that it serves.
        pid: Of the process that answers.

    Raises:
        ArtefactError: It ended before it took requests; the message is what it said.
    """

    def __init__(
        self,
        folder: Path,
        address: str,
        *,
        options: Sequence[str] = (),
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        command = [*prefix, sys.executable, "-m", MODULE, str(folder), "--address", address]
        self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            [*command, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        weakref.finalize(self, self._process.kill)  # at the latest when this program ends
        ready = self._first_line()
        self.address: str = ready["address"]
        self.plan: str = ready["plan"]
        self.pid: int = ready["pid"]

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        """Ask it to end, and wait; return its exit code."""
        self._process.terminate()
        return self._wait()

    def kill(self) -> None:
        """End it at once, as a failing machine would."""
        self._process.kill()
        self._wait()

    def _wait(self) -> int:
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        return code

    def _first_line(self) -> dict[str, Any]:
        """What it says when it is ready; it is killed where that takes too long."""
        out, errors = self._process.stdout, self._process.stderr
        assert out is not None
        assert errors is not None
        guard = threading.Timer(START_SECONDS, self._process.kill)
        guard.start()
        try:
            line = out.readline()
        finally:
            guard.cancel()
        if not line:
            said = errors.read().strip()
            self._wait()
            raise ArtefactError(said or f"the server did not start within {START_SECONDS:.0f} s")
        ready: dict[str, Any] = json.loads(line)
        threading.Thread(target=_drained, args=(errors,), daemon=True).start()
        return ready


def _drained(stream: Any) -> None:
    """Read what nobody asks for, so that the process never waits for a reader."""
    try:
        for _ in stream:
            pass
    except ValueError:  # closed meanwhile
        return
