"""One yaml per codec, with every keyword and its default."""

import inspect
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

YAMLS = sorted(Path(str(files("configs") / "codec")).glob("*.yaml"))


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_a_yaml_holds_every_keyword_of_its_class_with_its_default(path):
    content = yaml.safe_load(path.read_text())
    module, _, name = content.pop("_target_").rpartition(".")
    assert module == f"splitbench.codecs.{path.stem}"
    cls = getattr(import_module(module), name)
    parameters = inspect.signature(cls).parameters.values()
    assert content == {p.name: p.default for p in parameters}
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters)
    assert cls(**content) == cls()


def test_every_module_with_a_codec_has_its_yaml():
    assert [path.stem for path in YAMLS] == [
        "channel_subset",
        "entropy_coded",
        "float16",
        "float32",
        "jpeg",
        "raw_image",
        "sign",
        "top_k",
        "uniform",
    ]
