"""Defenses that send less: the entropic student's bits, and channels that are gone."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from defenses.entropic_student import LIMIT, EntropicStudent
from defenses.learned_prior import LearnedPrior
from defenses.structured_pruning import StructuredPruning, importance
from splitbench.checks.defense_world import defense_world
from splitbench.codec import CodecError
from splitbench.codecs.container import overhead
from splitbench.codecs.entropy_coded import EntropyCoded
from splitbench.codecs.float32 import Float32
from splitbench.release import TensorSpec
from splitbench.rng import isolated, stream, uniform_like
from splitbench.split import split

QUICK = {"epochs": 3, "finetune_epochs": 1, "learning_rate": 0.02, "batch_size": 24}


@pytest.mark.parametrize(
    ("kind", "keywords", "complaint"),
    [
        (EntropicStudent, {"beta": 0.0}, "beta"),
        (EntropicStudent, {"beta": math.inf}, "beta"),
        (EntropicStudent, {"beta": 1.0, "epochs": 0}, "epochs"),
        (EntropicStudent, {"beta": 1.0, "finetune_epochs": -1}, "finetune_epochs"),
        (EntropicStudent, {"beta": 1.0, "channels": 0}, "channels"),
        (EntropicStudent, {"beta": 1.0, "temperature": 0.0}, "temperature"),
        (EntropicStudent, {"beta": 1.0, "alpha": -1.0}, "alpha"),
        (StructuredPruning, {"share": 1.0}, "share"),
        (StructuredPruning, {"share": -0.1}, "share"),
        (StructuredPruning, {"share": 0.5, "learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_a_bad_setting_is_refused(kind, keywords, complaint):
    with pytest.raises(ValueError, match=complaint):
        kind(**keywords)


# The coder

COUNTS = ((1, 2, 3, 40, 3, 2, 1), (10, 10, 10, 10, 10, 10, 10), (1, 1, 1, 65000, 1, 1, 1))


def drawn(count, *, seed=0):
    """Numbers from -3 to 3 as often as the counts say, one channel for each row of them."""
    weights = torch.tensor(COUNTS, dtype=torch.float64)
    codes = torch.multinomial(weights, count, replacement=True, generator=stream(seed, "numbers"))
    return (codes - 3).float()


def surprise(values):
    """Bits of numbers under the counts."""
    chances = torch.tensor(COUNTS, dtype=torch.float64)
    chances = chances / chances.sum(1, keepdim=True)
    return float(-chances.gather(1, (values.reshape(3, -1) + 3).long()).log2().sum())


def test_a_message_is_as_long_as_it_is_surprising():
    """O32: entropy <= mean length < entropy and a little; what was coded is decoded."""
    codec = EntropyCoded(limit=3).fitted([COUNTS])
    chances = torch.tensor(COUNTS, dtype=torch.float64)
    chances = chances / chances.sum(1, keepdim=True)
    entropy = 400 * float(-(chances * chances.log2()).sum())
    lengths = []
    for seed in range(60):
        values = drawn(400, seed=seed).reshape(3, 20, 20)
        message = codec.encode([values])
        assert torch.equal(codec.decode(message)[0], values)
        lengths.append(8.0 * (len(message) - overhead([TensorSpec("", (3, 20, 20))])))
        assert -1 <= lengths[-1] - surprise(values) <= 64
    mean = torch.tensor(lengths)
    slack = 3 * float(mean.std()) / len(mean) ** 0.5
    assert entropy - slack < float(mean.mean()) < entropy + 64


def test_a_channel_that_is_never_surprising_costs_next_to_nothing():
    codec = EntropyCoded(limit=3).fitted([COUNTS[2:]])
    body = len(codec.encode([torch.zeros(1, 50, 50)])) - overhead([TensorSpec("", (1, 50, 50))])
    assert body <= 8


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 5), (4, 1), (2, 2, 1, 3)])
def test_every_shape_comes_back(shape):
    values, codec = torch.randint(-3, 4, shape, generator=stream(0)).float(), EntropyCoded(limit=3)
    assert torch.equal(codec.decode(codec.encode([values]))[0], values)


@pytest.mark.parametrize("shape", [(3,), (5, 3), (3, 4, 5)])
def test_every_channel_is_coded_with_its_own_counts(shape):
    codec = EntropyCoded(limit=3).fitted([COUNTS])
    values = torch.randint(-3, 4, shape, generator=stream(0)).float()
    assert torch.equal(codec.decode(codec.encode([values]))[0], values)
    apart = torch.zeros(shape).movedim(0 if len(shape) == 3 else -1, -1)
    apart[..., 1] = 3  # as likely as any number in this channel, rare in the others
    apart = apart.movedim(-1, 0 if len(shape) == 3 else -1)
    rare = torch.full(shape, 3.0)
    assert len(codec.encode([apart])) < len(codec.encode([rare]))


def test_several_tensors_are_told_apart():
    codec = EntropyCoded()
    values = [torch.full((2, 3, 3), 4.0), torch.zeros(7), torch.ones(2, 5)]
    message = codec.encode(values)
    assert all(map(torch.equal, codec.decode(message), values))
    assert len(message) <= codec.payload_bound([TensorSpec("", tuple(v.shape)) for v in values])


def test_what_lies_beyond_the_limit_arrives_as_the_limit():
    codec = EntropyCoded(limit=2)
    seen = codec.transform((torch.tensor([[-9.0, -2.4, 0.4, 0.6, 7.0]]),))
    assert seen[0].tolist() == [[-2.0, -2.0, 0.0, 1.0, 2.0]]
    assert float(codec.distance(seen, (torch.tensor([[-50.0, -1.5, 0.5, 1.4, 1.5]]),))) == 0


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([(1, 2)], "2 counts"),
        ([(1, 0, 1)], "counts from 0"),
        ([(1, 2**24, 1)], "at most"),
    ],
)
def test_counts_that_no_coder_can_use_are_refused(rows, complaint):
    with pytest.raises(ValueError, match=complaint):
        EntropyCoded(limit=1).fitted([rows])


def test_a_message_needs_the_prior_that_it_was_written_with():
    one, other = (EntropyCoded(limit=1).fitted([[(1, n, 1)]]) for n in (5, 6))
    with pytest.raises(CodecError, match="other parameters"):
        other.decode(one.encode([torch.ones(1, 4, 4)]))
    with pytest.raises(ValueError, match="fitted to 1 channels"):
        one.encode([torch.ones(2, 4, 4)])
    with pytest.raises(ValueError, match="only float32"):
        one.encode([torch.ones(1, 4, 4, dtype=torch.int64)])


@pytest.mark.parametrize(
    "body",
    [b"", b"\1", bytes(4), b"\1\0\0\0" + bytes(4), b"\7" * 40],
    ids=["nothing", "no word", "a zero word", "a zero word at the end", "too much"],
)
def test_a_body_that_no_coder_writes_is_refused(body):
    codec = EntropyCoded(limit=1).fitted([[(30, 30, 30)]])
    with pytest.raises(CodecError):
        codec.unpack(body, (1, 5, 8))


# The prior


def test_the_prior_is_the_law_of_a_value_that_is_even_over_its_cell():
    """The density under noise, which training sees, at whole numbers is the chance of rounding."""
    prior = LearnedPrior(channels=2, limit=3)
    with torch.no_grad():
        prior.logits.copy_(torch.randn(2, 7, generator=stream(0)) / 20)
    prior.settle()
    chances = prior.counts.double() / prior.counts.sum(1, keepdim=True)
    numbers = torch.arange(-3.0, 4.0)[:, None].expand(7, 2)
    told = torch.stack([prior.bits(numbers[:, c, None].expand(7, 2)) for c in range(2)])
    assert told.shape == (2, 7)
    each = -chances.log2().T
    torch.testing.assert_close(prior.bits(numbers).double(), each.sum(1), rtol=2e-3, atol=2e-3)
    # Between two numbers the density is on the line between theirs.
    half = prior.bits(torch.full((1, 2), 0.25)).double()
    line = (0.75 * chances[:, 3] + 0.25 * chances[:, 4]).log2()
    torch.testing.assert_close(half, -line.sum()[None], rtol=2e-3, atol=2e-3)


def test_the_prior_learns_how_often_numbers_come():
    prior = LearnedPrior(channels=1, limit=4)
    optimizer = torch.optim.Adam(prior.parameters(), lr=5e-3)
    generator = stream(0, "noise")
    values = torch.tensor([0.0, 0.0, 0.0, 2.0]).repeat(64)[:, None]
    for _ in range(300):
        optimizer.zero_grad()
        loss = prior.bits(values + 0.5 * (uniform_like(values, generator) - 0.5)).mean()
        loss.backward()
        optimizer.step()
    prior.settle()
    share = prior.counts[0].double() / prior.counts.sum()
    assert float(share[4]) == pytest.approx(0.75, abs=0.1)
    assert float(share[6]) == pytest.approx(0.25, abs=0.1)


def test_values_beyond_the_limit_are_drawn_back():
    values = torch.tensor([[6.0], [-20.0]], requires_grad=True)
    LearnedPrior(channels=1, limit=4).bits(values).sum().backward()
    assert values.grad.flatten().tolist() == [1.0, -1.0]


# The student


def student(beta, **changes):
    world = defense_world("relu")
    return world, world.deploy(EntropicStudent(beta=beta, **{"channels": 2, **QUICK, **changes}))


def test_a_dearer_bit_is_a_bit_less_in_real_messages():
    means = []
    for beta in (1e-4, 0.05):
        world, deployed = student(beta)
        release = deployed.transmit(world.train.images(), generator=stream(0, "message"))
        means.append(float(release.payload_bytes.double().mean()))
    header = overhead([TensorSpec("", (2, 5, 5))])
    assert means[1] - header < 0.7 * (means[0] - header)


def test_the_bits_that_are_paid_for_are_those_that_are_sent():
    world, deployed = student(1e-3, epochs=6)
    features = deployed.features(world.train.images())
    release = deployed.transmit(world.train.images(), generator=stream(0, "message"))
    noisy = tuple(f + uniform_like(f, stream(1)) - 0.5 for f in features)
    paid = float(deployed.defense.bits(noisy).mean())
    sent = 8 * float(
        (release.payload_bytes - overhead([TensorSpec("", (2, 5, 5))])).double().mean()
    )
    assert sent == pytest.approx(paid, rel=0.25, abs=32)


def test_the_prior_comes_near_the_frequencies_of_what_is_sent():
    """O32 for the learnt prior: coding by it costs little more than by the true frequencies."""
    world, deployed = student(1e-3, epochs=8)
    (sent,) = deployed.codec.transform(deployed.features(world.train.images()))
    spent = least = 0.0
    for channel, row in zip(sent.unbind(1), deployed.codec.learnt[0], strict=True):
        times = torch.bincount((channel.flatten() + LIMIT).long(), minlength=2 * LIMIT + 1).double()
        expected = torch.tensor(row).double() / sum(row)
        spent -= float((times * expected.log2()).sum())
        least -= float(torch.special.xlogy(times, times / times.sum()).sum()) / math.log(2)
    assert least <= spent < 1.1 * least + 0.05 * sent.numel()


def test_the_second_stage_leaves_the_client_and_the_prior_alone():
    states = []
    for epochs in (0, 2):
        _, deployed = student(1e-3, finetune_epochs=epochs)
        states.append((deployed.split.client.state_dict(), deployed.codec.learnt, deployed.split))
    for name, value in states[0][0].items():
        assert torch.equal(value, states[1][0][name]), name
    assert states[0][1] == states[1][1]
    servers = [s[2].server.state_dict() for s in states]
    assert any(not torch.equal(v, servers[1][k]) for k, v in servers[0].items())


def test_the_server_learns_to_read_rounded_values():
    world, deployed = student(1e-3, epochs=8, finetune_epochs=4)
    release = deployed.release(world.train.images(), generator=stream(0))
    right = (deployed.predict(release).argmax(1) == world.train.labels).double().mean()
    assert float(right) > 0.8


# Pruning


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
        world, deployed = pruned("relu", 0.67, finetune_epochs=epochs, learning_rate=0.01)
        release = deployed.release(world.train.images(), generator=stream(0))
        right.append(
            float((deployed.predict(release).argmax(1) == world.train.labels).double().mean())
        )
    assert right[1] > right[0] + 0.1


def test_a_split_that_was_not_adapted_is_refused():
    world = defense_world("relu")
    for defense in (StructuredPruning(share=0.5), EntropicStudent(beta=1.0)):
        with pytest.raises(TypeError, match="adapt"):
            defense.fit(world.split, world.train, generator=stream(0))
