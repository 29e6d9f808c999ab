"""Dropout, top-k and stochastic rounding against closed forms, alone and under attack."""

import math

import pytest
import torch
from scipy import integrate, stats
from torch import nn
from torch.nn import functional as F
from worlds import GREY, PIXELS, STD, World, build, gaussian_matrix, linear

from attacks.inverse_network import InverseNetwork
from attacks.likelihood_maximization import LikelihoodMaximization
from attacks.priors.gaussian import Gaussian
from attacks.ridge import Ridge
from defenses.dropout import TOLERANCE, Dropout
from defenses.stochastic_rounding import RARE, StochasticRounding
from defenses.top_k import TopK
from splitbench.codecs.container import overhead
from splitbench.data.images import LabeledImages
from splitbench.release import TensorSpec
from splitbench.rng import stream

PRIOR = Gaussian(mean=GREY, precision=1 / STD**2)


def identity(x):
    return x


def with_codec(world):
    """The same world behind the codec that its defense brings."""
    parts = vars(world.deployment) | {"codec": world.deployment.defense.codec}
    return World(type(world.deployment)(**parts), world.feed, world.targets)


def messages(defense, features, count):
    generator = stream(0, "messages")
    return [defense.protect((features,), generator=generator) for _ in range(count)]


# Dropout


def measured(defense):
    """Fitted to features of root mean square 1, so that its tolerance is `TOLERANCE`."""

    class Ones(nn.Module):
        def forward(self, images):
            return (torch.ones(len(images), 3),)

    blank = LabeledImages(torch.zeros(4, 1, 1, 1), torch.zeros(4, dtype=torch.int64), ("only",))
    defense.scale.calibrate(Ones(), blank)
    return defense


@pytest.mark.parametrize("observations", [1, 4])
def test_what_dropout_erases_is_undone_by_looking_again(observations):
    """O17: the mask shows where the features are never zero; ``r^k`` is left."""
    world = build(identity, defense=Dropout(rate=0.5))
    outcome = world.attacked_by(Ridge(), observations=observations)
    assert outcome.is_bayes_risk(0.5**observations)


@pytest.mark.parametrize("rate", [0.3, 0.6])
def test_a_zero_of_a_relu_under_dropout_is_ambiguous_and_costs_what_it_should(rate):
    """A zero is a negative value with probability 1 / (1 + r), else a positive one, erased."""
    # One draw is left of k = 2 with rate sqrt(r): the pool must obey the same law.
    world = build(F.relu, defense=Dropout(rate=math.sqrt(rate)))
    shift = (1 - rate) / (1 + rate)
    risk = (1 + rate) / 2 * (1 - 2 / math.pi * shift**2)
    decoder = InverseNetwork(width=32, blocks=1, heads=0, patch=1, steps=500, batch_size=64)
    guess = world.guess(decoder, observations=2)
    assert world.score(guess).is_bayes_risk(risk, within=0.05)
    silent = world.release(observations=2).tensors[0] == 0
    mean = float((guess[silent] - GREY).mean() / STD)
    assert mean == pytest.approx(-math.sqrt(2 / math.pi) * shift, abs=0.05)


@pytest.mark.parametrize("observations", [1, 3])
def test_the_likelihood_of_dropout_is_the_mixture_by_hand(observations):
    defense = measured(Dropout(rate=0.4, rescale=False))
    lost = 0.4**observations

    def surprise(z, f):
        pair = torch.tensor([[z]]), torch.tensor([[f]])
        return float(defense.negative_log_likelihood(pair[:1], pair[1:], observations=observations))

    assert surprise(0.0, 0.0) == pytest.approx(0, abs=1e-6)
    assert surprise(0.0, 1.0) == pytest.approx(-math.log(lost), rel=1e-5)
    one_off = lost + (1 - lost) * math.exp(-0.5)
    assert surprise(0.0, TOLERANCE) == pytest.approx(-math.log(one_off), rel=1e-4)
    assert surprise(1.0, 1.0) == 0
    assert surprise(1.0, 1 - 3 * TOLERANCE) == pytest.approx(4.5, rel=1e-3)


def test_the_survivors_of_a_channel_vouch_for_its_zeros():
    released = torch.tensor([[[[0.0, 1.0]], [[0.0, 0.0]]]])  # the second channel may be erased
    features = torch.tensor([[[[1.0, 1.0]], [[1.0, 1.0]]]])
    surprise = [
        float(
            measured(Dropout(rate=0.5, per=per, rescale=False)).negative_log_likelihood(
                (released,), (features,)
            )
        )
        for per in ("element", "channel")
    ]
    assert surprise[0] == pytest.approx(3 * math.log(2), rel=1e-5)
    assert surprise[1] == pytest.approx(0.5 / TOLERANCE**2 + math.log(2), rel=1e-5)


@pytest.mark.parametrize("per", ["element", "channel"])
def test_the_pool_of_k_messages_lacks_the_kth_power_of_the_rate_and_is_exact_elsewhere(per):
    defense = Dropout(rate=0.7, per=per, rescale=False)
    features = torch.randn(4000, 5, 2, 2, generator=stream(0, "features"))
    pooled = defense.pool(messages(defense, features, 3))[0]
    erased = pooled == 0
    error = 4 * math.sqrt(0.343 * 0.657 / (4000 * 5))
    assert float(erased.float().mean()) == pytest.approx(0.343, abs=error)
    assert torch.equal(pooled[~erased], features[~erased])


def test_rescaled_dropout_is_unbiased_and_the_other_kind_is_not():
    features = torch.full((40_000, 1), 2.0)
    means = [
        float(messages(Dropout(rate=0.75, rescale=rescale), features, 1)[0][0].mean())
        for rescale in (True, False)
    ]
    assert means == pytest.approx([2.0, 0.5], rel=0.05)


# Top-k


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_top_k_of_white_pixels_loses_the_smallest_squares(share):
    world = with_codec(build(identity, defense=TopK(share=share)))
    kept = int(share * PIXELS)

    def lost(x):
        """x^2 where at least `kept` of the others are larger."""
        larger = stats.binom.sf(kept - 1, PIXELS - 1, 2 * stats.norm.sf(x))
        return 2 * x**2 * stats.norm.pdf(x) * larger

    risk = integrate.quad(lost, 0, 10)[0]
    # Linear is best: what is kept is known, and what is not has mean zero by symmetry.
    assert world.attacked_by(Ridge()).is_bayes_risk(risk)


def test_the_message_of_top_k_is_its_values_and_the_shorter_index():
    """O27."""
    world = with_codec(build(identity, defense=TopK(share=0.25), targets=3))
    sent = world.deployment.transmit(world.targets, generator=stream(0))
    header = overhead([TensorSpec("z", (1, 4, 4))])
    assert sent.payload_bytes.tolist() == [header + min(16, 4 * 4) // 8 + 4 * 4] * 3


def test_a_dropped_feature_may_be_anything_up_to_the_threshold_and_a_kept_one_nothing_else():
    world = with_codec(build(identity, defense=TopK(share=0.25), targets=2))
    release = world.release(1)
    value = release.tensors[0][0]
    threshold = value[value != 0].abs().min()
    place = (value == 0).nonzero()[0]

    def mismatch(change):
        features = release.tensors[0].clone()
        features[(0, *place)] = change
        return float(world.deployment.mismatch(release, (features,)))

    assert mismatch(0.99 * threshold) == mismatch(-0.99 * threshold) == 0
    assert mismatch(threshold + 0.5) == pytest.approx(0.25, rel=1e-4)
    wrong = torch.where(value != 0, value + 0.1, 0.0)[None]
    assert float(world.deployment.mismatch(release, (wrong,))) == pytest.approx(0.04, rel=1e-3)


def test_fewer_values_can_be_selected_from_more():
    """What `nested` says: the adversary who sees many computes the few."""
    features = torch.randn(50, 3, 7, 7, generator=stream(0, "features"))
    many, few = (TopK(share=share).codec.transform for share in (0.3, 0.1))
    assert torch.equal(few(many((features,)))[0], few((features,))[0])


# Stochastic rounding


def line(count=9):
    """Features between ends that both occur, one row per message to come."""
    return torch.linspace(-1.0, 3.0, count)[None]


@pytest.mark.parametrize("bits", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 4])
def test_stochastic_rounding_has_the_mean_and_the_variance_that_it_should(bits, k):
    """O29: unbiased; ``p (1 - p) delta^2`` for one message, a k-th of it for k."""
    defense, count = StochasticRounding(bits=bits), 20_000
    pooled = defense.pool(messages(defense, line().repeat(count, 1), k))[0].double()
    delta = 4 / (2**bits - 1)
    p = ((line().double() + 1) / delta).frac()[0]
    variance = p * (1 - p) * delta**2 / k
    assert float(variance.max()) <= delta**2 / 4 / k
    assert ((pooled.mean(0) - line()[0]).abs() <= 4.5 * (variance / count).sqrt() + 1e-6).all()
    torch.testing.assert_close(pooled.var(0), variance, rtol=0.06, atol=1e-9)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_the_codec_rounds_nothing_that_was_rounded_and_both_ends_arrive(bits):
    defense = StochasticRounding(bits=bits)
    features = torch.randn(20, 2, 5, 5, generator=stream(0, "features"))
    sent = messages(defense, features, 1)[0]
    assert torch.equal(defense.codec.transform(sent)[0], sent[0])
    assert torch.equal(sent[0].flatten(1).aminmax(dim=1)[0], features.flatten(1).amin(1))
    assert torch.equal(sent[0].flatten(1).aminmax(dim=1)[1], features.flatten(1).amax(1))


@pytest.mark.parametrize("k", [1, 2, 5, 16])
def test_the_likelihood_of_stochastic_rounding_is_binomial(k):
    """For the mean of k messages of 0, 1/2, ... steps, against scipy's law of their number."""
    defense = StochasticRounding(bits=2)
    for ups in range(k + 1):
        seen = torch.tensor([[0.0, 1 + ups / k, 3.0]])
        for share in (0.2, 0.5, 0.9):
            guess = torch.tensor([[0.0, 1 + share, 3.0]])
            ours = defense.negative_log_likelihood((seen,), (guess,), observations=k)
            expected = -stats.binom.logpmf(ups, k, share) + math.log(math.comb(k, ups))
            assert float(ours) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_impossible_features_are_told_the_way_back():
    defense = StochasticRounding(bits=2)
    seen = torch.tensor([[0.0, 1.0, 3.0]])
    surprise = []
    for place in (0.1, -0.5, -2.0, -50.0):
        guess = torch.tensor([[0.0, place, 3.0]], requires_grad=True)
        value = defense.negative_log_likelihood((seen,), (guess,))
        surprise.append(float(value.detach()))
        slope = torch.autograd.grad(value.sum(), guess)[0][0, 1]
        assert slope == pytest.approx(-1 / max(place, RARE), rel=1e-4)
    assert surprise == sorted(surprise)


def test_rounding_a_rounded_release_further_is_as_good_as_rounding_at_once():
    """What `nested` says: 2 bits of 4 bits have the law of 2 bits."""
    fine, coarse = StochasticRounding(bits=4), StochasticRounding(bits=2)
    features = line(7).repeat(20_000, 1)
    once = messages(coarse, features, 1)[0][0]
    again = coarse.protect(messages(fine, features, 1)[0], generator=stream(0, "again"))[0]
    levels = once.unique()
    assert torch.equal(levels, again.unique())
    shares = [torch.stack([(z == v).double().mean(0) for v in levels]) for z in (once, again)]
    torch.testing.assert_close(*shares, atol=4 * math.sqrt(0.5 / 20_000), rtol=0)


# The search under each likelihood


def search(**changes):
    return LikelihoodMaximization(
        **{"steps": 300, "learning_rate": 0.02, "prior": PRIOR, **changes}
    )


def mixed(defense, rule=identity):
    matrix = linear(gaussian_matrix(12))
    return build(lambda x: rule(matrix(x)), defense=defense, auxiliary=2000, targets=64)


def under_dropout():
    return mixed(Dropout(rate=0.4))


def under_top_k():
    return with_codec(mixed(TopK(share=0.5)))


def under_rounding():
    return mixed(StochasticRounding(bits=2))


@pytest.mark.parametrize(
    ("world", "gain"), [(under_dropout, 0.1), (under_top_k, 0.015), (under_rounding, 0.0)]
)
def test_the_search_is_not_worse_than_its_warm_start(world, gain):
    """A linear decoder cannot know this message's mask; under rounding it is nearly the best."""
    system, warm = world(), search(weights=(1.0, 100.0), warm_start=Ridge())
    before, after = (system.attacked_by(attack).error for attack in (Ridge(), warm))
    assert after < (1 - gain) * before


@pytest.mark.parametrize("observations", [1, 8])
def test_the_search_under_dropout_finds_the_mean_given_the_survivors(observations):
    """Where no feature is zero the mask shows, and the rest is a linear system without noise."""
    matrix, world = gaussian_matrix(12), under_dropout()
    pixels = (world.targets.flatten(1).double() - GREY) / STD
    seen = world.release(observations=observations).tensors[0] != 0
    known = [matrix[row] for row in seen]
    means = [
        rows.T @ torch.linalg.solve(rows @ rows.T, rows @ x)
        for rows, x in zip(known, pixels, strict=True)
    ]
    least = float((torch.stack(means) - pixels).square().mean())
    # A heavy prior, for a light one leaves a system that takes thousands of steps to solve.
    outcome = world.attacked_by(search(weights=(100.0,)), observations=observations)
    assert outcome.error == pytest.approx(least, rel=0.02)
