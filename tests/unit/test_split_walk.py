"""A client that is run layer by layer computes what it computes at once."""

import copy

import pytest
import torch
from torchvision.models import resnet18

from splitbench.rng import isolated, stream
from splitbench.split import split, stops, walk

NAMES = ("layer1", "layer2.0.add", "layer2")


def world(cut="layer3"):
    with isolated(stream(0, "resnet")):
        model = resnet18().eval().requires_grad_(False)
    images = torch.rand(2, 3, 32, 32, generator=stream(0, "images"))
    return model, images, split(model, images, cut).client


def test_layers_of_a_residual_network_are_those_of_clients_that_end_there():
    model, images, client = world()
    *early, features = walk(copy.deepcopy(client), images, NAMES)
    assert torch.equal(features[0], client(images)[0])
    assert len(early) == len(NAMES)
    for name, (values,) in zip(NAMES, early, strict=True):
        assert torch.equal(values, split(model, images, name).client(images)[0])


def test_layers_that_nobody_asks_for_are_not_run():
    _, images, client = world()
    run = []
    client.get_submodule("layer2.0.conv1").register_forward_hook(lambda *_: run.append(1))
    way = walk(client, images, NAMES)
    next(way)
    assert run == []
    next(way)
    assert run == [1]


def test_only_a_client_that_is_a_graph_has_layers_to_stop_after():
    layer = torch.nn.Linear(3, 2)
    with pytest.raises(ValueError, match="choose from none"):
        stops(layer, ["0"])
