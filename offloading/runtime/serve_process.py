"""The process behind an address: ``python -m offloading.runtime.serve_process DIR``."""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from offloading.runtime import wire
from offloading.runtime.artefact import MANIFEST
from offloading.runtime.errors import ArtefactError
from offloading.runtime.options import Options
from offloading.runtime.segments import load_stage
from offloading.runtime.server import Access, Server, is_local
from offloading.runtime.transport import Credentials, GrpcTransport
from offloading.runtime.worker import Worker

Say = Callable[[str], object]


def serve(options: Options, *, say: Say, warn: Say) -> None:
    """Serve until the process is told to end (SIGINT, SIGTERM).

    Args:
        options: What it was told.
        say: Given one line when requests are taken: a JSON object with ``address``, ``plan``,
            ``segment``, ``pid``.
        warn: Given a sentence where anybody on the network may read or ask.

    Raises:
        ArtefactError: The folder holds no segment that can be served.
        OSError: A file cannot be read, or the address is taken.
        ValueError: An option does not make sense.
    """
    torch.set_num_threads(options.threads)
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = options.address or f"{host}:{options.port}"
    access = Access(token=_token(options.token_file), certificate=options.cert, key=options.key)
    if not is_local(address) and (access.certificate is None or access.token is None):
        warn(f"{address} is open to others: without cert all is sent in clear, without "
             "token_file anybody may ask\n")  # fmt: skip
    worker = _worker(options)
    server = Server(worker, address, access)
    wait_for_the_end = heeding(signal.SIGINT, signal.SIGTERM)
    server.start()
    manifest = worker.stage.manifest
    ready = {
        "address": server.address,
        "plan": manifest.deployed.id,
        "segment": manifest.segment,
        "pid": os.getpid(),
    }
    say(json.dumps(ready) + "\n")
    wait_for_the_end()
    server.stop()


def heeding(*numbers: signal.Signals) -> Callable[[], None]:
    """Heed these signals from now on; return what waits for the first of them.

    It leaves a byte in a socket, and is heard however early it comes and whichever thread it is
    delivered to. A handler that sets an event would not be: the main thread runs it only when it
    wakes up, and a wait without end that is about to begin never does.
    """
    heard, told = socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.fileno())
    for number in numbers:
        signal.signal(number, lambda *_: None)

    def wait() -> None:
        heard.recv(1)
        signal.set_wakeup_fd(-1)
        heard.close()
        told.close()

    return wait


def _worker(options: Options) -> Worker:
    if not (options.folder / MANIFEST).exists() and (options.folder / "segment1").is_dir():
        raise ArtefactError(f"serve one segment: {options.folder / 'segment1'}, or one after it")
    stage = load_stage(options.folder, trust=options.trust, device=options.device)
    classes = stage.manifest.deployed.classes
    if options.next is None:
        return Worker(stage, None, options.parallel, options.device)
    onwards = GrpcTransport(
        options.next,
        Credentials(token=_token(options.next_token_file), root=options.next_root),
    )

    def forward(message: bytes, timeout_s: float) -> wire.Reply:
        return onwards.ask(message, classes=classes, timeout_s=timeout_s)

    return Worker(stage, forward, options.parallel, options.device)


def _token(path: Path | None) -> str | None:
    return None if path is None else path.read_text(encoding="utf-8").strip()


def run(options: Options) -> int:
    """Serve; a mistake ends in one sentence on the error output and exit code 2."""

    def say(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        serve(options, say=say, warn=sys.stderr.write)
    except (ArtefactError, OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run(Options.of(sys.argv[1:])))
