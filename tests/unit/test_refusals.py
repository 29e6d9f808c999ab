"""What a defense or a metric has against the model, the cut or the data is told in one sentence."""

from collections import OrderedDict

import pytest
from hydra import compose, initialize_config_module
from torch import nn

from experiments.compose import plain
from experiments.console import Reporter
from experiments.errors import UserError
from experiments.job import Job
from experiments.judge import Judge
from experiments.store import Store
from splitbench.split import Cuttable


def opened(tmp_path, *overrides, **changes):
    with initialize_config_module("configs", version_base="1.3"):
        config = compose("run", overrides=["debug=smoke", *overrides])
    settings = {**plain(config), **changes}
    return Job(settings, Store(tmp_path), Reporter("test", interactive=False))


def coupled(example, classes):
    layers = OrderedDict(
        conv=nn.Conv2d(example.shape[1], 3, 5, stride=5),
        norm=nn.BatchNorm2d(3, track_running_stats=False),
        flat=nn.Flatten(),
        head=nn.LazyLinear(classes),
    )
    model = nn.Sequential(layers).eval()
    model(example)  # gives the head its width
    return model.requires_grad_(False)


def test_local_privacy_behind_a_model_that_couples_images(tmp_path):
    job = opened(tmp_path, "defense=local_dp_gaussian", "defense.finetune_epochs=0")
    job.cuttable = Cuttable(coupled(job.example, 10), job.example)
    cut = job.cuttable.find("norm")
    with pytest.raises(UserError, match="the defense at norm: no promise about one input") as told:
        job.deployment(cut)
    assert "\n" not in str(told.value)


def test_a_metric_of_larger_images(tmp_path):
    metric = {"_target_": "splitbench.metrics.multi_scale_similarity.MultiScaleSimilarity"}
    job = opened(tmp_path, metrics={"ms_ssim": metric})
    with pytest.raises(UserError, match="metrics: ms_ssim halves images four times") as told:
        Judge(job)
    assert str(told.value).endswith("use ssim, or leave this metric out")
