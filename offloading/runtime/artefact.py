"""One segment of a plan as a folder: a manifest and weights, nothing that is executed."""

import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from offloading.runtime.errors import ArtefactError
from offloading.runtime.manifest import Manifest
from splitbench import __version__

MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"
MOST_MANIFEST_BYTES = 2**22
State = Mapping[str, Tensor]


def folder_of(root: Path, segment: int) -> Path:
    """Where the artefact of one segment lies in the folder of a plan."""
    return root / f"segment{segment}"


def packed(state: State) -> bytes:
    """Weights as safetensors; each name has memory of its own."""
    own = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    content: bytes = save(own)
    return content


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def versions() -> dict[str, str]:
    """Of what computes here."""
    return {
        "splitbench": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def write(folder: Path, manifest: Manifest, weights: bytes) -> None:
    """Write an artefact; it is there complete or not at all.

    Raises:
        ArtefactError: The folder is there already.
        OSError: It cannot be written.
    """
    if folder.exists():
        raise ArtefactError(f"{folder} is there already: choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
    try:
        for name, content in ((WEIGHTS, weights), (MANIFEST, manifest.to_json().encode())):
            with (room / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        room.chmod(0o755)
        room.rename(folder)
    except BaseException:
        shutil.rmtree(room, ignore_errors=True)
        raise


def read_manifest(folder: Path) -> Manifest:
    """The manifest alone.

    Raises:
        ArtefactError: It cannot be read, or is none.
    """
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MOST_MANIFEST_BYTES:
            raise ArtefactError(f"{path} has more than {MOST_MANIFEST_BYTES} bytes")
        return Manifest.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtefactError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ArtefactError(f"{path} is no text") from error


def read(folder: Path) -> tuple[Manifest, dict[str, Tensor]]:
    """Manifest and weights.

    Raises:
        ArtefactError: Something cannot be read, was changed, or is no safetensors: nothing is ever
            unpickled.
    """
    manifest = read_manifest(folder)
    path = folder / WEIGHTS
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtefactError(f"cannot read {path}: {error.strerror}") from error
    promised = manifest.deployed.weights
    if len(promised) != manifest.deployed.segments or digest(content) != promised[manifest.segment]:
        raise ArtefactError(f"{path} is not what its manifest promises (SHA-256): export it again")
    try:
        return manifest, dict(load(content))
    except SafetensorError as error:
        raise ArtefactError(f"{path} is no safetensors file: {error}") from error
