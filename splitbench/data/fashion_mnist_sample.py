"""The part of Fashion-MNIST that the package carries."""

import hashlib
import io
import json
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from splitbench.data.duplicates import THINGS
from splitbench.data.images import LabeledImages
from splitbench.data.roles import Sizes
from splitbench.data.source import DataDamagedError, Source

FOLDER = "fashion_mnist_sample"
SIDE = 28
COLUMNS = 40


class FashionMnistSample(Source):
    """10,000 images of Fashion-MNIST, 1,000 of each class, without near duplicates; no download.

    Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking
    machine learning algorithms", 2017. Each class holds 900 images of the official training set
    and 100 of the official test set, chosen at random.

    Args:
        sizes: Images of each role; see `assign_roles`.
        seed: Of the assignment to roles.
    """

    similarity = THINGS

    def __init__(self, *, sizes: Sizes, seed: int = 0) -> None:
        self.sizes = sizes
        self.seed = seed

    def read(self) -> tuple[LabeledImages, None]:
        """Read and verify all images."""
        return read_sample(files("splitbench.data") / "assets" / FOLDER), None


def read_sample(folder: Traversable) -> LabeledImages:
    """Read the mosaics of a folder, one per class.

    Args:
        folder: Holds ``manifest.json`` and the pictures that it names.

    Raises:
        DataDamagedError: A file is missing or not the one that the manifest states.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        tiles = [_tiles(folder, entry) for entry in manifest["mosaics"]]
        classes = tuple(str(entry["class"]) for entry in manifest["mosaics"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataDamagedError(
            f"the embedded sample of Fashion-MNIST is damaged ({error}): install SplitBench again"
        ) from error
    labels = torch.arange(len(tiles)).repeat_interleave(torch.tensor([len(t) for t in tiles]))
    return LabeledImages(torch.cat(tiles)[:, None], labels, classes)


def _tiles(folder: Traversable, entry: Mapping[str, Any]) -> Tensor:
    content = (folder / entry["file"]).read_bytes()
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ValueError(f"{entry['file']} has another SHA-256 than the manifest states")
    mosaic = np.array(Image.open(io.BytesIO(content)))
    rows = mosaic.shape[0] // SIDE
    tiles = torch.from_numpy(mosaic).reshape(rows, SIDE, COLUMNS, SIDE).transpose(1, 2)
    return tiles.reshape(rows * COLUMNS, SIDE, SIDE)[: len(entry["indices"])]
