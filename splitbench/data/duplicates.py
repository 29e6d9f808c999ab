"""Exact and near duplicates among images."""

import hashlib
import math
from dataclasses import dataclass

import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from splitbench.data.images import LabeledImages

GRID = 16  # sides of the grey thumbnail that near duplicates are compared on; even
BLOCK = 512  # images per block: a block of correlations stays in the cache
FLAT = 1e-3  # RMS contrast of a thumbnail, in [0, 1], below which it has no pattern to compare
PAIRS_PER_IMAGE = 50  # more than this many pairs: the threshold does not fit the data

THINGS = 0.9975
"""Similarity of near duplicates among centred objects or glyphs on a plain ground (MNIST-like).

Different trousers of Fashion-MNIST reach it, so a few that are no copies are taken for one.
"""
PHOTOGRAPHS = 0.97
"""Similarity of near duplicates among natural photographs.

Of 40 random pairs of CIFAR-10 between 0.97 and 0.98, 37 are the same scene to the eye, and
nearly all above; the others are bare horizons.
"""


@dataclass(frozen=True)
class Groups:
    """Which images are copies of one another.

    Attributes:
        first: Position of the first image of each image's group, int64 ``(n,)``; an image is the
            one that stands for its group where ``first[i] == i``.
        exact_copies: Images beyond the first of each set of byte-equal ones.
        near_copies: Images beyond the first of each group of similar ones, exact copies aside.
    """

    first: Tensor
    exact_copies: int
    near_copies: int

    @property
    def kept(self) -> Tensor:
        """Positions of the first of each group, ascending."""
        return (self.first == torch.arange(len(self.first))).nonzero()[:, 0]


def content_hashes(images: LabeledImages) -> list[bytes]:
    """A hash of the pixels of each image; equal pixels, equal hash. Labels do not enter."""
    rows = images.pixels.contiguous().numpy()
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]


def similar_pairs(images: LabeledImages, *, similarity: float) -> Tensor:
    """All pairs of near duplicates.

    Two images are near duplicates when their grey thumbnails of 16 x 16 block means, or one
    thumbnail and the mirror image of the other, have a Pearson correlation of at least
    `similarity`. So a change of brightness, contrast, colour or compression does not hide a copy,
    nor does a mirror; a shift, crop or rotation does. Thumbnails without contrast match nothing.

    The search is exact and compares all pairs that can match: images are sorted along the mirror
    invariant direction in which they vary most, on which the thumbnails of a pair, being unit
    vectors with inner product >= s, differ by at most ``sqrt(2 - 2 s)``.

    Args:
        images: The images to compare among themselves.
        similarity: Smallest correlation of near duplicates, in (0, 1).

    Returns:
        Positions, int64 ``(pairs, 2)``, the smaller one first, in lexicographic order.

    Raises:
        ValueError: `similarity` is outside (0, 1), or so low that it joins more than 50 pairs
            per image.
    """
    if not 0 < similarity < 1:
        raise ValueError(f"similarity must be in (0, 1), got {similarity}")
    even, odd = _thumbnails(images)
    place = even @ _principal_direction(even)
    order = place.argsort()
    even, odd, place = even[order], odd[order], place[order]
    reach = math.sqrt(2 - 2 * similarity) + 1e-4  # float32 rounding
    found = [torch.empty(0, 2, dtype=torch.long)]
    count = 0
    for start in range(0, len(place), BLOCK):
        rows = slice(start, start + BLOCK)
        stop = int(torch.searchsorted(place, place[rows][-1] + reach, right=True))
        for left in range(start, stop, BLOCK):
            columns = slice(left, min(left + BLOCK, stop))
            # <a, b> = even + odd and <a, mirror(b)> = even - odd
            match = (odd[rows] @ odd[columns].T).abs_().add_(even[rows] @ even[columns].T)
            pairs = (match >= similarity).nonzero() + torch.tensor([start, left])
            found.append(pairs[pairs[:, 0] < pairs[:, 1]])
            count += len(found[-1])
            if count > PAIRS_PER_IMAGE * len(place):
                raise ValueError(
                    f"more than {PAIRS_PER_IMAGE * len(place)} pairs of {len(place)} images have a "
                    f"similarity >= {similarity}: raise the similarity, these are not copies"
                )
    sorted_pairs: Tensor = order[torch.cat(found)].sort(dim=1).values.unique(dim=0)
    return sorted_pairs


def duplicate_groups(images: LabeledImages, *, similarity: float) -> Groups:
    """Group exact and near duplicates; copies of copies are in the group too.

    Raises:
        ValueError: As `similar_pairs`.
    """
    seen: dict[bytes, int] = {}
    first = torch.tensor([seen.setdefault(h, i) for i, h in enumerate(content_hashes(images))])
    unique = (first == torch.arange(len(first))).nonzero()[:, 0]
    pairs = unique[similar_pairs(images.subset(unique), similarity=similarity)]
    edges = torch.cat([pairs, torch.stack([first, torch.arange(len(first))], dim=1)]).numpy()
    ones = torch.ones(len(edges), dtype=torch.bool).numpy()
    graph = coo_array((ones, (edges[:, 0], edges[:, 1])), shape=(len(first), len(first)))
    count, component = connected_components(graph, directed=False)
    lowest = torch.full((count,), len(first)).scatter_reduce(
        0, torch.from_numpy(component).long(), torch.arange(len(first)), reduce="amin"
    )
    return Groups(
        first=lowest[torch.from_numpy(component).long()],
        exact_copies=len(first) - len(unique),
        near_copies=len(unique) - count,
    )


def _thumbnails(images: LabeledImages) -> tuple[Tensor, Tensor]:
    """Mirror-even and mirror-odd parts of the unit-norm thumbnails, each float ``(n, 128)``."""
    chunks = [
        adaptive_avg_pool2d(images.images(slice(i, i + BLOCK)).mean(1, keepdim=True), GRID)
        for i in range(0, len(images), BLOCK)
    ]
    grid = torch.cat(chunks)[:, 0]
    grid = grid - grid.mean((1, 2), keepdim=True)
    norm = grid.flatten(1).norm(dim=1)[:, None, None]
    grid = torch.where(norm > FLAT * GRID, grid / norm.clamp_min(1e-12), 0.0)
    left, right = grid[..., : GRID // 2], grid[..., GRID // 2 :].flip(-1)
    root = math.sqrt(0.5)
    return ((left + right) * root).flatten(1), ((left - right) * root).flatten(1)


def _principal_direction(even: Tensor) -> Tensor:
    centred = even - even.mean(0)
    direction: Tensor = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
    return direction
