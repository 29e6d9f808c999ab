"""What a server process can be told; reading it imports nothing heavy."""

import argparse
from pathlib import Path


def parser(*, prog: str, description: str) -> argparse.ArgumentParser:
    """The options of a server process, whoever starts it.

    Args:
        prog: What the user typed.
        description: What it does.
    """
    found = argparse.ArgumentParser(prog=prog, description=description)
    found.add_argument(
        "folder", type=Path, metavar="DIR", help="one exported segment, such as OUT/segment1"
    )
    _where(found)
    _who(found)
    _onwards(found)
    _how(found)
    return found


def _where(found: argparse.ArgumentParser) -> None:
    found.add_argument(
        "--host", default="127.0.0.1", help="where to listen (%(default)s: only this machine)"
    )
    found.add_argument(
        "--port", type=int, default=0, help="0 chooses one and says which (%(default)s)"
    )
    found.add_argument(
        "--address", help="instead of both: HOST:PORT, or unix:PATH for a socket of this user"
    )


def _who(found: argparse.ArgumentParser) -> None:
    found.add_argument(
        "--token-file", type=Path, metavar="FILE", help="refuse requests without this token"
    )
    found.add_argument("--cert", type=Path, metavar="FILE", help="the server's certificate (PEM)")
    found.add_argument("--key", type=Path, metavar="FILE", help="its private key (PEM)")


def _onwards(found: argparse.ArgumentParser) -> None:
    found.add_argument("--next", metavar="ADDRESS", help="the server of the next segment")
    found.add_argument(
        "--next-token-file", type=Path, metavar="FILE", help="the token that it wants"
    )
    found.add_argument(
        "--next-root", type=Path, metavar="FILE", help="what its certificate must come from (PEM)"
    )


def _how(found: argparse.ArgumentParser) -> None:
    found.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module or package of yours that the artefact may name classes of; may be repeated",
    )
    found.add_argument(
        "--threads", type=int, default=1, help="of torch, for each request (%(default)s)"
    )
    found.add_argument(
        "--parallel", type=int, default=1, help="requests computed at a time (%(default)s)"
    )
    found.add_argument("--device", default="cpu", help="where to compute (%(default)s)")
