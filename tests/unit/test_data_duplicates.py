"""Exact and near duplicates: what counts as one, against closed forms and brute force."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splitbench.data.duplicates import duplicate_groups, similar_pairs
from splitbench.data.images import LabeledImages

CLASSES = ("a", "b")


def photographs(count, *, seed=0, size=16, channels=1):
    generator = torch.Generator().manual_seed(seed)
    shape = (count, channels, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def labelled(pixels):
    return LabeledImages(pixels, torch.zeros(len(pixels), dtype=torch.long), CLASSES)


def pairs_of(pixels, similarity=0.97):
    return similar_pairs(labelled(pixels), similarity=similarity).tolist()


def mixed(correlation):
    """Two images of 16 x 16 whose Pearson correlation is the one asked for."""
    waves = torch.arange(16) * (2 * math.pi / 16)
    first = waves.sin().expand(16, 16)
    second = (2 * waves).sin().expand(16, 16)
    other = correlation * first + math.sqrt(1 - correlation**2) * second
    return torch.stack([first, other])[:, None] / 4 + 0.5


@given(
    correlation=st.floats(0.5, 1),
    threshold=st.floats(0.6, 0.999),
)
@settings(max_examples=50, deadline=None)
def test_the_threshold_is_the_correlation_of_the_thumbnails(correlation, threshold):
    expected = correlation >= threshold
    if abs(correlation - threshold) > 1e-5:
        assert (pairs_of(mixed(correlation), threshold) == [[0, 1]]) == expected


def test_all_pairs_are_found_that_a_comparison_of_everything_finds():
    # Sums of few patterns: correlations are spread out, many of them near the threshold.
    patterns = photographs(3, seed=1).float().flatten(1)
    weights = torch.rand(1200, 3, generator=torch.Generator().manual_seed(2))
    pixels = (weights @ patterns).reshape(-1, 1, 16, 16)
    pixels[::2] = pixels[::2].flip(-1)
    pixels = pixels / pixels.amax()
    rows = pixels.flatten(1).double().numpy()
    mirrored = pixels.flip(-1).flatten(1).double().numpy()
    direct = np.corrcoef(rows)
    crossed = np.corrcoef(rows, mirrored)[: len(rows), len(rows) :]
    best = np.triu(np.maximum(direct, crossed), 1)
    threshold = 0.9999
    found = {tuple(pair) for pair in pairs_of(pixels, threshold)}
    certain = {tuple(p) for p in np.argwhere(best > threshold + 1e-6).tolist()}
    possible = {tuple(p) for p in np.argwhere(best > threshold - 1e-6).tolist()}
    assert len(certain) > 200
    assert certain <= found <= possible


@pytest.mark.parametrize(
    "disguise",
    [
        pytest.param(lambda x: x, id="nothing"),
        pytest.param(lambda x: x.flip(-1), id="mirrored"),
        pytest.param(lambda x: x // 2 + 60, id="brightness and contrast"),
        pytest.param(lambda x: x // 8 * 8, id="coarse levels"),
        pytest.param(lambda x: x.flip(1), id="colours exchanged"),
    ],
)
def test_a_disguised_copy_is_found(disguise):
    pixels = photographs(40, channels=3, size=32)
    assert pairs_of(torch.cat([pixels, disguise(pixels[7:8])])) == [[7, 40]]


def test_different_images_are_no_duplicates():
    assert pairs_of(photographs(600)) == []


def test_blank_images_match_nothing_but_equal_ones():
    blank = torch.stack([torch.full((1, 28, 28), v, dtype=torch.uint8) for v in (0, 90, 0, 255)])
    assert pairs_of(blank) == []
    groups = duplicate_groups(labelled(blank), similarity=0.97)
    assert groups.first.tolist() == [0, 1, 0, 3]
    assert (groups.exact_copies, groups.near_copies) == (1, 0)


def test_copies_of_copies_are_one_group_that_its_first_image_stands_for():
    one = photographs(1, seed=3)
    a, b = photographs(2, seed=4)[:, None].float() / 255
    # A chain: each link is similar to the next, its ends are not.
    chain = torch.cat([(1 - t) * a + t * b for t in (0.0, 0.12, 0.24)])
    pixels = torch.cat([one.float() / 255, chain, one.float() / 255])
    assert pairs_of(pixels, 0.98) == [[0, 4], [1, 2], [2, 3]]
    groups = duplicate_groups(labelled(pixels), similarity=0.98)
    assert groups.first.tolist() == [0, 1, 1, 1, 0]
    assert groups.kept.tolist() == [0, 1]
    assert (groups.exact_copies, groups.near_copies) == (1, 2)


def test_a_thousand_equal_images_are_one_group_without_pairs_being_listed():
    groups = duplicate_groups(labelled(photographs(1).expand(1000, 1, 16, 16)), similarity=0.97)
    assert groups.kept.tolist() == [0]
    assert groups.exact_copies == 999


def test_a_threshold_that_joins_everything_is_refused():
    pixels = photographs(1).float() / 300 + photographs(300, seed=1).float() / 25500
    with pytest.raises(ValueError, match="raise the similarity"):
        similar_pairs(labelled(pixels), similarity=0.5)


@pytest.mark.parametrize("similarity", [0.0, 1.0, -0.2, math.nan])
def test_a_threshold_out_of_range_is_refused(similarity):
    with pytest.raises(ValueError, match=r"must be in \(0, 1\)"):
        similar_pairs(labelled(photographs(2)), similarity=similarity)
