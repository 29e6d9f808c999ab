"""Download of a published file: quiet, with a time limit, verified, all or nothing."""

import hashlib
import tempfile
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

TIMEOUT_SECONDS = 10.0  # without any byte
LARGEST_BYTES = 4 << 30
_CHUNK = 1 << 20


class DownloadError(OSError):
    """No address gave the file."""


def fetch(addresses: Sequence[str], path: Path, *, md5: str) -> None:
    """Download a file to `path` unless an intact copy is there.

    Args:
        addresses: Where the file can be had, best first.
        path: The file to make; its folder is made too.
        md5: The published checksum, hexadecimal. It tells a damaged file, not a forged one: what
            is fetched must not be trusted further than any other file.

    Raises:
        DownloadError: No address gave a file with that checksum, or the folder is not writable.
    """
    if path.is_file() and file_md5(path) == md5:
        return
    failures = []
    for address in addresses:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                arrived = Path(folder, path.name)
                _copy(address, arrived)
                if file_md5(arrived) != md5:
                    raise DownloadError(f"MD5 is {file_md5(arrived)}, not {md5}")
                arrived.replace(path)
        except (OSError, HTTPException) as error:
            failures.append(f"{address}: {error}")
        else:
            return
    raise DownloadError("; ".join(failures))


def file_md5(path: Path) -> str:
    """MD5 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _copy(address: str, path: Path) -> None:
    # The addresses are constants of torchvision.
    with urlopen(address, timeout=TIMEOUT_SECONDS) as response, path.open("wb") as file:  # noqa: S310
        size = 0
        while chunk := response.read(_CHUNK):
            size += len(chunk)
            if size > LARGEST_BYTES:
                raise DownloadError(f"more than {LARGEST_BYTES} bytes")
            file.write(chunk)
