"""A suite's version belongs to its content: no way of changing a suite keeps its version."""

from pathlib import Path

import pytest

from experiments.compose import configured, plain
from experiments.protocols import CUSTOM, FROZEN, content, protocol
from splitbench.leaderboard import board

CONFIGS = Path(__file__).parents[2] / "configs"


def names(group):
    return sorted(file.stem for file in (CONFIGS / group).glob("*.yaml"))


def settings(*overrides):
    return plain(configured("run", list(overrides)))


@pytest.mark.parametrize("suite", names("suite"))
def test_a_suite_that_nobody_changed_has_its_own_version(suite):
    config = settings(f"suite={suite}")
    found = content(config)
    assert FROZEN.get(config["protocol"]) == found, (
        f"{config['protocol']} consists of other attacks or settings now: give the suite a new "
        f'version, and say here what it consists of: "{found}"'
    )
    assert protocol(config).startswith(suite)


def test_only_versions_that_a_suite_has_are_named_and_no_two_are_the_same():
    assert set(FROZEN) == {settings(f"suite={suite}")["protocol"] for suite in names("suite")}
    assert len(set(FROZEN.values())) == len(FROZEN)


@pytest.mark.parametrize(
    "words",
    [
        ["attacks.inverse_network.steps=401"],
        ["++attacks.inverse_network.steps=401"],
        ["~attacks.ridge"],
        ["attack@attacks.inverse_network=inverse_network_xl"],
        ["+attack@attacks.transposed_network=transposed_network_lite"],
        ["attacks={inverse_network:{steps:5}}"],
        ["without={shadow_client:same_kind}"],
        ["~without.key_recovery"],
        ["attack=inverse_network_lite"],
        ["protocol=standard-5"],
        ["suite=gpu_lite", "protocol=standard-5"],
        ["protocol=mine-1"],
    ],
    ids=" ".join,
)
def test_whoever_changes_a_suite_is_custom_however_it_was_changed(words):
    assert protocol(settings(*words)) == CUSTOM == board.CUSTOM


def test_one_of_ones_own_experiments_that_changes_an_attack_is_custom(tmp_path):
    (tmp_path / "experiment").mkdir()
    own = tmp_path / "experiment" / "mine.yaml"
    own.write_text("# @package _global_\nattacks: { ridge: { penalties: [0.1] } }\n")
    words = [f"--config-dir={tmp_path}", "experiment=mine"]
    assert protocol(settings(*words)) == CUSTOM
    own.write_text("# @package _global_\nseed: 3\n")
    assert protocol(settings(*words)) != CUSTOM


@pytest.mark.parametrize(
    "words",
    [
        ["data=orl_faces", "metrics=faces"],
        ["model=six_conv", "seed=2", "device=cuda"],
        ["defense=gaussian_noise", "defense.noise_std=0.5"],
        ["threat=black_box_500", "inferences=probes"],
        ["targets=100", "paths.runs=elsewhere"],
    ],
    ids=" ".join,
)
def test_what_is_attacked_and_by_whom_does_not_change_the_suite(words):
    assert protocol(settings(*words)) == settings()["protocol"]
