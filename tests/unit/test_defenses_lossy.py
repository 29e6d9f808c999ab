"""Dropout, top-k and stochastic rounding: settings, masks, payloads, what tuning is for."""

import pytest
import torch

from defenses.dropout import Dropout
from defenses.stochastic_rounding import StochasticRounding
from defenses.top_k import TopK
from experiments.judge import traits
from splitbench.checks.defense_world import defense_world
from splitbench.codecs.float32 import Float32
from splitbench.codecs.uniform import Uniform
from splitbench.leaderboard.simulable import Message, follows
from splitbench.rng import stream

KINDS = [(Dropout, {"rate": 0.5}), (TopK, {"share": 0.5}), (StochasticRounding, {"bits": 2})]


@pytest.mark.parametrize(
    ("kind", "keywords", "complaint"),
    [
        (Dropout, {"rate": 1.0}, "rate=1.0"),
        (Dropout, {"rate": -0.1}, "rate=-0.1"),
        (Dropout, {"rate": float("nan")}, "rate=nan"),
        (Dropout, {"rate": 0.5, "per": "pixel"}, "pixel"),
        (TopK, {"share": 0.0}, "share=0.0"),
        (TopK, {"share": 1.5}, "share=1.5"),
        (StochasticRounding, {"bits": 0}, "bits=0"),
        (StochasticRounding, {"bits": 16}, "bits=16"),
    ],
)
def test_a_bad_setting_is_refused(kind, keywords, complaint):
    with pytest.raises((ValueError, TypeError), match=complaint):
        kind(**keywords)


@pytest.mark.parametrize(("kind", "keywords"), KINDS)
@pytest.mark.parametrize(
    "bad", [{"finetune_epochs": -1}, {"learning_rate": 0.0}, {"batch_size": 0}]
)
def test_a_bad_schedule_is_refused(kind, keywords, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        kind(**keywords, **bad)


@pytest.mark.parametrize(("kind", "keywords"), KINDS)
def test_the_repr_rebuilds_the_defense(kind, keywords):
    defense = kind(**keywords, finetune_epochs=2)
    assert eval(repr(defense)).arguments() == defense.arguments()


@pytest.mark.parametrize(
    ("shape", "axes"), [((4, 6, 5, 5), (2, 3)), ((4, 5, 6), (1,)), ((4, 6), ())]
)
def test_a_channel_is_erased_as_a_whole(shape, axes):
    features = torch.ones(64, *shape[1:])
    sent = Dropout(rate=0.5, per="channel", rescale=False).protect((features,), generator=stream(0))
    share = sent[0].mean(axes) if axes else sent[0]
    assert share.shape == (64, 6)
    assert set(share.flatten().tolist()) == {0.0, 1.0}
    assert 0.3 < float(share.mean()) < 0.7


def test_without_channels_masks_fall_on_single_elements():
    sent = Dropout(rate=0.5, rescale=False).protect((torch.ones(64, 6, 5, 5),), generator=stream(0))
    shares = sent[0].mean((2, 3))
    assert float(((shares > 0) & (shares < 1)).float().mean()) > 0.99


def test_copies_that_a_codec_rounded_differently_are_averaged():
    seen = [(torch.tensor([[v]]),) for v in (0.0, 1.0, 0.0, 1.5)]
    assert Dropout(rate=0.5).pool(seen)[0].item() == 1.25


def test_nothing_is_pooled_from_nothing():
    seen = [(torch.zeros(2, 3),)] * 3
    assert torch.equal(Dropout(rate=0.5).pool(seen)[0], torch.zeros(2, 3))


def test_without_dropout_there_is_no_likelihood():
    features = (torch.ones(2, 3),)
    assert Dropout(rate=0.0).negative_log_likelihood(features, features) is None


def test_protecting_needs_no_fitting_but_the_likelihood_of_dropout_does():
    features = (torch.ones(2, 3),)
    sent = Dropout(rate=0.5).protect(features, generator=stream(0))
    with pytest.raises(RuntimeError, match="scale"):
        Dropout(rate=0.5).negative_log_likelihood(sent, features)


@pytest.mark.parametrize("value", [-3.0, 0.0, 7.5])
def test_features_without_range_survive_stochastic_rounding(value):
    features = (torch.full((2, 3), value),)
    defense = StochasticRounding(bits=2)
    sent = defense.protect(features, generator=stream(0))
    assert torch.equal(sent[0], features[0])
    assert defense.negative_log_likelihood(sent, features).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("k", [1, 3])
def test_the_gradients_of_the_likelihoods_are_finite_wherever_the_features_are(k):
    world = defense_world()
    features = world.features(world.targets)
    for kind, keywords in (KINDS[0], KINDS[2]):
        deployed = world.deploy(kind(**keywords))
        release = deployed.release(world.targets, generator=stream(0), observations=k)
        for shift in (-1e3, 0.0, 1e-4, 1e3):
            guess = tuple((f + shift).requires_grad_() for f in features)
            value = deployed.mismatch(release, guess, observations=k)
            gradient = torch.autograd.grad(value.sum(), guess)[0]
            assert value.isfinite().all()
            assert gradient.isfinite().all()


def message(defense, codec):
    return Message(
        cut="relu",
        cut_index=1,
        defense=repr(defense),
        codec=repr(codec),
        threat={"client": "weights", "defense": "known", "observations": 1},
        traits=traits(defense, codec),
    )


def test_the_leaderboard_derives_more_dropout_and_fewer_random_bits_but_not_less():
    weak, strong = (message(Dropout(rate=rate), Float32()) for rate in (0.3, 0.6))
    assert follows(weak, strong)
    assert not follows(strong, weak)
    fine, coarse, other = (
        message(StochasticRounding(bits=bits), Uniform(bits=bits)) for bits in (4, 2, 3)
    )
    assert follows(fine, coarse)
    assert not follows(coarse, fine)
    assert not follows(fine, other)


def test_the_payload_of_top_k_falls_with_the_share():
    world = defense_world()
    sizes = [
        int(
            world.deploy(TopK(share=share))
            .transmit(world.targets[:1], generator=stream(0))
            .payload_bytes[0]
        )
        for share in (1.0, 0.5, 0.1)
    ]
    assert sizes[0] > sizes[1] > sizes[2]
