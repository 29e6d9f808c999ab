"""CelebA."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from splitbench.data.disjoint import IdentityRule
from splitbench.data.images import LabeledImages
from splitbench.data.pictures import read_pictures
from splitbench.data.roles import Sizes
from splitbench.data.source import DataDamagedError, DataUnavailableError, Source
from splitbench.rng import stream

ATTRIBUTES = "list_attr_celeba.txt"
IDENTITIES = "identity_CelebA.txt"
PARTITION = "list_eval_partition.txt"
PICTURES = "img_align_celeba"
_TRAIN, _TEST = 0, 2  # 1 is validation; it is used where all images are pooled
LARGEST_BYTES = 256 << 20


class CelebA(Source):
    """202,599 photographs of 10,177 celebrities; the class is one of 40 attributes.

    Source: Liu, Luo, Wang and Tang, "Deep learning face attributes in the wild", ICCV 2015; the
    aligned and cropped pictures, 178 x 218. For non-commercial research, and never downloaded from
    here: ``torchvision.datasets.CelebA(root, download=True)`` does so.

    Args:
        root: Folder that holds ``celeba`` (torchvision's layout), or its contents.
        size: Side in pixels that photographs are scaled and centre cropped to.
        attribute: Name of the attribute that is the class, such as ``Smiling``.
        sizes: Images of each role; see `assign_roles`.
        seed: Of the assignment to roles, and of the choice of `limit` photographs.
        literature_split: Train on the official training part, and share the official test part
            among the other roles; validation is left out.
        similarity: Smallest similarity of near duplicates; see `similar_pairs`. Stricter than for
            other photographs, because aligned faces are alike.
        identities: Which roles may show the same person.
        limit: Read only so many photographs of each part, of persons chosen at random; None reads
            all, 2.5 GB at size 64.
        secrets: Names of further attributes, which inferences may be after. The task is not told.
    """

    def __init__(
        self,
        *,
        root: str,
        size: int,
        attribute: str = "Smiling",
        sizes: Sizes,
        seed: int = 0,
        literature_split: bool = False,
        similarity: float = 0.985,
        identities: IdentityRule = "disjoint",
        limit: int | None = None,
        secrets: Sequence[str] = (),
    ) -> None:
        self.root = root
        self.size = size
        self.attribute = attribute
        self.sizes = sizes
        self.seed = seed
        self.literature_split = literature_split
        self.similarity = similarity
        self.identities = identities
        self.limit = limit
        self.secrets = secrets

    def read(self) -> tuple[LabeledImages, LabeledImages | None]:
        """Read the photographs; pooled ones as one part."""
        folder = self._folder()
        wanted = (self.attribute, *self.secrets)
        names, attributes = _attributes(folder / ATTRIBUTES, wanted)
        persons = _numbers(folder / IDENTITIES, names)
        if not self.literature_split:
            everything = torch.arange(len(names))
            return self._part(folder, names, attributes, persons, everything), None
        partition = _numbers(folder / PARTITION, names)
        train, test = (
            self._part(folder, names, attributes, persons, (partition == part).nonzero()[:, 0])
            for part in (_TRAIN, _TEST)
        )
        return train, test

    def _folder(self) -> Path:
        needed = (ATTRIBUTES, IDENTITIES, PARTITION, PICTURES)
        folders = [Path(self.root), Path(self.root, "celeba")]
        for folder in folders:
            if all((folder / name).exists() for name in needed):
                return folder
        raise DataUnavailableError(
            f"CelebA needs {', '.join(needed)} in {' or '.join(map(str, folders))}: get them with "
            "torchvision.datasets.CelebA(root, download=True) where there is a network"
        )

    def _part(
        self,
        folder: Path,
        names: list[str],
        attributes: Mapping[str, Tensor],
        persons: Tensor,
        index: Tensor,
    ) -> LabeledImages:
        if self.limit is not None:
            index = _whole_persons(persons, index, self.limit, self.seed)
        pixels = read_pictures(
            [folder / PICTURES / names[i] for i in index.tolist()], size=self.size, grayscale=False
        )
        classes = (f"not {self.attribute}", self.attribute)
        labels = attributes[self.attribute][index]
        known = {name: attributes[name][index] for name in self.secrets}
        return LabeledImages(pixels, labels, classes, persons[index], known)


def _whole_persons(persons: Tensor, index: Tensor, limit: int, seed: int) -> Tensor:
    """The first `limit` of the given positions, person by person in a random order."""
    _, person = persons[index].unique(return_inverse=True)
    rank = torch.randperm(int(person.max()) + 1, generator=stream(seed, "limit"))[person]
    return index[rank.argsort(stable=True)[:limit]].sort().values


def _lines(path: Path) -> list[str]:
    if path.stat().st_size > LARGEST_BYTES:
        raise DataDamagedError(f"{path} has more than {LARGEST_BYTES} bytes")
    try:
        return path.read_text(encoding="ascii").splitlines()
    except UnicodeDecodeError as error:
        raise DataDamagedError(f"{path} is no table of CelebA: {error}") from error


def _attributes(path: Path, wanted: Sequence[str]) -> tuple[list[str], dict[str, Tensor]]:
    """File names, and for each wanted attribute 1 where it is present, else 0."""
    _, header, *rows = _lines(path) + [""] * 2
    attributes = header.split()
    for name in wanted:
        if name not in attributes:
            raise ValueError(f"attribute must be one of {', '.join(attributes)}; got {name!r}")
    table = [row.split() for row in rows if row]
    if not table or any(len(row) != len(attributes) + 1 for row in table):
        raise DataDamagedError(f"{path} does not give {len(attributes)} attributes in every row")
    columns = {name: attributes.index(name) + 1 for name in wanted}
    return [row[0] for row in table], {
        name: torch.tensor([int(row[column] == "1") for row in table])
        for name, column in columns.items()
    }


def _numbers(path: Path, names: list[str]) -> Tensor:
    """The number that a two-column table gives each file name."""
    table = dict(row.split(maxsplit=1) for row in _lines(path) if len(row.split()) == 2)
    try:
        return torch.tensor([int(table[name]) for name in names])
    except (KeyError, ValueError) as error:
        raise DataDamagedError(f"{path} gives no number for {error}") from error
