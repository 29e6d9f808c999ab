"""The entropic student: its prior, what it pays, what it sends."""

import math

import pytest
import torch

from defenses.entropic_student import LIMIT, EntropicStudent
from defenses.learned_prior import LearnedPrior
from splitbench.checks.defense_world import defense_world
from splitbench.codecs.container import overhead
from splitbench.release import TensorSpec
from splitbench.rng import stream, uniform_like

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
    ],
)
def test_a_bad_setting_is_refused(kind, keywords, complaint):
    with pytest.raises(ValueError, match=complaint):
        kind(**keywords)


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


def test_a_split_that_was_not_adapted_is_refused():
    world = defense_world("relu")
    with pytest.raises(TypeError, match="adapt"):
        EntropicStudent(beta=1.0).fit(world.split, world.train, generator=stream(0))
