"""The configuration files of the models, and the table of their cuts."""

import inspect
import io
from importlib.resources import files

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console

from experiments.cuts import cuts_table
from splitbench import models
from splitbench.release import TensorSpec
from splitbench.split import Cut

CONFIGS = {path.stem: path for path in (files("configs") / "model").iterdir()}
GIVEN = {"image_shape", "classes"}  # by the runner


def load(stem):
    return OmegaConf.to_container(OmegaConf.create(CONFIGS[stem].read_text()))


@pytest.mark.parametrize("stem", CONFIGS)
def test_a_configuration_shows_every_keyword_with_its_default(stem):
    node = load(stem)
    target = node.pop("_target_")
    assert node.pop("_partial_") is True
    builder = getattr(models, target.removeprefix("splitbench.models."))
    keywords = inspect.signature(builder).parameters.values()
    assert all(keyword.kind is keyword.KEYWORD_ONLY for keyword in keywords)
    assert node == {k.name: k.default for k in keywords if k.name not in GIVEN}


def test_every_model_has_a_configuration():
    targets = {load(stem)["_target_"].rpartition(".")[2] for stem in CONFIGS}
    assert targets == set(models.__all__) - {"Normalize"}


def test_a_configuration_builds_a_model_once_the_shape_is_known():
    model = instantiate(load("le_net5"))(image_shape=(1, 28, 28), classes=3)
    assert model.fc3.out_features == 3


def test_the_table_shows_tensors_bytes_and_the_clients_share():
    pair = (TensorSpec("a", (4, 2, 2)), TensorSpec("b", (10,), "float16"))
    found = [
        Cut("input", 0, (TensorSpec("input", (3, 4, 4)),), 0, 2000, 0, 9),
        Cut("b", 3, pair, 500, 1500, 1234, 5),
    ]
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(cuts_table(found))
    rows = [line.split("│")[1:-1] for line in console.export_text().splitlines() if "│" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["0", "input", "3x4x4", "192", "0.0%", "0"],
        ["3", "b", "4x2x2 + 10", "84", "25.0%", "1,234"],
    ]
