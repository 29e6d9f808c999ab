"""Street View House Numbers."""

import zlib
from pathlib import Path

import torch
from scipy.io import loadmat, whosmat
from scipy.io.matlab import MatReadError
from torchvision import datasets

from splitbench.data.downloaded import DownloadedSource, RemoteFile
from splitbench.data.duplicates import THINGS
from splitbench.data.images import LabeledImages
from splitbench.data.source import DataDamagedError

LARGEST_COUNT = 1_000_000
_PARTS = ("train", "test")


class Svhn(DownloadedSource):
    """Digits of house numbers: 73,257 training and 26,032 test images, colour 32 x 32, 10 classes.

    Source: Netzer, Wang, Coates, Bissacco, Wu and Ng, "Reading digits in natural images with
    unsupervised feature learning", 2011. The part "extra" is not used.

    ``train_32x32.mat`` and ``test_32x32.mat`` are looked for in ``root`` (torchvision's layout) and
    ``root/SVHN``, then downloaded to the former. The arguments are those of `DownloadedSource`.
    """

    similarity = THINGS  # blurred digits of one typeface are alike

    def read(self) -> tuple[LabeledImages, LabeledImages]:
        """Read both parts."""
        known = {part: datasets.SVHN.split_list[part] for part in _PARTS}
        files = [RemoteFile(name, (address,), md5) for address, name, md5 in known.values()]
        folders = [Path(self.root), Path(self.root, "SVHN")]
        folder = self.folder_with([file.name for file in files], folders)
        if folder is None:
            folder = folders[0]
            wanted = f"its .mat files in {' or '.join(map(str, folders))}"
            self.fetch(files, folder, wanted=wanted)
        train, test = (_read(folder / file.name) for file in files)
        return train, test


def _read(path: Path) -> LabeledImages:
    """Read one part; the class "0" is stored as label 10."""
    try:
        shapes = {name: shape for name, shape, _ in whosmat(str(path))}
        pictures, marks = shapes.get("X", ()), shapes.get("y", ())
        if pictures[:3] != (32, 32, 3) or not 0 < pictures[3] <= LARGEST_COUNT:
            raise ValueError(f"X has the shape {pictures}")
        if marks != (pictures[3], 1):
            raise ValueError(f"y has the shape {marks} for {pictures[3]} images")
        stored = loadmat(str(path), variable_names=["X", "y"])
        if stored["X"].dtype != "uint8" or stored["y"].min() < 1 or stored["y"].max() > 10:
            raise ValueError("X must be bytes and y must be in 1..10")
    except (ValueError, TypeError, LookupError, NotImplementedError, OSError, EOFError,
            MatReadError, zlib.error) as error:  # fmt: skip
        raise DataDamagedError(f"{path} is not a part of SVHN: {error}") from error
    pixels = torch.from_numpy(stored["X"]).permute(3, 2, 0, 1).contiguous()
    labels = torch.from_numpy(stored["y"].astype("int64"))[:, 0] % 10
    return LabeledImages(pixels, labels, tuple("0123456789"))
