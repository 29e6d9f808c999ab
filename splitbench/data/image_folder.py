"""Any folder of pictures."""

from pathlib import Path

import torch
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

from splitbench.data.deal import stratified_order
from splitbench.data.disjoint import IdentityRule
from splitbench.data.duplicates import PHOTOGRAPHS
from splitbench.data.images import LabeledImages
from splitbench.data.pictures import read_pictures
from splitbench.data.roles import Sizes
from splitbench.data.source import DataDamagedError, DataUnavailableError, Source
from splitbench.rng import stream


class ImageFolder(Source):
    """Pictures in one folder per class, ``root/CLASS/*``, or ``root/{train,test}/CLASS/*``.

    Args:
        root: The folder. Where it holds both ``train`` and ``test``, these are the official parts.
        size: Side in pixels that pictures are scaled and centre cropped to.
        grayscale: One channel instead of three.
        sizes: Images of each role; see `assign_roles`.
        seed: Of the assignment to roles, and of the choice of `limit` pictures.
        literature_split: Keep the official training set together.
        similarity: Smallest similarity of near duplicates; see `similar_pairs`.
        identities: ``auxiliary`` where each class is a person whom the adversary must not know;
            ``shared`` where classes are not persons.
        limit: Read only so many pictures of each part, chosen at random with classes in
            proportion; None reads all.
    """

    def __init__(
        self,
        *,
        root: str,
        size: int,
        grayscale: bool = False,
        sizes: Sizes,
        seed: int = 0,
        literature_split: bool = False,
        similarity: float = PHOTOGRAPHS,
        identities: IdentityRule = "shared",
        limit: int | None = None,
    ) -> None:
        self.root = root
        self.size = size
        self.grayscale = grayscale
        self.sizes = sizes
        self.seed = seed
        self.literature_split = literature_split
        self.similarity = similarity
        self.identities = identities
        self.limit = limit

    def read(self) -> tuple[LabeledImages, LabeledImages | None]:
        """Read all pictures, or `limit` of each part."""
        root = Path(self.root)
        if not root.is_dir():
            raise DataUnavailableError(
                f"ImageFolder needs the folder {root}, which is not there: set root to a folder "
                "that holds one folder of pictures per class"
            )
        train, test = root / "train", root / "test"
        if not (train.is_dir() and test.is_dir()):
            return self._part(root), None
        parts = self._part(train), self._part(test)
        if parts[0].classes != parts[1].classes:
            raise DataDamagedError(
                f"{train} and {test} must hold the same classes, but "
                f"{', '.join(sorted(set(parts[0].classes) ^ set(parts[1].classes)))} are in one"
            )
        return parts

    def _part(self, folder: Path) -> LabeledImages:
        try:
            classes, places = find_classes(folder)
            found = sorted(make_dataset(str(folder), places, extensions=IMG_EXTENSIONS))
        except FileNotFoundError as error:
            raise DataUnavailableError(f"{folder} holds no folders of pictures: {error}") from error
        labels = torch.tensor([label for _, label in found])
        if self.limit is not None:
            order = stratified_order(labels, generator=stream(self.seed, "limit"))
            chosen = order[: self.limit].sort().values
            found = [found[i] for i in chosen.tolist()]
            labels = labels[chosen]
        pixels = read_pictures(
            [Path(path) for path, _ in found], size=self.size, grayscale=self.grayscale
        )
        identities = None if self.identities == "shared" else labels
        return LabeledImages(pixels, labels, tuple(classes), identities)
