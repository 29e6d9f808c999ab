"""What a server process can be told; reading it imports nothing heavy."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FILES = ("token_file", "cert", "key", "next_token_file", "next_root")
_LEAST = {"port": 0, "threads": 1, "parallel": 1}


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a segment is served.

    Attributes:
        folder: One exported segment.
        host, port: Where to listen; port 0 chooses one.
        address: Instead of both; ``unix:PATH`` is a socket of this user.
        token_file: Requests without this token are refused.
        cert, key: The server's certificate and its private key (PEM).
        next: Address of the server of the next segment; None for the last one.
        next_token_file: The token that it wants.
        next_root: What its certificate must come from (PEM).
        trust: Modules of the user that the artefact may name classes of.
        threads: Of torch, for each request, >= 1.
        parallel: Requests computed at a time, >= 1.
        device: Where to compute.

    Raises:
        ValueError: A number is none, or too small.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 0
    address: str | None = None
    token_file: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    next: str | None = None
    next_token_file: Path | None = None
    next_root: Path | None = None
    trust: tuple[str, ...] = ()
    threads: int = 1
    parallel: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}={value!r}: want a whole number, at least {least}")

    @classmethod
    def of(cls, words: Sequence[str]) -> "Options":
        """Of the command line of a process that another process starts: ``DIR --port 50051``.

        It asks nothing of Hydra, which would take a server longer to import than to read.
        """
        parser = argparse.ArgumentParser(prog="python -m offloading.runtime.serve_process")
        parser.add_argument("folder", type=Path)
        for name in ("host", "address", "next", "device"):
            parser.add_argument(_dashed(name))
        for name in FILES:
            parser.add_argument(_dashed(name), type=Path)
        for name in _LEAST:
            parser.add_argument(_dashed(name), type=int)
        parser.add_argument("--trust", action="append")
        told = {name: value for name, value in vars(parser.parse_args(words)).items() if value}
        return cls(**{**told, "trust": tuple(told.get("trust", ()))})


def _dashed(name: str) -> str:
    return "--" + name.replace("_", "-")
