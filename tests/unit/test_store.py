"""Stage products on disk."""

import errno
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from experiments import store as module
from experiments.errors import UserError
from experiments.store import Product, Store, StoreError, digest

FILES = ["facts.json", "manifest.json", "tensors.safetensors"]


def product(value=1.0):
    return Product({"weight": torch.full((2, 3), value)}, {"seconds": 1.5})


def never():
    raise AssertionError("made again")


def leftovers(root):
    return [p for p in root.rglob("*") if ".partial" in p.name]


@pytest.fixture
def kept(tmp_path):
    """A store with one product in it, and the folder of that product."""
    store = Store(tmp_path / "runs")
    store.product("model", "k", product)
    return store, tmp_path / "runs" / "model" / "k"


def test_a_product_is_made_once_and_then_read(kept):
    store, folder = kept
    again = store.product("model", "k", never)
    assert torch.equal(again.tensors["weight"], torch.ones(2, 3))
    assert again.facts == {"seconds": 1.5}
    assert sorted(p.name for p in folder.iterdir()) == FILES


def test_the_maker_is_handed_what_a_later_reader_gets(tmp_path):
    first = Store(tmp_path).product("model", "k", product)
    second = Store(tmp_path).product("model", "k", never)
    assert torch.equal(first.tensors["weight"], second.tensors["weight"])
    assert first.facts == second.facts


def test_what_a_killed_run_left_behind_is_swept_away_once_it_is_old(tmp_path):
    Store(tmp_path)
    old, young = tmp_path / "cells" / ".partial-old", tmp_path / "cells" / ".partial-young"
    folder = tmp_path / "cells" / ".partial-folder"
    folder.mkdir()
    for path in (old, young, folder / "facts.json"):
        path.write_text("{}")
    for path in (old, folder):
        os.utime(path, (0, 0))
    Store(tmp_path)
    assert leftovers(tmp_path) == [young]


def test_kinds_and_keys_do_not_mix(tmp_path):
    store = Store(tmp_path)
    for i, (kind, key) in enumerate([("a", "x"), ("a", "y"), ("b", "x")]):
        store.product(kind, key, lambda i=i: product(float(i)))
    found = [store.product(kind, key, never) for kind, key in [("a", "x"), ("a", "y"), ("b", "x")]]
    assert [float(p.tensors["weight"][0, 0]) for p in found] == [0, 1, 2]


def test_tensors_that_are_views_are_kept_by_value(tmp_path):
    base = torch.arange(6.0).view(2, 3)
    made = Store(tmp_path).product("m", "k", lambda: Product({"view": base.T, "row": base[0]}))
    assert torch.equal(made.tensors["view"], base.T)
    assert torch.equal(made.tensors["row"], base[0])


def test_what_two_names_share_is_kept_once_and_comes_back_under_both(tmp_path):
    big = torch.arange(10_000.0)
    tensors = {"own": big, "part.own": big, "row": big[:100], "empty": big[:0], "none": big[:0]}
    store = Store(tmp_path)
    back = store.product("attack", "k", lambda: Product(tensors)).tensors
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    size = (tmp_path / "attack" / "k" / "tensors.safetensors").stat().st_size
    assert size < 1.2 * big.nbytes


def test_a_maker_that_fails_leaves_nothing(tmp_path):
    store = Store(tmp_path)

    def fail():
        raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"):
        store.product("model", "k", fail)
    assert not store.has("model", "k")
    assert not leftovers(tmp_path)
    assert store.product("model", "k", product).facts == {"seconds": 1.5}


def test_facts_that_are_not_finite_are_refused_and_leave_nothing(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="JSON compliant"):
        store.product("model", "k", lambda: Product({}, {"loss": float("nan")}))
    assert not store.has("model", "k")
    assert not leftovers(tmp_path)


def test_a_full_disk_is_one_sentence_with_a_remedy_and_leaves_nothing(tmp_path, monkeypatch):
    store = Store(tmp_path)

    def full(path: Path, content: bytes) -> None:
        path.write_bytes(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "_write_through", full)
    for write in (
        lambda: store.product("model", "k", product),
        lambda: store.write_cell("c", "{}", b"scores"),
        lambda: store.write_json("jobs", "j", {}),
    ):
        with pytest.raises(StoreError) as failure:
            write()
        assert str(tmp_path) in str(failure.value)
        assert "free some space" in str(failure.value)
    assert not store.has("model", "k")
    assert not store.has_cell("c")
    assert store.read_json("jobs", "j") is None
    assert not leftovers(tmp_path)


def test_an_interrupt_while_writing_leaves_nothing(tmp_path, monkeypatch):
    store = Store(tmp_path)
    real, calls = module._write_through, []

    def interrupted(path: Path, content: bytes) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(path, content)

    monkeypatch.setattr(module, "_write_through", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.product("model", "k", product)
    assert not store.has("model", "k")
    assert not leftovers(tmp_path)


def _write_and_hang(root, reached):
    real, calls = module._write_through, []

    def slow(path, content):
        real(path, content)
        calls.append(path)
        if len(calls) == 2:
            reached.set()
            time.sleep(60)

    module._write_through = slow
    Store(root).product("model", "k", product)


def test_a_killed_writer_leaves_no_product_and_no_lock(tmp_path):
    context = multiprocessing.get_context("fork")
    reached = context.Event()
    writer = context.Process(target=_write_and_hang, args=(tmp_path, reached))
    writer.start()
    assert reached.wait(30)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    store = Store(tmp_path)
    assert not store.has("model", "k")
    assert store.product("model", "k", product).facts == {"seconds": 1.5}


def _make_slowly(root, made, entered):
    def make():
        entered.set()
        with made.get_lock():
            made.value += 1
        time.sleep(0.3)
        return product()

    Store(root).product("model", "k", make)


def test_two_processes_that_want_a_product_make_it_once(tmp_path):
    context = multiprocessing.get_context("fork")
    made, entered = context.Value("i", 0), context.Event()
    both = [context.Process(target=_make_slowly, args=(tmp_path, made, entered)) for _ in range(2)]
    both[0].start()
    assert entered.wait(30)
    both[1].start()
    for process in both:
        process.join(30)
    assert [process.exitcode for process in both] == [0, 0]
    assert made.value == 1


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_a_damaged_file_is_named_with_its_remedy(kept, name, damage):
    store, folder = kept
    sound = (folder / name).read_bytes()
    if damage == "remove":
        (folder / name).unlink()
    else:
        flipped = bytes([sound[0] ^ 0x20]) + sound[1:]
        broken = {"flip": flipped, "truncate": sound[:-1], "empty": b""}[damage]
        (folder / name).write_bytes(broken)
    with pytest.raises(StoreError) as failure:
        store.product("model", "k", never)
    assert str(failure.value) == (
        f"{folder} is damaged: delete that folder and run again to make it anew"
    )


@pytest.mark.parametrize(
    "manifest",
    ["[]", "null", '{"../../secret": "00"}', '{"facts.json": 1}', '{"facts.json": "00"}'],
)
def test_a_manifest_of_another_form_is_damage(kept, manifest):
    store, folder = kept
    (folder / "manifest.json").write_text(manifest)
    with pytest.raises(StoreError, match="is damaged"):
        store.product("model", "k", never)


class Bomb:
    """Would raise if it were ever unpickled."""

    def __reduce__(self):
        return (never, ())


def test_a_pickle_in_place_of_tensors_is_damage_and_is_not_executed(kept):
    store, folder = kept
    torch.save(Bomb(), folder / "tensors.safetensors")
    with pytest.raises(StoreError, match="is damaged"):
        store.product("model", "k", never)


def test_a_pickle_with_the_right_checksum_is_not_executed_either(kept):
    store, folder = kept
    torch.save(Bomb(), folder / "tensors.safetensors")
    manifest = json.loads((folder / "manifest.json").read_text())
    import hashlib

    content = (folder / "tensors.safetensors").read_bytes()
    manifest["tensors.safetensors"] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="is damaged"):
        store.product("model", "k", never)


def test_a_cell_is_finished_when_its_record_is_there(tmp_path):
    store = Store(tmp_path)
    assert not store.has_cell("c")
    store.write_cell("c", '{"a": 1}', b"scores")
    assert store.has_cell("c")
    assert (tmp_path / "cells" / "c.safetensors").read_bytes() == b"scores"
    assert json.loads((tmp_path / "cells" / "c.json").read_text()) == {"a": 1}


def test_scores_are_written_before_the_record(tmp_path, monkeypatch):
    written = []
    store = Store(tmp_path)
    monkeypatch.setattr(Store, "_write_file", lambda self, path, content: written.append(path.name))
    store.write_cell("c", "{}", b"scores")
    assert written == ["c.safetensors", "c.json"]


def test_documents_come_back_and_missing_ones_are_none(tmp_path):
    store = Store(tmp_path)
    store.write_json("jobs", "j", {"cells": ["a", "b"]})
    assert store.read_json("jobs", "j") == {"cells": ["a", "b"]}
    assert store.read_json("jobs", "other") is None


def test_a_damaged_document_is_named_with_its_remedy(tmp_path):
    store = Store(tmp_path)
    store.write_json("jobs", "j", {})
    (tmp_path / "jobs" / "j.json").write_text("{")
    with pytest.raises(StoreError, match=r"j\.json is damaged .*: delete it and run again"):
        store.read_json("jobs", "j")


def test_a_store_below_a_file_is_one_sentence_with_a_remedy(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"cannot write to the store .*paths\.runs=DIR"):
        Store(tmp_path / "file")


def test_a_digest_names_the_value_and_not_the_order_of_its_keys():
    assert digest({"a": 1, "b": [2.0]}) == digest({"b": [2.0], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
    assert digest([1, 2]) != digest([2, 1])
    with pytest.raises(ValueError, match="JSON compliant"):
        digest(float("nan"))
