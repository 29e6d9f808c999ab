"""What a naive adversary takes the client for, where a defense has changed it."""

import pytest
import torch
from hydra import compose, initialize_config_module

from experiments.compose import plain
from experiments.console import Reporter
from experiments.job import Job
from experiments.store import Store
from splitbench.threat import ThreatModel
from tests.unit.test_budget_jobs import CUT


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def deployed(runs, *overrides):
    """A job's deployment, some images, and their undefended features."""
    with initialize_config_module("configs", version_base="1.3"):
        config = compose("run", overrides=["debug=smoke", f"cuts=[{CUT}]", *overrides])
    job = Job(plain(config), Store(runs), Reporter("test", interactive=False))
    cut = job.cuttable.find(CUT)
    images = job.roles.calibration.images(slice(0, 5))
    return job.deployment(cut), images, job.cuttable.split(cut).client(images)[0]


def test_of_a_client_that_was_trained_it_has_the_undefended_one(runs):
    words = "defense=no_peek", "defense.finetune_epochs=1", "defense.weight=16.0"
    deployment, images, bare = deployed(runs, *words)
    naive = deployment.simulated_by(ThreatModel(defense="hidden"), seed=0)
    torch.testing.assert_close(naive.features(images)[0], bare)
    assert not torch.allclose(deployment.features(images)[0], bare, atol=1e-3)


def test_a_client_that_sends_other_shapes_is_not_overlooked(runs):
    words = "defense=distillation_bottleneck", "defense.epochs=1", "defense.channels=2"
    deployment, images, bare = deployed(runs, *words)
    naive = deployment.simulated_by(ThreatModel(defense="hidden"), seed=0)
    assert naive.features(images)[0].shape != bare.shape
    assert torch.equal(naive.features(images)[0], deployment.features(images)[0])


def test_a_client_that_no_defense_changes_is_shared(runs):
    deployment, _, _ = deployed(runs, "defense=gaussian_noise", "defense.finetune_epochs=0")
    assert deployment.original is None
    assert deployment.undefended().shared is deployment.shared is not None
