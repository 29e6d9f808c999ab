"""Structured pruning within the client: which channels can go, and what the client becomes."""

from functools import partial

import pytest
import torch
from runtime_world import deployment, lenet
from runtime_world import images as pictures
from torch import fx, nn
from torch.nn import functional

from defenses.channel_groups import groups_within
from defenses.channel_importance import importance
from defenses.pruned_split import PrunedClient
from defenses.structured_pruning import StructuredPruning
from splitbench import models
from splitbench.data.images import LabeledImages
from splitbench.operations import operations
from splitbench.release import channel_axis, channels_of
from splitbench.rng import isolated, stream
from splitbench.split import Cuttable

ALL = partial(StructuredPruning, layers="all")


def parts(model, shape, cut):
    """Client and server of a model whose normalisations do something, in double precision."""
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.running_mean, -1), (module.running_var, 0.5)):
                tensor.uniform_(low, 1.5, generator=stream(0, name, str(low)))
            with torch.no_grad():
                module.bias.uniform_(-1, 1, generator=stream(0, name, "bias"))
    example = torch.rand(2, *shape, generator=stream(0, "pictures")).double()
    return Cuttable(model.eval().double(), example).split(cut), example


def made(name, shape=(3, 32, 32), **settings):
    with isolated(stream(0, name)):
        return getattr(models, name)(image_shape=shape, classes=10, **settings)


def halved(split, pick=0):
    """The client with half of its channels, chosen at random, and which they are."""
    client = PrunedClient(split.client, split.cut.tensors, lambda n: n - n // 2, within=True)
    counts = [len(kept) for kept in client.kept]
    channels = [channels_of(spec.shape) for spec in split.cut.tensors]
    channels += [group.channels for group in client.inner]
    counts += [n - n // 2 for n in channels[len(counts) :]]
    draw = stream(pick, "channels")
    kept = [
        torch.randperm(n, generator=draw)[:k].sort().values
        for n, k in zip(channels, counts, strict=True)
    ]
    client.choose(split.client, kept)
    return client.eval(), kept


def masked(split, client, kept, images, *, where):
    """What the whole client computes if the removed channels are zero, where they are read or made.

    At the cut they are left out.
    """

    def silence(values, index, per, axis):
        mask = torch.zeros(values.shape[axis] // per, dtype=values.dtype)
        mask[index] = 1
        shape = [1] * values.ndim
        shape[axis] = -1
        return values * mask.repeat_interleave(per).reshape(shape)

    def axis_of(name):
        return 1 if isinstance(split.client.get_submodule(name), nn.Conv2d) else -1

    hooks = []
    for group, index in zip(client.inner, kept[len(client.kept) :], strict=True):
        if where == "made":
            name = group.makers[0]
            change = partial(silence, index=index, per=1, axis=axis_of(name))
            hook = lambda _, __, out, change=change: change(out)  # noqa: E731
            hooks.append(split.client.get_submodule(name).register_forward_hook(hook))
            continue
        for name, per in group.readers.items():
            change = partial(silence, index=index, per=per, axis=axis_of(name))
            hook = lambda _, read, change=change: change(read[0])  # noqa: E731
            hooks.append(split.client.get_submodule(name).register_forward_pre_hook(hook))
    with torch.no_grad():
        values = split.client(images)
    for hook in hooks:
        hook.remove()
    return [v.index_select(channel_axis(v), index) for v, index in zip(values, kept, strict=False)]


NETWORKS = {
    "lenet5": (partial(made, "LeNet5", (1, 28, 28)), (1, 28, 28), "relu4"),
    "six_conv": (partial(made, "SixConv"), (3, 32, 32), "relu32"),
    "vgg11": (partial(made, "vgg11"), (3, 32, 32), "features.20"),
    "resnet18": (partial(made, "resnet18"), (3, 32, 32), "layer2"),
    "googlenet": (partial(made, "googlenet"), (3, 32, 32), "inception3a"),
    "mobilenet_v2": (partial(made, "mobilenet_v2"), (3, 32, 32), "features.8"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_removing_channels_is_setting_them_to_zero_where_they_are_read(name):
    make, shape, cut = NETWORKS[name]
    split, images = parts(make(), shape, cut)
    client, kept = halved(split)
    assert client.inner
    with torch.no_grad():
        found = client(images)
    wanted = masked(split, client, kept, images, where="read")
    assert float(wanted[0].abs().max()) > 1e-6
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_it_is_so_exactly_where_arithmetic_is_exact():
    """Whole numbers, so that the order of a sum does not matter."""
    split, _ = parts(made("LeNet5", (1, 28, 28), mean=0.0, std=1.0), (1, 28, 28), "relu4")
    draw = stream(0, "whole numbers")
    for parameter in split.client.parameters():
        parameter.data = torch.randint(-3, 4, parameter.shape, generator=draw).double()
    images = torch.randint(0, 4, (3, 1, 28, 28), generator=draw).double()
    client, kept = halved(split)
    (wanted,) = masked(split, client, kept, images, where="read")
    assert torch.equal(client(images)[0], wanted)
    assert int(wanted.count_nonzero()) > 10


@pytest.mark.parametrize(("between", "same"), [(nn.ReLU(), True), (nn.Sigmoid(), False)])
def test_zeros_where_channels_are_made_do_the_same_only_if_zeros_stay_zeros(between, same):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), between, nn.MaxPool2d(2), nn.Conv2d(4, 4, 3))
    split, images = parts(model, (1, 12, 12), "3")
    client, kept = halved(split)
    found, (wanted,) = client(images)[0], masked(split, client, kept, images, where="made")
    assert torch.allclose(found, wanted, atol=1e-9) == same


def size(client, images):
    with torch.no_grad():
        flops = operations(lambda: client(images[:1]))
    return sum(p.numel() for p in client.parameters()), flops


def of_layers(*layers):
    """Parameters and operations of layers given as (inputs, outputs, kernel, positions)."""
    parameters = sum(n * (m * k * k + 1) for m, n, k, _ in layers)
    return parameters, sum(2 * m * n * k * k * p for m, n, k, p in layers)


@pytest.mark.parametrize(
    ("name", "cut", "layers"),
    [
        ("lenet5", "relu1", [(1, 3, 5, 784)]),
        ("lenet5", "relu2", [(1, 3, 5, 784), (3, 8, 5, 100)]),
        ("lenet5", "flatten", [(1, 3, 5, 784), (3, 16, 5, 100)]),
        (
            "lenet5",
            "relu4",
            [(1, 3, 5, 784), (3, 8, 5, 100), (8 * 25, 60, 1, 1), (60, 42, 1, 1)],
        ),
        (
            "six_conv",
            "relu32",
            [
                (3, 32, 3, 1024), (32, 32, 3, 1024), (32, 64, 3, 256), (64, 64, 3, 256),
                (64, 64, 3, 64), (64, 64, 3, 64),
            ],
        ),
    ],
)  # fmt: skip
def test_parameters_and_operations_of_half_the_channels(name, cut, layers):
    make, shape, _ = NETWORKS[name]
    split, images = parts(make(), shape, cut)
    adapted = ALL(share=0.5).adapt(split)
    assert size(adapted.client, images) == of_layers(*layers)


def test_of_a_residual_network_only_what_is_inside_the_blocks_goes():
    make, shape, cut = NETWORKS["resnet18"]
    split, images = parts(make(), shape, cut)
    client = ALL(share=0.5).adapt(split).client
    blocks = [f"layer{i}.{j}" for i in (1, 2) for j in (0, 1)]
    assert [g.makers for g in client.inner] == [(f"{b}.conv1", f"{b}.bn1") for b in blocks]
    assert [g.readers for g in client.inner] == [{f"{b}.conv2": 1} for b in blocks]
    whole = {"conv1", "layer2.0.downsample.0", *(f"{b}.conv2" for b in blocks)}
    assert set(client.left) == whole
    before, after = size(split.client, images), size(client, images)
    gone = [(64, 32, 1024), (64, 32, 1024), (64, 64, 256), (128, 64, 256)]
    width = {0: 64, 1: 64, 2: 128, 3: 128}
    # Half of each inner layer: its filters, its normalisation, and as many inputs of the next one.
    wanted = sum(9 * m * n + 2 * n + 9 * n * width[i] for i, (m, n, _) in enumerate(gone))
    assert before[0] - after[0] == wanted
    wanted = sum(2 * 9 * (m * n + n * width[i]) * p for i, (m, n, p) in enumerate(gone))
    assert before[1] - after[1] == wanted


def traced(forward, **layers):
    """A graph of a few layers."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            for name, layer in layers.items():
                self.add_module(name, layer)

    Model.forward = forward
    return fx.symbolic_trace(Model())


def conv(inputs=4, outputs=4, **settings):
    return nn.Conv2d(inputs, outputs, 1, **settings)


SAME = conv()
LEFT_WHOLE = {
    "added": traced(lambda m, x: m.b((y := m.a(x)) + m.c(y)), a=conv(), b=conv(), c=conv()),
    "concatenated": traced(lambda m, x: m.b(torch.cat([m.a(x), x], 1)), a=conv(), b=conv(inputs=8)),
    "released": traced(lambda m, x: (y := m.a(x), m.b(y))[:2], a=conv(), b=conv()),
    "grouped": traced(lambda m, x: m.b(m.a(x)), a=conv(groups=2), b=conv()),
    "before a grouped one": traced(lambda m, x: m.b(m.a(x)), a=conv(), b=conv(groups=4)),
    "called twice": traced(lambda m, x: m.a(m.a(x)), a=SAME),
    "under two names": traced(lambda m, x: m.b(m.a(x)), a=SAME, b=SAME),
    "weights read elsewhere": traced(
        lambda m, x: m.b(m.a(x)) + m.a.weight.sum(), a=conv(), b=conv()
    ),
    "a norm called twice": traced(
        lambda m, x: m.b(m.n(m.a(x))) + m.n(x), a=conv(), b=conv(), n=nn.BatchNorm2d(4)
    ),
    "normalised across channels": traced(
        lambda m, x: m.b(m.n(m.a(x))), a=conv(), b=conv(), n=nn.GroupNorm(2, 4)
    ),
    "asked for its shape": traced(lambda m, x: m.b(y := m.a(x)) * y.size(1), a=conv(), b=conv()),
    "width as features": traced(lambda m, x: m.b(m.a(x)), a=conv(), b=nn.Linear(4, 2)),
    "vectors as maps": traced(lambda m, x: m.b(m.a(x)), a=nn.Linear(4, 4), b=conv()),
    "pooled vectors": traced(
        lambda m, x: m.b(m.p(m.a(x))), a=nn.Linear(4, 4), p=nn.MaxPool2d(1), b=nn.Linear(4, 4)
    ),
    "flattened with the batch": traced(
        lambda m, x: m.b(torch.flatten(m.a(x))), a=conv(), b=nn.Linear(8, 2)
    ),
    "read by nobody": traced(lambda m, x: (m.a(x), x)[1], a=conv()),
}


@pytest.mark.parametrize("case", LEFT_WHOLE)
def test_layers_stay_whole_whose_channels_others_depend_on(case):
    assert groups_within(LEFT_WHOLE[case]) == []


PRUNED = {
    "an activation called twice": (
        traced(lambda m, x: m.r(m.b(m.r(m.a(x)))), a=conv(), r=nn.ReLU(), b=conv()),
        [(("a",), {"b": 1})],
    ),
    "two readers": (
        traced(lambda m, x: m.b(y := m.a(x)) + m.c(m.p(y)), a=conv(), b=conv(), c=conv(),
               p=nn.AvgPool2d(1)),
        [(("a",), {"b": 1, "c": 1})],
    ),
    "normalised": (
        traced(lambda m, x: m.b(functional.relu(m.n(m.a(x)))), a=conv(), n=nn.BatchNorm2d(4),
               b=conv()),
        [(("a", "n"), {"b": 1})],
    ),
    "flattened maps": (
        traced(lambda m, x: m.b(m.r(torch.flatten(m.a(x), 1))), a=conv(), b=nn.Linear(36, 2),
               r=nn.ReLU()),
        [(("a",), {"b": 9})],
    ),
    "pooled to one": (
        traced(lambda m, x: m.b(m.f(m.p(m.a(x)))), a=conv(), p=nn.AdaptiveAvgPool2d(1),
               f=nn.Flatten(), b=nn.Linear(4, 2)),
        [(("a",), {"b": 1})],
    ),
    "tokens": (
        traced(lambda m, x: m.b(m.g(m.a(x))), a=nn.Linear(4, 8), g=nn.GELU(),
               b=nn.Linear(8, 4)),
        [(("a",), {"b": 1})],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PRUNED)
def test_channels_are_followed_to_all_who_read_them(case):
    graph, wanted = PRUNED[case]
    assert [(g.makers, g.readers) for g in groups_within(graph)] == wanted


def test_the_hidden_layers_of_a_transformer_are_pruned():
    net = made("vit", patch_size=8, layers=2, heads=2, width=16)
    split, images = parts(net, (3, 32, 32), "encoder.layers.encoder_layer_1.mlp")
    client, kept = halved(split)
    assert [g.channels for g in client.inner] == [64, 64]
    with torch.no_grad():
        found = client(images)
    wanted = masked(split, client, kept, images, where="read")
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def labelled(count=24, shape=(1, 28, 28)):
    pixels = (pictures(count, shape) * 255).byte()
    return LabeledImages(pixels, torch.arange(count) % 10, tuple("abcdefghij"))


def test_worth_within_is_the_change_of_the_loss_to_first_order():
    """By differences: scaling a channel where it is read by 1 - h changes the loss by h x worth."""
    split, _ = parts(lenet(), (1, 28, 28), "relu3")
    train = labelled(1)
    image, label = train.images().double(), train.labels
    one = LabeledImages(image, label, train.classes)
    groups = groups_within(split.client)
    assert [g.readers for g in groups] == [{"conv2": 1}, {"fc1": 25}]
    worth = importance(split, one, batch_size=1, groups=groups)[1:]
    for group, found in zip(groups, worth, strict=True):
        ((name, per),) = group.readers.items()
        assert float(found.max()) > 1e-4
        for channel in range(group.channels):
            reader = split.client.get_submodule(name)
            columns, losses = slice(channel * per, (channel + 1) * per), []
            for scale in (1 - 1e-4, 1 + 1e-4):
                with torch.no_grad():
                    weight = reader.weight.clone()
                    reader.weight[:, columns] *= scale
                    logits = split.server(split.client(image))
                    reader.weight.copy_(weight)
                losses.append(float(functional.cross_entropy(logits, label)))
            change = abs(losses[1] - losses[0]) / 2e-4
            assert change == pytest.approx(float(found[channel]), rel=1e-3, abs=1e-6)


def test_worth_at_the_cut_does_not_depend_on_what_is_pruned_within():
    split = Cuttable(lenet(), pictures(1)).split("relu3")
    train = labelled(40)
    alone = importance(split, train, batch_size=16)
    beside = importance(split, train, batch_size=16, groups=groups_within(split.client))
    assert len(alone) == 1
    assert torch.equal(alone[0], beside[0])
    once = importance(split, train, batch_size=40, groups=groups_within(split.client))
    for one, other in zip(beside, once, strict=True):
        torch.testing.assert_close(one, other)


def test_channels_that_nobody_needs_are_those_that_go():
    """Half of every layer is read with weights of zero; no answer changes without it."""
    model = lenet()
    with torch.no_grad():
        for layer in (model.conv1, model.conv2, model.fc1, model.fc2):
            layer.bias += 5  # behind a silent activation another channel would be worth nothing
        model.conv2.weight[:, [0, 2, 5]] = 0
        model.fc1.weight[:, 100:300] = 0
        model.fc2.weight[:, 60:] = 0
    defense = ALL(share=0.5, finetune_epochs=0)
    deployed = deployment(model, "relu3", defense=defense, fit=labelled())
    assert deployed.split.client.kept[0].tolist() == list(range(60))
    assert deployed.split.client.left == []
    assert len(deployed.split.client.body.conv1.weight) == 3
    answers = deployed.split.server(deployed.split.client(pictures()))
    torch.testing.assert_close(answers, model(pictures()))


def test_nothing_changes_at_share_zero_and_within_a_client_of_one_layer():
    split = Cuttable(lenet(), pictures(1)).split("relu2")
    assert ALL(share=0.0).adapt(split) is split
    first = Cuttable(lenet(), pictures(1)).split("relu1")
    assert ALL(share=0.5).adapt(first).client.inner == []


def test_with_layers_cut_inner_layers_stay_as_they_are():
    split = Cuttable(lenet(), pictures(1)).split("relu2")
    client = StructuredPruning(share=0.5).adapt(split).client
    assert client.left == ["conv1"]
    assert torch.equal(client.body.conv1.weight, split.client.conv1.weight)


class TokensFirst(nn.Module):
    """The batch is the second axis between two of its layers."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(4, 10)

    def forward(self, images):
        tokens = images.flatten(1, 2).transpose(0, 1)
        return self.head(self.b(self.a(tokens)).transpose(0, 1).mean(1))


def test_a_client_without_the_batch_as_first_axis_is_refused():
    train = labelled(shape=(1, 5, 4))
    with isolated(stream(0, "tokens")):
        split = Cuttable(TokensFirst(), train.images()[:1]).split("mean")
    defense = ALL(share=0.5)
    adapted = defense.adapt(split)
    assert len(adapted.client.inner) == 1
    with pytest.raises(ValueError, match="use layers='cut'"):
        defense.fit(adapted, train, generator=stream(0))
