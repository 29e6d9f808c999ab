"""The embedded sample: intact, balanced, disjoint, and loud when damaged."""

import json
import re
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from splitbench.data.assets.make_fashion_mnist_sample import choose, mosaic
from splitbench.data.fashion_mnist_sample import FashionMnistSample, read_sample
from splitbench.data.images import ROLES
from splitbench.data.source import DataDamagedError

FOLDER = Path(str(files("splitbench.data"))) / "assets" / "fashion_mnist_sample"
SIZES = {"train": 5000, "auxiliary": 3000, "calibration": 1000, "target": 1000}


@pytest.fixture(scope="module")
def roles():
    return FashionMnistSample(sizes=SIZES).load()


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(FOLDER, tmp_path / "sample"))


def test_all_ten_thousand_images_are_in_a_role_and_none_is_dropped(roles):
    assert {name: len(getattr(roles, name)) for name in ROLES} == SIZES
    assert set(roles.dropped.values()) == {0}
    assert len(set(roles.fingerprints().values())) == 4


def test_every_role_holds_each_class_equally_often(roles):
    for name in ROLES:
        assert getattr(roles, name).labels.bincount().tolist() == [SIZES[name] // 10] * 10


def test_images_are_grey_bytes_of_28_by_28_with_the_contrast_of_clothes(roles):
    assert roles.train.shape == (1, 28, 28)
    assert roles.train.pixels.dtype == torch.uint8
    # The mean and deviation of the full training set are 0.286 and 0.353.
    assert roles.train.images().mean() == pytest.approx(0.286, abs=0.01)
    assert roles.train.images().std() == pytest.approx(0.353, abs=0.01)


def test_the_classes_can_be_told_apart_by_their_mean_images(roles):
    train, target = roles.train, roles.target
    means = torch.stack([train.images(train.labels == k).mean(0) for k in range(10)])
    nearest = torch.cdist(target.images().flatten(1), means.flatten(1)).argmin(1)
    assert (nearest == target.labels).float().mean() > 0.6


def test_the_manifest_names_900_training_and_100_test_images_of_each_class():
    mosaics = json.loads((FOLDER / "manifest.json").read_text())["mosaics"]
    assert len(mosaics) == 10
    for entry in mosaics:
        index = entry["indices"]
        assert index == sorted(set(index))
        assert sum(i < 60_000 for i in index) == 900
        assert sum(60_000 <= i < 70_000 for i in index) == 100


def test_no_file_is_above_one_megabyte_and_the_notice_is_there():
    assert all(path.stat().st_size < 1_000_000 for path in FOLDER.iterdir())
    assert "Zalando SE" in (FOLDER / "LICENSE").read_text()


def test_a_changed_byte_is_noticed(copy):
    file = copy / "4-coat.png"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        DataDamagedError, match=r"sample .* is damaged \(4-coat\.png has another SHA"
    ):
        read_sample(copy)


def test_a_missing_file_is_noticed(copy):
    (copy / "8-bag.png").unlink()
    with pytest.raises(DataDamagedError, match=r"8-bag\.png.*install SplitBench again"):
        read_sample(copy)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"mosaics": [{}]}', '{"mosaics": 3}'])
def test_a_manifest_that_says_nothing_is_noticed(copy, content):
    (copy / "manifest.json").write_text(content)
    with pytest.raises(DataDamagedError, match="is damaged"):
        read_sample(copy)


def test_what_the_maker_draws_and_writes_is_what_the_reader_reads(tmp_path):
    images = torch.randint(
        0, 256, (80, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    content = mosaic(images)
    (tmp_path / "a.png").write_bytes(content)
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    entry = {"file": "a.png", "class": "a", "indices": list(range(80))}
    entry["sha256"] = __import__("hashlib").sha256(content).hexdigest()
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "mosaics": [entry]}))
    assert torch.equal(read_sample(tmp_path).pixels[:, 0], images)


def test_the_maker_chooses_900_training_and_100_test_images():
    index = choose(torch.arange(1000, 70_000, 7), "Bag")
    assert len(index) == 1000
    assert int((index < 60_000).sum()) == 900
    assert index.tolist() == choose(torch.arange(1000, 70_000, 7), "Bag").tolist()


def test_the_repr_builds_the_source_again():
    source = FashionMnistSample(sizes=SIZES, seed=3)
    assert repr(eval(repr(source))) == repr(source)
    assert re.fullmatch(r"FashionMnistSample\(sizes=\{.*\}, seed=3\)", repr(source))
