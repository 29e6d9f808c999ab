"""Certificates that apply: real jobs on images whose law is known."""

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from experiments.compose import plain
from experiments.console import Reporter
from experiments.evaluate import evaluate
from experiments.images import roles_of
from experiments.leaderboard import load
from experiments.store import Store
from splitbench.guarantee import Guarantee
from splitbench.leaderboard import boards
from splitbench.threat import ThreatModel

SMALL = ["debug=smoke", "targets=null", "data=gaussian_images", "data.side=12"]
SMALL += ["data.sizes={train: 400, auxiliary: 3000, calibration: 50, target: 500}"]
SMALL += ["defense=gaussian_noise", "defense.noise_std=0.3", "latency.runs=1"]
ATTACKS = ("constant_color", "mean_image", "class_mean", "ridge", "nearest_neighbor")
HALVED = "defense._target_=tests.unit.halved_noise.HalvedNoise"


def configured(*overrides):
    with initialize_config_module("configs", version_base="1.3"):
        config = compose("run", overrides=[*SMALL, *overrides], return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    return plain(config), choices


def row_of(folder, *overrides):
    """The row of one cut, and each attack's error."""
    config, choices = configured(*overrides)
    config["attacks"] = {name: config["attacks"][name] for name in ATTACKS}
    config["metrics"] = {"mean_squared_error": config["metrics"]["mean_squared_error"]}
    evaluate(config, choices, "job", Store(folder), Reporter("job", interactive=False))
    evidence = load(folder / "cells")
    ((row,),) = (board.rows for board in boards(evidence, resamples=100))
    return row, {e.record.cell.attack_name: e.record.leakage["mse"] for e in evidence}


@pytest.mark.parametrize("cut", ["input", "relu3"])
def test_no_attack_errs_less_than_a_certificate_that_applies(tmp_path, cut):
    row, errors = row_of(tmp_path, f"cuts=[{cut}]")
    assert [one.statement.split(":")[0] for one in row.certificates] == [
        "rate bound", "van Trees bound",
    ]  # fmt: skip
    assert all(one.binds for one in row.certificates)
    assert "99.9% confidence" in row.certificates[1].assumptions[0]
    least = max(one.least_mse for one in row.certificates)
    assert least > 0.2 * 0.0625**2  # it says something: a pixel's variance is what all err at most
    assert {*errors} == {*ATTACKS}
    assert all(error.high > least for error in errors.values())
    assert errors["ridge"].high < errors["mean_image"].low
    assert "guarantee_beaten" not in row.flags


def test_a_defense_that_adds_less_noise_than_it_says_is_found_out(tmp_path):
    row, errors = row_of(tmp_path, "cuts=[input]", HALVED)
    assert errors["ridge"].high < max(one.least_mse for one in row.certificates)
    assert "guarantee_beaten" in row.flags
    assert row.rank is None


def roles(*overrides):
    config, _ = configured(*overrides)
    return roles_of(config, ThreatModel())


def test_fewer_targets_are_of_the_same_law():
    found = roles("targets=10")
    assert len(found.target) == 10
    assert found.prior.applies is True


def test_no_certificate_binds_where_the_model_was_trained_on_the_images_under_attack():
    """Its weights may tell of them, which no bound on messages counts."""
    found = roles("target_role=train").prior
    assert not Guarantee("certified", "", least_mse=1.0, prior="a", applies=found.applies).binds
    assert "trained on these very images" in found.applies
