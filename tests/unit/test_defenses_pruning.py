"""Structured pruning: what goes, what remains, what the client no longer computes."""

import copy

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from defenses.channel_importance import importance
from defenses.structured_pruning import StructuredPruning
from splitbench.checks.defense_world import defense_world
from splitbench.codecs.float32 import Float32
from splitbench.release import TensorSpec
from splitbench.rng import isolated, stream
from splitbench.split import split


@pytest.mark.parametrize(
    ("kind", "keywords", "complaint"),
    [
        (StructuredPruning, {"share": 1.0}, "share"),
        (StructuredPruning, {"share": -0.1}, "share"),
        (StructuredPruning, {"share": 0.5, "learning_rate": 0.0}, "learning_rate"),
        (StructuredPruning, {"share": 0.5, "layers": "inner"}, "inner"),
    ],
)
def test_a_bad_setting_is_refused(kind, keywords, complaint):
    with pytest.raises((ValueError, TypeCheckError), match=complaint):
        kind(**keywords)


def pruned(cut, share, **changes):
    world = defense_world(cut)
    settings = {"finetune_epochs": 0, **changes}
    return world, world.deploy(StructuredPruning(share=share, **settings))


@pytest.mark.parametrize(("share", "kept"), [(0.0, 10), (0.05, 10), (0.1, 9), (0.7, 3), (0.99, 1)])
def test_a_share_of_the_channels_goes_and_one_always_stays(share, kept):
    assert StructuredPruning(share=share).kept(10) == kept


@pytest.mark.parametrize(
    ("cut", "shapes", "removes"),
    [
        ("relu", [(1, 5, 5)], [True]),
        ("branch", [(1, 5, 5), (1, 5, 5)], [False, True]),
        ("hidden", [(3,)], [True]),
    ],
)
def test_channels_are_not_sent_and_not_computed_where_nobody_else_reads_them(cut, shapes, removes):
    world, deployed = pruned(cut, 0.67)
    images = world.targets
    release = deployed.transmit(images, generator=stream(0))
    assert [tuple(t.shape[1:]) for t in release.tensors] == shapes
    specs = [TensorSpec("", shape) for shape in shapes]
    assert set(release.payload_bytes.tolist()) == {Float32().payload_bound(specs)}
    assert deployed.split.client.removes == removes
    for mine, theirs, kept in zip(
        deployed.features(images), world.features(images), deployed.split.client.kept, strict=True
    ):
        torch.testing.assert_close(mine, theirs[:, kept], rtol=1e-5, atol=1e-6)


def flops(module, images):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(images)
    return counter.get_total_flops()


@pytest.mark.parametrize(("cut", "left"), [("relu", 1 / 3), ("branch", (1 + 3 / 3) / (1 + 3))])
def test_the_client_computes_less(cut, left):
    """A third of the stem's filters, which read one channel, or of the branch's, which read 3."""
    world, deployed = pruned(cut, 0.67)
    ratio = flops(deployed.split.client, world.targets) / flops(world.split.client, world.targets)
    assert ratio == pytest.approx(left)


class Normalised(nn.Module):
    """A convolution with batch normalisation, pooling and a grouped one."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(2)
        self.grouped, self.flatten = nn.Conv2d(6, 6, 2, groups=3), nn.Flatten()
        self.head = nn.Linear(24, 2)

    def forward(self, images):
        seen = self.pool(self.relu(self.norm(self.conv(images))))
        return self.head(self.flatten(self.grouped(seen)))


@pytest.mark.parametrize(
    ("cut", "removes"), [("pool", True), ("norm", True), ("grouped", False), ("flatten", False)]
)
def test_pruning_sees_through_layers_that_treat_channels_by_themselves(cut, removes):
    with isolated(stream(0, "model")):
        model = Normalised()
        model.norm.running_mean.uniform_(-1, 1)
        model.norm.running_var.uniform_(0.5, 2)
    images = torch.rand(5, 1, 8, 8, generator=stream(0, "images"))
    parts = split(model.eval(), images, cut)
    adapted = StructuredPruning(share=0.5).adapt(parts)
    index = torch.tensor([1, 4, 5]) if cut != "flatten" else torch.arange(0, 24, 2)
    adapted.client.choose(parts.client, [index])
    assert adapted.client.removes == [removes]
    torch.testing.assert_close(adapted.client(images)[0], parts.client(images)[0][:, index])


def test_the_channels_that_remain_are_those_that_the_loss_needs():
    """A channel that the server does not read goes, however large it is."""
    world = defense_world("relu")
    parts = copy.deepcopy(world.split)
    with torch.no_grad():
        for module in parts.client.modules():
            if isinstance(module, nn.Conv2d):
                module.weight[1] *= 100
        for module in parts.server.modules():
            if isinstance(module, nn.Conv2d):
                module.weight[:, 1] = 0
            if isinstance(module, nn.Linear) and module.in_features == 75:
                module.weight[:, 25:50] = 0
    worth = importance(parts, world.train, batch_size=100)[0]
    assert float(worth[1]) == 0
    assert float(worth[[0, 2]].min()) > 0
    defense = StructuredPruning(share=0.34, finetune_epochs=0)
    adapted = defense.adapt(parts)
    before = parts.server(parts.client(world.targets))
    defense.fit(adapted, world.train, generator=stream(0))
    assert adapted.client.kept[0].tolist() == [0, 2]
    torch.testing.assert_close(adapted.server(adapted.client(world.targets)), before)


def test_importance_is_the_change_of_the_loss_for_a_linear_one():
    """To first order, by differences: scaling a channel by 1 - h changes the loss by h x worth."""
    world = defense_world("hidden")
    images, labels = world.train.images()[:1], world.train.labels[:1]
    one = type(world.train)(images, labels, world.train.classes)
    worth = importance(world.split, one, batch_size=1)[0]
    features, step = world.features(images)[0], 1e-3
    for channel in range(len(worth)):
        losses = []
        for scale in (1 - step, 1 + step):
            moved = features.clone()
            moved[:, channel] *= scale
            losses.append(nn.functional.cross_entropy(world.split.server((moved,)), labels))
        assert abs(float(losses[1] - losses[0])) / (2 * step) == pytest.approx(
            float(worth[channel]), rel=0.02, abs=2e-4
        )


def test_training_gives_back_what_pruning_took():
    right = []
    for epochs in (0, 6):
        world, deployed = pruned(
            "relu", 0.34, finetune_epochs=epochs, learning_rate=0.01, batch_size=24
        )
        release = deployed.release(world.train.images(), generator=stream(0))
        right.append(
            float((deployed.predict(release).argmax(1) == world.train.labels).double().mean())
        )
    assert right[1] > right[0] + 0.1


def test_a_split_that_was_not_adapted_is_refused():
    world = defense_world("relu")
    with pytest.raises(TypeError, match="adapt"):
        StructuredPruning(share=0.5).fit(world.split, world.train, generator=stream(0))
