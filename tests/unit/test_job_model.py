"""A task model that learnt nothing is announced: what leaks from it is of no interest."""

import pytest
import torch
from torch import nn

from tests.unit.test_budget_jobs import opened


class Always(nn.Module):
    """Names the same class for every image, or the right one."""

    def __init__(self, answers=None):
        super().__init__()
        self.answers = answers

    def forward(self, images):
        if self.answers is None:
            return torch.eye(10)[torch.zeros(len(images), dtype=torch.int64)]
        first, self.answers = self.answers[: len(images)], self.answers[len(images) :]
        return torch.eye(10)[first]


@pytest.mark.parametrize("learnt", [True, False])
def test_a_model_that_does_no_better_than_the_most_frequent_class_is_announced(
    tmp_path, capsys, learnt
):
    job = opened(tmp_path)
    job._warn_if_useless(Always(job.roles.train.labels if learnt else None))
    assert ("lower training.learning_rate" in " ".join(capsys.readouterr().err.split())) != learnt
