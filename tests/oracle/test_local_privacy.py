"""Local differential privacy: clip, noise and likelihood in closed form; audits of right and wrong.

The features are vectors; a world gives the rest where something is fitted.
"""

import math
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from defenses.chain import Chain
from defenses.dropout import Dropout
from defenses.gaussian_noise import GaussianNoise
from defenses.laplace_noise import LaplaceNoise
from defenses.local_dp_gaussian import LocalDpGaussian
from defenses.local_dp_laplace import LocalDpLaplace
from defenses.no_defense import NoDefense
from defenses.quantization import Quantization
from splitbench.audit import audit, canaries
from splitbench.checks.defense_promise import check_promise_survives_an_audit
from splitbench.checks.defense_world import defense_world
from splitbench.gaussian_dp import mu_of
from splitbench.rng import stream

KINDS = [LocalDpGaussian, LocalDpLaplace]
kinds = pytest.mark.parametrize("kind", KINDS)
C = 3.0


def vectors(n=6, width=7, scale=2.0, seed=0):
    """Two live tensors of one example, some of them short, some long."""
    wide = scale * torch.randn(n, width, generator=stream(seed, "vectors"))
    wide = wide * torch.logspace(-2, 1, n)[:, None]
    return wide[:, :3], wide[:, 3:].reshape(n, 2, 2)


def joined(features):
    return torch.cat([f.flatten(1) for f in features], dim=1).double()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bound=st.floats(1e-3, 1e3), kind=st.sampled_from(KINDS))
def test_a_clipped_example_has_at_most_the_norm_and_keeps_its_direction(seed, bound, kind):
    """O36, over all tensors of an example together."""
    defense = kind(epsilon=1.0, clip=bound)
    before = vectors(seed=seed)
    after = joined(defense.clipped(before))
    whole = joined(before)
    norms, left = (torch.linalg.vector_norm(v, kind.order, dim=1) for v in (whole, after))
    assert bool((left <= bound * (1 + 1e-6)).all())
    short = norms <= bound
    assert torch.equal(after[short], whole[short])
    assert torch.allclose(left[~short], torch.full_like(left[~short], bound), rtol=1e-5)
    assert torch.allclose(after / left[:, None], whole / norms[:, None], atol=1e-5)
    apart = torch.cdist(after, torch.cat([after, -after]), p=kind.order)
    assert float(apart.max()) <= 2 * bound * (1 + 1e-6)


@kinds
def test_opposite_inputs_are_twice_the_bound_apart(kind):
    """The sensitivity is reached: half of it would not do."""
    defense = kind(epsilon=1.0, clip=C)
    one = torch.zeros(1, 5)
    one[0, 2] = 100.0
    first, second = defense.clipped((one,))[0], defense.clipped((-one,))[0]
    apart = float(torch.linalg.vector_norm(first - second, kind.order))
    assert apart == pytest.approx(2 * C, rel=1e-6)


def test_gaussian_noise_has_the_deviation_that_epsilon_and_delta_ask_for():
    defense = LocalDpGaussian(epsilon=1.0, delta=1e-5, clip=C)
    sent = defense.protect((torch.zeros(20_000, 3),), generator=stream(0, "law"))[0]
    assert float(sent.std()) == pytest.approx(2 * C * 3.730632, rel=0.01)
    assert stats.kstest(sent.flatten(), stats.norm(scale=2 * C * 3.730632).cdf).pvalue > 0.01


def test_classic_noise_is_more_than_is_needed_and_its_promise_is_composed_as_it_is():
    classic = LocalDpGaussian(epsilon=1.0, clip=C, calibration="classic")
    assert classic.relative_std == pytest.approx(2 * math.sqrt(2 * math.log(1.25 / 1e-5)))
    assert classic.relative_std > 1.29 * LocalDpGaussian(epsilon=1.0, clip=C).relative_std
    assert classic.guarantee().mu == pytest.approx(2 / classic.relative_std)


def test_the_classic_formula_is_refused_beyond_an_epsilon_of_one():
    with pytest.raises(ValueError, match="epsilon up to 1 only; calibrate analytically"):
        LocalDpGaussian(epsilon=1.5, calibration="classic")


def test_sixteen_messages_together_have_the_noise_of_the_composed_promise():
    """O37: what the adversary pools is one message with mu four times as large."""
    defense = LocalDpGaussian(epsilon=1.0, clip=C)
    blank, generator = (torch.zeros(10_000, 3),), stream(0, "pool")
    pooled = defense.pool([defense.protect(blank, generator=generator) for _ in range(16)])[0]
    composed = defense.guarantee().over(messages=16)
    assert float(pooled.std()) == pytest.approx(2 * C / composed.mu, rel=0.02)


def test_laplace_noise_has_the_scale_that_epsilon_asks_for():
    """O35: b = 2 C / epsilon."""
    defense = LocalDpLaplace(epsilon=0.5, clip=C)
    sent = defense.protect((torch.zeros(20_000, 3),), generator=stream(0, "law"))[0]
    assert stats.kstest(sent.flatten(), stats.laplace(scale=2 * C / 0.5).cdf).pvalue > 0.01


def test_no_message_is_likelier_under_one_input_than_under_another_by_more_than_e_to_the_epsilon():
    """O35: the log-ratio of densities is bounded by epsilon, and reaches it."""
    epsilon = 0.7
    defense = LocalDpLaplace(epsilon=epsilon, clip=C)
    inputs = torch.cat([20 * torch.randn(40, 5, generator=stream(0, "inputs")), torch.eye(5) * 9])
    inputs = torch.cat([inputs, -inputs])
    ratios = []
    for z in 30 * torch.randn(50, 5, generator=stream(0, "messages")):
        seen = (z.double().expand(len(inputs), 5),)
        surprise = defense.negative_log_likelihood(seen, (inputs.double(),))
        ratios.append(float(surprise.max() - surprise.min()))
    assert max(ratios) <= epsilon * (1 + 1e-9)
    assert max(ratios) == pytest.approx(epsilon, rel=1e-6)


@pytest.mark.parametrize("k", [1, 4])
def test_the_gaussian_likelihood_is_that_of_noise_around_the_clipped_features(k):
    defense = LocalDpGaussian(epsilon=8.0, clip=C)
    std = 2 * C / mu_of(epsilon=8.0, delta=1e-5) / math.sqrt(k)
    f, g, z = vectors(seed=1), vectors(seed=2), vectors(seed=3)
    law = stats.norm(scale=std)

    def clipped(features):
        whole = joined(features).numpy()
        norm = np.linalg.norm(whole, axis=1, keepdims=True)
        return whole * np.minimum(1, C / norm)

    seen = joined(z).numpy()
    expected = law.logpdf(seen - clipped(g)).sum(1) - law.logpdf(seen - clipped(f)).sum(1)
    one, other = (defense.negative_log_likelihood(z, x, observations=k) for x in (f, g))
    assert (one - other).tolist() == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-4)


def test_the_laplace_likelihood_is_that_of_noise_around_the_clipped_features():
    defense = LocalDpLaplace(epsilon=8.0, clip=C)
    f, z = (torch.tensor([[5.0, -1.0]]),), (torch.tensor([[0.5, 0.5]]),)
    centre = torch.tensor([[2.5, -0.5]])
    expected = stats.laplace(scale=2 * C / 8.0).logpdf(z[0] - centre).sum()
    start = 2 * math.log(2 * 2 * C / 8.0)  # of the density's constant
    found = float(defense.negative_log_likelihood(z, f))
    assert found == pytest.approx(-expected - start, rel=1e-5)


@kinds
def test_what_an_attack_learns_of_the_length_ends_at_the_bound(kind):
    """Features that differ in nothing but how far they are too long explain a message alike."""
    defense = kind(epsilon=8.0, clip=C)
    features = (10 * torch.ones(1, 4),)
    sent = defense.protect(features, generator=stream(0, "message"))
    near, far = (
        float(defense.negative_log_likelihood(sent, (f,))) for f in (features[0], 7 * features[0])
    )
    assert near == pytest.approx(far, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "values", "db"),
    [
        (LocalDpGaussian, 4096, -37.7),
        (LocalDpGaussian, 32, -16.6),
        (LocalDpLaplace, 4096, -63.2),
        (LocalDpLaplace, 32, -21.1),
    ],
)
def test_the_signal_to_noise_ratio_is_the_one_that_the_documentation_confesses(kind, values, db):
    defense = kind(epsilon=8.0, clip=C)
    assert defense.snr_db(values=values) == pytest.approx(db, abs=0.05)
    features = (torch.full((200_000 // values, values), 10 * C),)
    signal = defense.clipped(features)[0]
    noise = defense.protect(features, generator=stream(0, "snr"))[0] - signal
    measured = 10 * math.log10(float(signal.square().mean() / noise.square().mean()))
    assert measured == pytest.approx(db, abs=0.15)


@kinds
@pytest.mark.parametrize("cut", ["branch", "hidden"])
def test_without_a_bound_it_is_the_median_norm_on_the_train_role(kind, cut):
    world = defense_world(cut)
    defense = world.deploy(kind(epsilon=1.0)).defense
    norms = torch.linalg.vector_norm(
        joined(world.features(world.train.images())), kind.order, dim=1
    )
    assert defense.bound == pytest.approx(float(norms.quantile(0.5)), rel=1e-6)
    assert 0.3 < float((norms > defense.bound).double().mean()) < 0.7


@kinds
def test_an_unknown_bound_says_what_to_do(kind):
    with pytest.raises(RuntimeError, match=r"call fit\(\) before protect\(\)"):
        kind(epsilon=1.0).protect((torch.ones(1, 3),), generator=stream(0))


@kinds
@pytest.mark.parametrize(
    ("keywords", "complaint"),
    [
        ({"epsilon": 0.0}, "epsilon=0"),
        ({"epsilon": math.inf}, "epsilon=inf"),
        ({"epsilon": 1.0, "clip": -1.0}, "clip=-1"),
        ({"epsilon": 1.0, "channels": 0, "finetune_epochs": 1}, "channels=0"),
        ({"epsilon": 1.0, "stride": 2}, "needs channels"),
        ({"epsilon": 1.0, "channels": 2}, "set finetune_epochs"),
    ],
)
def test_a_setting_that_cannot_be_kept_is_refused(kind, keywords, complaint):
    with pytest.raises(ValueError, match=complaint):
        kind(**keywords)


def test_a_delta_of_nothing_is_refused():
    with pytest.raises(ValueError, match="delta=0"):
        LocalDpGaussian(epsilon=1.0, delta=0.0)


def test_the_server_is_bounded_like_everybody_else():
    """The figure that the documentation gives."""
    best = LocalDpGaussian(epsilon=8.0).guarantee().best_guess(candidates=10)
    assert best == pytest.approx(0.52, abs=0.005)


# Clients that couple images.


class Coupled(nn.Module):
    """Normalises by the statistics of each batch, where it does not keep its own."""

    def __init__(self, client, *, keeps):
        super().__init__()
        self.client = client
        self.norm = nn.BatchNorm2d(3, track_running_stats=keeps)

    def forward(self, images):
        return tuple(self.norm(f) for f in self.client(images))


def fitted_behind(defense, *, keeps):
    world = defense_world()
    parts = replace(world.split, client=Coupled(world.split.client, keeps=keeps).eval())
    generator = stream(0, "fit")
    defense.fit(parts, world.train, generator=generator)
    return generator


def chains(kind):
    """A promise as it is, and behind what hands on features as they are, or with noise."""
    private = kind(epsilon=1.0)
    before = (
        NoDefense(),
        GaussianNoise(noise_std=0.5),
        LaplaceNoise(noise_std=0.5),
        Dropout(rate=0.5),
    )
    return private, *(Chain(members={"first": one, "private": private}) for one in before)


@kinds
@pytest.mark.parametrize("place", range(5))
def test_no_promise_is_made_behind_a_client_that_couples_images(kind, place):
    with pytest.raises(ValueError, match="no promise about one input can be made where the client"):
        fitted_behind(chains(kind)[place], keeps=False)


@kinds
@pytest.mark.parametrize("place", range(5))
def test_normalisation_by_kept_statistics_couples_nothing(kind, place):
    fitted_behind(chains(kind)[place], keeps=True)


def test_looking_for_coupled_images_leaves_the_random_numbers_of_the_fit():
    defense = LocalDpGaussian(epsilon=1.0)
    state = fitted_behind(defense, keeps=True).get_state()
    assert torch.equal(state, stream(0, "fit").get_state())


# Audits.


class HalfTheSensitivity(LocalDpGaussian):
    """Takes the bound for the sensitivity."""

    @property
    def relative_std(self):
        return super().relative_std / 2


class HalfTheLaplaceScale(LocalDpLaplace):
    """Takes the bound for the sensitivity."""

    @property
    def relative_std(self):
        return super().relative_std / 2


class RestsInEvalMode(LocalDpGaussian):
    """Adds noise in training only."""

    def protect(self, features, *, generator):
        if self.training:
            return super().protect(features, generator=generator)
        return self.clipped(features)


class ClipsEachTensor(LocalDpGaussian):
    """Bounds the live tensors one by one."""

    def clipped(self, features):
        return tuple(super(ClipsEachTensor, self).clipped((f,))[0] for f in features)


class OneDrawForAll(LocalDpGaussian):
    """Adds the same number to all values of an example."""

    def noise(self, like, *, generator):
        shape = (len(like), *[1] * (like.ndim - 1))
        return torch.randn(shape, generator=generator, dtype=like.dtype)


class Signs(LocalDpLaplace):
    """Randomised response on the sign of the first value; says twice what it may."""

    spent: ClassVar[float] = 2.0

    def protect(self, features, *, generator):
        honest = 1 / (1 + math.exp(-self.spent * self.epsilon))
        lies = torch.rand(len(features[0]), generator=generator) > honest
        sign = torch.where(features[0].flatten(1)[:, 0] > 0, 1.0, -1.0)
        return (torch.where(lies, -sign, sign)[:, None],)


class HonestSigns(Signs):
    """The same within what is promised."""

    spent = 1.0


def audited(defense, cut="branch", **options):
    world = defense_world(cut)
    deployed = world.deploy(defense)
    pairs = canaries(deployed.features(world.targets))
    return audit(deployed.defense, pairs, generator=stream(0, "audit"), **options)


HONEST = [
    LocalDpGaussian(epsilon=4.0),
    LocalDpGaussian(epsilon=4.0, delta=1e-3, clip=0.1),
    LocalDpLaplace(epsilon=1.0),
    LocalDpLaplace(epsilon=3.0, clip=10.0),
    HonestSigns(epsilon=1.0, clip=1.0),
]
WRONG = [
    HalfTheSensitivity(epsilon=1.0),
    HalfTheSensitivity(epsilon=4.0, delta=1e-3, clip=0.1),
    HalfTheLaplaceScale(epsilon=1.0),
    RestsInEvalMode(epsilon=1.0),
    ClipsEachTensor(epsilon=4.0),
    OneDrawForAll(epsilon=1.0),
    Signs(epsilon=1.0, clip=1.0),
]


@pytest.mark.parametrize("defense", HONEST, ids=repr)
def test_an_audit_finds_no_more_than_is_promised_where_the_promise_is_kept(defense):
    """O41: and not much less, or it would find nothing anywhere."""
    found = audited(defense)
    assert not found.refuted
    assert 0.5 * found.claimed.epsilon < found.epsilon <= found.claimed.epsilon


@pytest.mark.parametrize("kind", [LocalDpGaussian, HalfTheSensitivity])
def test_a_promise_inside_a_chain_is_turned_to_where_it_can_be_heard(kind):
    members = {"private": kind(epsilon=500.0, clip=1.0), "bits": Quantization(bits=4)}
    chain, world = Chain(members=members), defense_world()
    if kind is LocalDpGaussian:
        check_promise_survives_an_audit(chain, world)
    else:
        with pytest.raises(AssertionError, match="messages of pair"):
            check_promise_survives_an_audit(chain, world)


@pytest.mark.parametrize("defense", WRONG, ids=repr)
def test_an_audit_refutes_a_promise_that_is_broken(defense):
    """O41."""
    found = audited(defense)
    assert found.refuted
    assert found.epsilon > found.claimed.epsilon


def test_an_audit_of_what_promises_nothing_refutes_nothing_and_finds_much():
    found = audited(NoDefense())
    assert not found.refuted
    assert found.epsilon > 5
    unbounded = audited(GaussianNoise(noise_std=1.0))
    assert not unbounded.refuted
    assert unbounded.epsilon > 5  # noise without a clip, and an input that is larger than others


def test_the_bound_of_an_audit_holds_as_often_as_it_says():
    defense = LocalDpLaplace(epsilon=1.0, clip=1.0)
    pairs = canaries((torch.rand(3, 2, generator=stream(0)),))
    wrong = sum(
        audit(defense, pairs, generator=stream(i), messages=200, confidence=0.5).refuted
        for i in range(50)
    )
    assert wrong <= 32
    assert wrong > 0  # a bound of so little confidence is too large now and then


@pytest.mark.parametrize(
    "options", [{"messages": 99}, {"confidence": 1.0}, {"confidence": 0.0}], ids=repr
)
def test_an_audit_that_could_show_nothing_is_refused(options):
    with pytest.raises(ValueError, match="at least 100 messages"):
        audited(HONEST[0], **options)
