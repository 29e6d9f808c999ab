"""Operations, parameters and bytes of a cut, against numbers computed by hand."""

import pytest
import torch
from torch import nn

from splitbench.models import LeNet5
from splitbench.split import cuts

# LeNet-5 on 28 x 28 grey images: multiply-adds and parameters of its layers, by hand
LENET5 = {
    "conv1": (28 * 28 * 6 * 25, 6 * 25 + 6),
    "conv2": (10 * 10 * 16 * 6 * 25, 16 * 6 * 25 + 16),
    "fc1": (400 * 120, 400 * 120 + 120),
    "fc2": (120 * 84, 120 * 84 + 84),
    "fc3": (84 * 10, 84 * 10 + 10),
}


def test_the_costs_of_lenet5_are_those_computed_by_hand():
    found = cuts(LeNet5(image_shape=(1, 28, 28), classes=10), torch.zeros(1, 1, 28, 28))
    operations = sum(macs for macs, _ in LENET5.values())
    parameters = sum(count for _, count in LENET5.values())
    assert (operations, parameters) == (416_520, 61_706)
    head_flops = head_params = 0
    for cut in found:
        layer = LENET5.get(cut.tensors[0].name)
        if layer is not None:
            head_flops += 2 * layer[0]
            head_params += layer[1]
        assert (cut.head_flops, cut.tail_flops) == (head_flops, 2 * operations - head_flops)
        assert (cut.head_params, cut.tail_params) == (head_params, parameters - head_params)


def test_bytes_are_those_of_all_tensors_that_cross():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, x):
            return self.conv(x).mean((1, 2, 3), keepdim=True) + x.half()

    found = cuts(Skip(), torch.zeros(1, 3, 8, 8), granularity="all")
    assert {cut.name: cut.bytes for cut in found} == {
        "input": 3 * 8 * 8 * 4,
        "conv": 3 * 8 * 8 * 4 + 2 * 6 * 6 * 4,
        "mean": 3 * 8 * 8 * 4 + 4,
        "half": 3 * 8 * 8 * 2 + 4,
        "output": 3 * 8 * 8 * 4,
    }


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_is_counted_although_it_is_one_module(batch_first):
    tokens, width = 5, 8

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(width, 2, 16, batch_first=batch_first)

        def forward(self, x):
            return self.layer(x if batch_first else x.transpose(0, 1))

    projections = 2 * tokens * width * 4 * width
    attention = 2 * 2 * tokens * tokens * width
    feed_forward = 2 * tokens * 2 * width * 16
    found = cuts(Encoder(), torch.zeros(1, tokens, width))
    assert found[0].tail_flops == projections + attention + feed_forward


def test_a_shared_parameter_counts_once_on_each_side_that_needs_it():
    layer = nn.Linear(6, 6)
    model = nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), layer)
    size = 6 * 6 + 6
    params = [(c.head_params, c.tail_params) for c in cuts(model, torch.zeros(1, 6))]
    assert params == [(0, size), *[(size, size)] * 4, (size, 0)]


def test_indices_count_all_cuts_whatever_is_listed():
    model = LeNet5(image_shape=(1, 28, 28), classes=10)
    every = cuts(model, torch.zeros(1, 1, 28, 28), granularity="all")
    assert [cut.index for cut in every] == list(range(len(every)))
    for granularity in ("module", "tensor"):
        assert set(cuts(model, torch.zeros(1, 1, 28, 28), granularity=granularity)) <= set(every)
