"""Data sets that torchvision publishes addresses and checksums of."""

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from splitbench.data.fetch import DownloadError, fetch
from splitbench.data.roles import Sizes
from splitbench.data.source import DataUnavailableError, Source


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Attributes:
        name: Name on disk.
        addresses: Where it can be had, best first.
        md5: Published checksum.
    """

    name: str
    addresses: tuple[str, ...]
    md5: str


class DownloadedSource(Source, ABC):
    """A data set looked for on disk first, in torchvision's layout or flat, and then downloaded.

    Args:
        root: Folder of data sets, as torchvision's argument of that name, or the folder that holds
            the files themselves.
        sizes: Images of each role; see `assign_roles`.
        seed: Of the assignment to roles.
        literature_split: Keep the official training set together.
        download: Download what is missing.
    """

    def __init__(
        self,
        *,
        root: str,
        sizes: Sizes,
        seed: int = 0,
        literature_split: bool = False,
        download: bool = True,
    ) -> None:
        self.root = root
        self.sizes = sizes
        self.seed = seed
        self.literature_split = literature_split
        self.download = download

    def folder_with(self, names: Sequence[str], folders: Sequence[Path]) -> Path | None:
        """The first folder that holds all files, each as it is or with the suffix ``.gz``."""
        return next((f for f in folders if all(find(f, name) for name in names)), None)

    def fetch(self, files: Sequence[RemoteFile], folder: Path, *, wanted: str) -> None:
        """Download files to a folder.

        Args:
            files: What to download.
            folder: Where to put it.
            wanted: What was looked for and where, for the message.

        Raises:
            DataUnavailableError: `download` is false, or a file could not be had.
        """
        reason = "download is false"
        if self.download:
            try:
                for file in files:
                    fetch(file.addresses, folder / file.name, md5=file.md5)
            except DownloadError as error:
                reason = f"the download failed ({error})"
            else:
                return
        raise DataUnavailableError(
            f"{type(self).__name__} needs {wanted}, which is not there, and {reason}: "
            f"copy {', '.join(file.name for file in files)} to {folder} from a machine with a "
            "network, or set root to the folder that holds the files"
        )


def find(folder: Path, name: str) -> Path | None:
    """A file of that name in the folder, or its gzipped form."""
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
