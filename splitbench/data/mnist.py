"""MNIST."""

from pathlib import Path
from typing import Any, ClassVar

from torchvision import datasets

from splitbench.data.downloaded import DownloadedSource, RemoteFile
from splitbench.data.duplicates import THINGS
from splitbench.data.idx import images_name, labels_name, read_idx_part
from splitbench.data.images import LabeledImages


class Mnist(DownloadedSource):
    """Handwritten digits: 60,000 training and 10,000 test images, grey 28 x 28, 10 classes.

    Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE, 1998.

    Looked for in ``root``, ``root/MNIST/raw`` (torchvision's layout), then downloaded to the
    latter. The arguments are those of `DownloadedSource`.
    """

    similarity = THINGS
    published: ClassVar[Any] = datasets.MNIST
    installed: ClassVar[tuple[str, ...]] = ()

    def read(self) -> tuple[LabeledImages, LabeledImages]:
        """Read both parts."""
        names = [name(part) for part in ("train", "t10k") for name in (images_name, labels_name)]
        raw = Path(self.root, self.published.__name__, "raw")
        folders = [Path(self.root), raw, *map(Path, self.installed)]
        folder = self.folder_with(names, folders)
        if folder is None:
            files = [
                RemoteFile(name, tuple(f"{mirror}{name}" for mirror in self.published.mirrors), md5)
                for name, md5 in self.published.resources
            ]
            self.fetch(files, raw, wanted=f"its IDX files in {' or '.join(map(str, folders))}")
            folder = raw
        classes = tuple(self.published.classes)
        train, test = (read_idx_part(folder, part, classes=classes) for part in ("train", "t10k"))
        return train, test
