"""One emulated instance of a function, as its platform sees it."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from typing import Any

from offloading.runtime.errors import ArtefactError, RequestFailed

MODULE = "offloading.runtime.instance"
START_SECONDS = 120.0


class InstanceProcess:
    """An emulated instance: a fresh interpreter that answers one event at a time.

    Args:
        environment: Added to this process's; says which artefact.

    Attributes:
        start_ms: From the start of the process until it could take an event.
        import_ms, load_ms: What importing and loading took of it, by its own clock.

    Raises:
        ArtefactError: It ended before; the message is the last thing that it said.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        began = time.perf_counter()
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in `end`)
        self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={**os.environ, **environment},
        )
        try:
            said = self._line(START_SECONDS)
        except RequestFailed as error:
            self._process.wait()
            self._said.seek(0)
            last = self._said.read().strip().rpartition("\n")[2]
            self.end()
            raise ArtefactError(f"the instance did not start: {last or error}") from error
        self.start_ms = (time.perf_counter() - began) * 1000
        self.import_ms = float(said["import_ms"])
        self.load_ms = float(said["load_ms"])

    def answer(self, event: Mapping[str, Any], timeout_s: float) -> tuple[dict[str, Any], float]:
        """The handler's reply, and the milliseconds that it took.

        Raises:
            RequestFailed: The process died, or was ended because it took too long.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(event) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, OSError) as error:
            raise RequestFailed("UNAVAILABLE", "the instance is gone") from error
        said = self._line(timeout_s)
        return said["reply"], float(said["handler_ms"])

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def _line(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._process.kill()

        guard = threading.Timer(timeout_s, stop)
        guard.start()
        try:
            line = self._process.stdout.readline()
        finally:
            guard.cancel()
        if not line:
            status = "DEADLINE_EXCEEDED" if late.is_set() else "UNAVAILABLE"
            raise RequestFailed(status, "the instance gave no answer")
        said: dict[str, Any] = json.loads(line)
        return said
