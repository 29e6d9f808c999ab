"""CIFAR-10."""

import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torchvision import datasets

from splitbench.data.cifar import read_batch, read_images
from splitbench.data.downloaded import DownloadedSource, RemoteFile
from splitbench.data.images import LabeledImages
from splitbench.data.source import DataDamagedError


class Cifar10(DownloadedSource):
    """Tiny photographs: 50,000 training and 10,000 test images, colour 32 x 32, 10 classes.

    Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    The Python version is looked for in ``root``, ``root/cifar-10-batches-py`` (torchvision's
    layout), as the archive in ``root``, then downloaded. Its files are pickles; they are read by
    an unpickler that knows arrays of bytes only. The arguments are those of `DownloadedSource`.
    """

    published: ClassVar[Any] = datasets.CIFAR10
    label_key: ClassVar[str] = "labels"

    def read(self) -> tuple[LabeledImages, LabeledImages]:
        """Read both parts."""
        known = self.published
        parts = [[name for name, _ in part] for part in (known.train_list, known.test_list)]
        names = [known.meta["filename"], *parts[0], *parts[1]]
        folders = [Path(self.root), Path(self.root, known.base_folder)]
        folder = self.folder_with(names, folders)
        if folder is None:
            archive = RemoteFile(known.filename, (known.url,), known.tgz_md5)
            wanted = f"its Python batches in {' or '.join(map(str, folders))}"
            self.fetch([archive], Path(self.root), wanted=wanted)
            folder = self._extract(Path(self.root, known.filename))
        classes = read_batch(folder / known.meta["filename"]).get(known.meta["key"])
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise DataDamagedError(f"{folder / known.meta['filename']} holds no names of classes")
        train, test = (self._part(folder, part, tuple(classes)) for part in parts)
        return train, test

    def _extract(self, archive: Path) -> Path:
        try:
            with tarfile.open(archive) as file:
                file.extractall(archive.parent, filter="data")
        except tarfile.TarError as error:
            raise DataDamagedError(f"{archive} cannot be unpacked: {error}") from error
        return Path(archive.parent, self.published.base_folder)

    def _part(self, folder: Path, names: Sequence[str], classes: tuple[str, ...]) -> LabeledImages:
        batches = [
            read_images(folder / name, label_key=self.label_key, classes=len(classes))
            for name in names
        ]
        pixels, labels = (torch.cat(column) for column in zip(*batches, strict=True))
        return LabeledImages(pixels, labels, classes)
