"""Make the embedded sample anew from the full Fashion-MNIST.

Usage: ``python -m splitbench.data.assets.make_fashion_mnist_sample ROOT OUT``, where ROOT is the
folder that `FashionMnist` reads from and OUT the folder to write the mosaics and the manifest to.
The same pixels come out everywhere; the same bytes only with the same versions of Pillow and zlib.
"""

import argparse
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from splitbench.data.duplicates import duplicate_groups
from splitbench.data.fashion_mnist import FashionMnist
from splitbench.data.fashion_mnist_sample import COLUMNS, SIDE
from splitbench.data.images import join
from splitbench.rng import stream

OFFICIAL_TRAIN = 60_000
FROM_TRAIN, FROM_TEST = 900, 100  # of each class


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose, write, describe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="folder with the full Fashion-MNIST")
    parser.add_argument("out", type=Path, help="folder to write to")
    options = parser.parse_args(arguments)
    images = join(FashionMnist(root=options.root, sizes={}, download=False).read())
    kept = duplicate_groups(images, similarity=FashionMnist.similarity).kept
    options.out.mkdir(parents=True, exist_ok=True)
    mosaics = []
    for label, name in enumerate(images.classes):
        index = choose(kept[images.labels[kept] == label], name)
        content = mosaic(images.pixels[index, 0])
        file = f"{label}-{name.lower().replace('/', '-').replace(' ', '-')}.png"
        (options.out / file).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        mosaics.append({"file": file, "class": name, "sha256": digest, "indices": index.tolist()})
    manifest = json.dumps({"images": images.fingerprint(), "mosaics": mosaics})
    (options.out / "manifest.json").write_text(manifest.replace('{"file"', '\n{"file"') + "\n")


def choose(candidates: Tensor, name: str) -> Tensor:
    """Positions of one class's images, ascending: 900 of the training set and 100 of the test set.

    Args:
        candidates: Positions in training set and test set together.
        name: Of the class; names the random stream.
    """
    generator = stream(0, "fashion_mnist_sample", name)
    shuffled = candidates[torch.randperm(len(candidates), generator=generator)]
    train, test = shuffled[shuffled < OFFICIAL_TRAIN], shuffled[shuffled >= OFFICIAL_TRAIN]
    return torch.cat([train[:FROM_TRAIN], test[:FROM_TEST]]).sort().values


def mosaic(images: Tensor) -> bytes:
    """A PNG of images uint8 ``(n, 28, 28)`` side by side, 40 to a row; n a multiple of 40."""
    tiles = images.reshape(-1, COLUMNS, SIDE, SIDE).transpose(1, 2)
    picture = Image.fromarray(tiles.reshape(-1, COLUMNS * SIDE).numpy())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
