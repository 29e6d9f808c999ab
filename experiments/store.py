"""Content-addressed products on disk: written atomically, locked, checksummed, never unpickled."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from experiments.errors import UserError

_FILES = ("tensors.safetensors", "facts.json")
_PARTIAL = ".partial-"
_ABANDONED_SECONDS = 3600


class StoreError(UserError):
    """The store cannot be read or written."""


def digest(value: object) -> str:
    """Short SHA-256 of a JSON value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Product:
    """What a stage makes.

    Attributes:
        tensors: Named tensors, kept as safetensors.
        facts: A JSON object.
    """

    tensors: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class Store:
    """Stage products and cells of finished runs, under one folder.

    ``<kind>/<key>/`` holds a stage product, ``cells/`` the records. A product appears complete or
    not at all; a second process that wants the same one waits for the first.
    """

    def __init__(self, root: Path) -> None:
        """Use (and if need be create) the folder `root`."""
        self.root = root
        with self._writing():
            (root / "cells").mkdir(parents=True, exist_ok=True)
            (root / "locks").mkdir(exist_ok=True)
            self._sweep()

    def product(self, kind: str, key: str, make: Callable[[], Product]) -> Product:
        """Return the product of a stage, making it where it is not there yet.

        Raises:
            StoreError: It is there but damaged, or cannot be written.
        """
        folder = self.root / kind / key
        with self.lock(f"{kind}-{key}"):
            if not folder.exists():
                self._write_product(folder, make())
            return self._read_product(folder)

    def put(self, kind: str, key: str, product: Product) -> None:
        """Keep a product that was made elsewhere, unless an equal one is there already."""
        self.product(kind, key, lambda: product)

    def has(self, kind: str, key: str) -> bool:
        """Whether a stage product is there."""
        return (self.root / kind / key).exists()

    def lock(self, name: str) -> FileLock:
        """A lock between processes."""
        return FileLock(self.root / "locks" / f"{name}.lock")

    def has_cell(self, cell_id: str) -> bool:
        """Whether the record of a cell is there."""
        return (self.root / "cells" / f"{cell_id}.json").exists()

    def write_cell(self, cell_id: str, record_json: str, scores: bytes | None) -> None:
        """Write scores, then the record: a cell is finished when its record is there."""
        if scores is not None:
            self._write_file(self.root / "cells" / f"{cell_id}.safetensors", scores)
        self._write_file(self.root / "cells" / f"{cell_id}.json", record_json.encode())

    def write_json(self, kind: str, key: str, value: object) -> None:
        """Write one JSON document."""
        with self._writing():
            (self.root / kind).mkdir(exist_ok=True)
        self._write_file(self.root / kind / f"{key}.json", json.dumps(value, indent=1).encode())

    def read_json(self, kind: str, key: str) -> Any | None:
        """Read a document back; None where there is none."""
        path = self.root / kind / f"{key}.json"
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except json.JSONDecodeError as error:
            raise StoreError(f"{path} is damaged ({error}): delete it and run again") from error

    def _sweep(self) -> None:
        """Remove what killed runs were writing; whatever is being written now is younger."""
        for path in self.root.glob(f"*/{_PARTIAL}*"):
            with suppress(FileNotFoundError):  # another process may be sweeping, too
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _write_product(self, folder: Path, product: Product) -> None:
        files = {
            "tensors.safetensors": _packed(product.tensors),
            "facts.json": json.dumps(product.facts, sort_keys=True, allow_nan=False).encode(),
        }
        manifest = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        files["manifest.json"] = json.dumps(manifest).encode()
        with self._writing():
            folder.parent.mkdir(parents=True, exist_ok=True)
            room = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_PARTIAL))
            try:
                for name, content in files.items():
                    _write_through(room / name, content)
                room.rename(folder)
            except BaseException:
                shutil.rmtree(room, ignore_errors=True)
                raise

    def _read_product(self, folder: Path) -> Product:
        from safetensors import SafetensorError

        damaged = f"{folder} is damaged: delete that folder and run again to make it anew"
        try:
            content = {name: (folder / name).read_bytes() for name in _FILES}
            manifest = json.loads((folder / "manifest.json").read_text())
            if manifest != {k: hashlib.sha256(v).hexdigest() for k, v in content.items()}:
                raise StoreError(damaged)
            tensors = _unpacked(content["tensors.safetensors"])
            return Product(tensors, json.loads(content["facts.json"]))
        except (OSError, ValueError, SafetensorError) as error:
            raise StoreError(damaged) from error

    def _write_file(self, path: Path, content: bytes) -> None:
        with self._writing():
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=_PARTIAL)
            os.close(handle)
            try:
                _write_through(Path(name), content)
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = (
                "free some space, or choose another folder with paths.runs=DIR"
                if error.errno in (errno.ENOSPC, errno.EDQUOT)
                else "check the folder's permissions, or choose another with paths.runs=DIR"
            )
            raise StoreError(f"cannot write to the store {self.root}: {error}; {remedy}") from error


def _packed(tensors: Mapping[str, Any]) -> bytes:
    """As safetensors; what several names share, as parts of attacks do, is written once."""
    from safetensors.torch import save

    kept: dict[str, Any] = {}
    names: dict[tuple[object, ...], str] = {}
    aliases: dict[str, str] = {}
    memory: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        place = (value.data_ptr(), value.dtype, value.shape)
        if value.numel() and place in names:
            aliases[name] = names[place]
        else:
            shared = value.untyped_storage().data_ptr() in memory  # in part: safetensors refuses
            memory.add(value.untyped_storage().data_ptr())
            names[place], kept[name] = name, value.clone() if shared else value
    content: bytes = save(kept, metadata=aliases or None)
    return content


def _unpacked(content: bytes) -> dict[str, Any]:
    """All names again, on the device where the job computes."""
    from safetensors.torch import load

    from splitbench.placement import here

    tensors: dict[str, Any] = {name: value.to(here()) for name, value in load(content).items()}
    # The header, whose size and form `load` has checked: `load` itself does not show metadata.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    aliases = header.get("__metadata__", {})
    if not set(aliases.values()) <= tensors.keys():
        raise ValueError("an alias of a tensor that is not there")
    return tensors | {name: tensors[kept] for name, kept in aliases.items()}


def _write_through(path: Path, content: bytes) -> None:
    """Write and flush to the disk, so that a rename never publishes half a file."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
