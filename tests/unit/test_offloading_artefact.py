"""What an artefact may hold, and what is refused before anything of it is run."""

import json
import os
import pickle
import shutil
from contextlib import suppress

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runtime_world import LENET, RESIDUAL, deployment, exported, images, lenet, residual

from defenses.chain import Chain
from defenses.gaussian_noise import GaussianNoise
from defenses.no_defense import NoDefense
from defenses.quantization import Quantization
from offloading.runtime.artefact import digest, folder_of, packed, read, read_manifest
from offloading.runtime.description import build_codec, build_defense, build_model, described
from offloading.runtime.errors import ArtefactError
from offloading.runtime.export import export
from offloading.runtime.manifest import Manifest
from offloading.runtime.segments import load_head, load_stage
from splitbench.codecs.uniform import Uniform

SHAPE = {"image_shape": (1, 28, 28), "classes": 10}


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("plans"), deployment(lenet(), "relu1"))


@pytest.fixture
def copied(plan, tmp_path):
    shutil.copytree(plan, tmp_path / "copy")
    return tmp_path / "copy"


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def rewrite(folder, change):
    """Change what a manifest says, and give it the id that belongs to what it then says."""
    path = folder / "manifest.json"
    raw = json.loads(path.read_text())
    change(raw["deployed"])
    from offloading.runtime.manifest import _deployed

    raw["plan_id"] = _deployed(raw["deployed"]).id
    path.write_text(json.dumps(raw))


def replace_weights(folder, content, segment):
    """Other weights, and a manifest that promises them."""
    (folder / "weights.safetensors").write_bytes(content)
    rewrite(folder, lambda deployed: deployed["weights"].__setitem__(segment, digest(content)))


@pytest.mark.parametrize("honest", [True, False], ids=["promised", "swapped"])
def test_a_pickle_in_place_of_the_weights_is_refused_and_never_run(copied, tmp_path, honest):
    witness = tmp_path / "witness"
    content = pickle.dumps(Evil(witness))
    folder = folder_of(copied, 1)
    if honest:
        replace_weights(folder, content, 1)
    else:
        (folder / "weights.safetensors").write_bytes(content)
    with pytest.raises(ArtefactError, match="no safetensors" if honest else "promises"):
        load_stage(folder)
    assert not witness.exists()
    pickle.loads(content)
    assert witness.exists(), "the pickle was harmless: the test showed nothing"


def test_a_changed_byte_of_the_weights_is_found(copied):
    path = folder_of(copied, 1) / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ArtefactError, match="SHA-256"):
        load_stage(folder_of(copied, 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("server/fc1.weight"), "fc1.weight"),
        (lambda state: state.update({"server/more": torch.zeros(1)}), "more"),
        (lambda state: state.update({"else/fc1.weight": torch.zeros(1)}), "more than"),
        (lambda state: state.update({"server/fc1.bias": torch.zeros(3)}), "fc1.bias"),
        (lambda state: state.update({"server/fc1.bias": torch.zeros(120).double()}), "type"),
    ],
)
def test_weights_that_do_not_fit_are_refused(copied, change, words):
    folder = folder_of(copied, 1)
    _, state = read(folder)
    change(state)
    replace_weights(folder, packed(state), 1)
    with pytest.raises(ArtefactError, match=words):
        load_stage(folder)


def test_a_plan_that_was_changed_after_it_was_named_is_refused(copied):
    path = folder_of(copied, 0) / "manifest.json"
    raw = json.loads(path.read_text())
    raw["deployed"]["on_failure"], raw["deployed"]["fallback"] = "local_exit", "whole"
    path.write_text(json.dumps(raw))
    with pytest.raises(ArtefactError, match="was changed"):
        load_head(folder_of(copied, 0))


@pytest.mark.parametrize(
    ("part", "target"),
    [
        ("model", "os.system"),
        ("model", "subprocess.Popen"),
        ("model", "builtins.eval"),
        ("model", "experiments.cli.main"),
        ("model", "splitbench.data.fetch.fetch"),
        ("model", "splitbench.models.torchvision.tv.resnet18"),
        ("model", "splitbench.models.torchvision.make_layers"),
        ("model", "splitbench.models.torchvision._load"),
        ("model", "splitbench.models.nowhere.Model"),
        ("model", "splitbench.models.lenet5.Nothing"),
        ("model", "defenses.no_defense.NoDefense"),
        ("model", None),
        ("defense", "os.system"),
        ("defense", "defenses.chain.reduce"),
        ("defense", "defenses.exit_head.ExitHead"),
        ("defense", "splitbench.codecs.float32.Float32"),
        ("codec", "defenses.no_defense.NoDefense"),
        ("codec", "attacks.ridge.Ridge"),
    ],
)
def test_only_models_defenses_and_codecs_of_trusted_packages_are_built(
    copied, part, target, monkeypatch
):
    ran = []
    monkeypatch.setattr("os.system", ran.append)
    folder = folder_of(copied, 1)
    rewrite(folder, lambda deployed: deployed.__setitem__(part, {"_target_": target}))
    with pytest.raises(ArtefactError):
        load_stage(folder)
    assert not ran


def test_a_defense_hidden_in_an_argument_is_looked_at_too():
    node = described(Chain(members={"noise": GaussianNoise(noise_std=0.5)}))
    node["members"]["noise"]["_target_"] = "os.system"
    with pytest.raises(ArtefactError, match=r"os\.system"):
        build_defense(node)


def test_a_module_of_the_user_is_built_once_it_is_trusted(tmp_path):
    with pytest.raises(ArtefactError, match="trust its module"):
        build_model(RESIDUAL, **SHAPE)
    folder = exported(tmp_path, deployment(residual(), "stem"), model=RESIDUAL)
    with pytest.raises(ArtefactError, match="trust its module"):
        load_stage(folder_of(folder, 1))
    assert load_stage(folder_of(folder, 1), trust=["runtime_world"]).manifest.is_last


def test_trust_in_a_module_is_none_in_those_whose_names_begin_like_it():
    with pytest.raises(ArtefactError, match="trust its module"):
        build_model(RESIDUAL, **SHAPE, trust=["runtime"])


def test_published_weights_are_not_downloaded_for_an_artefact():
    node = {"_target_": "splitbench.models.resnet18", "weights": "IMAGENET1K_V1", "mean": 0.5}
    assert build_model(node, **SHAPE)


def test_a_description_says_all_that_the_object_is_made_of():
    chain = Chain(members={"noise": GaussianNoise(noise_std=0.5), "bits": Quantization(bits=4)})
    assert repr(build_defense(json.loads(json.dumps(described(chain))))) == repr(chain)
    codec = Uniform(bits=4, clip=(0.0, 2.5))
    assert build_codec(json.loads(json.dumps(described(codec)))) == codec


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"bytes"])
def test_what_json_cannot_say_is_not_described(value):
    with pytest.raises((ArtefactError, ValueError)):
        json.dumps(described(value))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(value=json_values, data=st.data())
def test_a_manifest_with_anything_in_any_place_is_read_or_refused(plan, value, data):
    raw = json.loads((folder_of(plan, 0) / "manifest.json").read_text())
    place = raw if data.draw(st.booleans()) else raw["deployed"]
    place[data.draw(st.sampled_from(sorted(place)))] = value
    with suppress(ArtefactError):
        Manifest.from_json(json.dumps(raw))


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=50) | st.just("[" * 5000))
def test_text_that_is_no_manifest_is_refused(text):
    with pytest.raises(ArtefactError):
        Manifest.from_json(text)


def test_a_manifest_reads_back_as_it_was_written(plan):
    for segment in range(2):
        manifest = read_manifest(folder_of(plan, segment))
        assert Manifest.from_json(manifest.to_json()) == manifest
        assert manifest.segment == segment


def test_plans_with_other_weights_defenses_or_codecs_have_other_names(tmp_path):
    plans = [
        exported(tmp_path, deployment(lenet(seed), "relu1", defense=defense, codec=codec))
        for seed, defense, codec in (
            (0, None, None),
            (1, None, None),
            (0, NoDefense(), Uniform(bits=8)),
            (0, Quantization(bits=8, finetune_epochs=0), None),
        )
    ]
    again = exported(tmp_path, deployment(lenet(), "relu1"))
    ids = [read_manifest(folder_of(folder, 0)).deployed.id for folder in [*plans, again]]
    assert len(set(ids)) == 4
    assert ids[0] == ids[-1]


def test_each_segment_is_loaded_for_its_own_place(plan):
    with pytest.raises(ArtefactError, match="the device runs segment 0"):
        load_head(folder_of(plan, 1))
    with pytest.raises(ArtefactError, match="serve another one"):
        load_stage(folder_of(plan, 0))
    with pytest.raises(ArtefactError, match="cannot read"):
        load_stage(plan)


def test_a_segment_holds_no_weights_of_another_one(plan):
    names = [set(read(folder_of(plan, k))[1]) for k in range(2)]
    assert names[0] == {
        f"client/{name}"
        for name in ("conv1.weight", "conv1.bias", "normalize.mean", "normalize.std")
    }
    assert not any("conv1" in name for name in names[1])


def test_an_artefact_is_never_written_over(plan):
    with pytest.raises(ArtefactError, match="there already"):
        export(deployment(lenet(), "relu1"), plan, model=LENET, images=images(1), classes=10)
    assert load_stage(folder_of(plan, 1)), "what was there is there"


def test_what_answers_otherwise_than_the_deployment_is_not_left_behind(tmp_path):
    made = deployment(lenet(), "relu1")
    made.split.server.register_forward_hook(lambda module, given, logits: logits + 1)
    with pytest.raises(ArtefactError, match="answer otherwise"):
        export(made, tmp_path / "plan", model=LENET, images=images(1), classes=10)
    assert not list((tmp_path / "plan").iterdir())


def test_a_description_of_another_model_is_found_out_before_anybody_serves_it(tmp_path):
    other = {**LENET, "_target_": "splitbench.models.SixConv"}
    with pytest.raises(ArtefactError):
        exported(tmp_path, deployment(lenet(), "relu1"), model=other)
