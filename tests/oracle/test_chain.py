"""Defenses one after the other: what they release, how likely it was, what is promised."""

import math

import pytest
import torch
from scipy import stats
from worlds import GREY, STD, World, build, gaussian_matrix, linear

from attacks.likelihood_maximization import LikelihoodMaximization
from attacks.priors.gaussian import Gaussian
from defenses.adversarial_training import AdversarialTraining
from defenses.chain import Chain
from defenses.distillation_bottleneck import DistillationBottleneck
from defenses.dropout import Dropout
from defenses.fisher_noise import FisherNoise
from defenses.gaussian_noise import GaussianNoise
from defenses.laplace_noise import LaplaceNoise
from defenses.local_dp_gaussian import LocalDpGaussian
from defenses.no_defense import NoDefense
from defenses.no_peek import NoPeek
from defenses.noise_laws import gaussian_cell_surprise, laplace_cell_surprise
from defenses.quantization import Quantization
from defenses.secret_rotation import SecretRotation
from defenses.shredder import Shredder
from defenses.stochastic_rounding import StochasticRounding
from defenses.top_k import TopK
from defenses.variational_bottleneck import VariationalBottleneck
from splitbench.checks.defense_world import defense_world
from splitbench.codecs.float16 import Float16
from splitbench.rng import stream

LAWS = {"gaussian": (GaussianNoise, stats.norm), "laplace": (LaplaceNoise, stats.laplace)}


def chained(*members):
    return Chain(members={str(i): member for i, member in enumerate(members)})


def deployed(*members, cut="relu"):
    world = defense_world(cut)
    return world, world.deploy(chained(*members))


@pytest.mark.parametrize("law", LAWS)
def test_a_rounded_draw_is_as_likely_as_its_cell(law):
    kind, reference = LAWS[law]
    world, system = deployed(kind(noise_std=0.5), Quantization(bits=3))
    release = system.transmit(world.targets[:3], generator=stream(0, "release"))
    features = system.features(world.targets[:3])
    found = system.defense.negative_log_likelihood(release.tensors, features)
    (low,), (high,) = system.codec.interval(release.tensors)
    (std,) = system.defense.stages[0].stds(features)
    scale = float(std) / (1 if law == "gaussian" else 2**0.5)
    mass = reference.cdf(high, features[0], scale) - reference.cdf(low, features[0], scale)
    wanted = -torch.from_numpy(mass).log().flatten(1).sum(1)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-3)
    assert system.is_likelihood(release, features)


@pytest.mark.parametrize("surprise", [gaussian_cell_surprise, laplace_cell_surprise])
@pytest.mark.parametrize("place", [-1e3, -30.0, 0.0, 30.0, 1e3])
def test_cells_far_out_have_finite_surprise_and_slope(surprise, place):
    inf = torch.inf
    low = torch.tensor([[-inf, place, place, 5.0, -inf]])
    high = torch.tensor([[place, place + 0.1, inf, 5.0, inf]])
    centre = torch.zeros(1, 5, requires_grad=True)
    value = surprise((low,), (high,), (centre,), (torch.ones(()),))
    (slope,) = torch.autograd.grad(value.sum(), centre)
    assert value.isfinite().all()
    assert slope.isfinite().all()


def test_cells_that_fill_the_line_are_certain_together():
    ends = torch.tensor([-torch.inf, -1.5, -0.2, 0.4, 9.0, torch.inf])
    low, high = ends[:-1].view(-1, 1), ends[1:].view(-1, 1)
    for surprise in (gaussian_cell_surprise, laplace_cell_surprise):
        each = surprise((low,), (high,), (torch.full((5, 1), 0.3),), (torch.tensor(0.7),))
        assert float((-each).exp().sum()) == pytest.approx(1, abs=1e-5)


def test_noise_behind_a_bottleneck_is_explained_by_what_the_bottleneck_lets_through():
    world, system = deployed(
        DistillationBottleneck(channels=2, epochs=1), GaussianNoise(noise_std=0.5)
    )
    release = system.release(world.targets, generator=stream(0, "release"), observations=4)
    features = system.features(world.targets)
    found = system.mismatch(release, features, observations=4)
    alone = system.defense.stages[1]
    wanted = alone.negative_log_likelihood(release.tensors, features, observations=4)
    torch.testing.assert_close(found, wanted)
    assert release.tensors[0].shape[1] == 2


def test_each_member_is_fitted_to_what_those_before_it_release():
    world, system = deployed(GaussianNoise(noise_std=2.0), GaussianNoise(noise_std=1.0))
    first, second = system.defense.stages
    (quiet,), (loud,) = first.scale((world.targets,)), second.scale((world.targets,))
    assert float(loud) == pytest.approx(float(quiet) * 5**0.5, rel=0.05)


def test_the_server_learns_last_what_it_will_receive():
    world = defense_world()
    tuned = chained(
        GaussianNoise(noise_std=0.5), Quantization(bits=1, finetune_epochs=4, learning_rate=0.01)
    )
    plain = chained(GaussianNoise(noise_std=0.5), Quantization(bits=1))
    right = []
    for defense in (plain, tuned):
        system = world.deploy(defense)
        images = world.train.images()
        release = system.release(images, generator=stream(0, "release"))
        right.append(
            float((system.predict(release).argmax(1) == world.train.labels).float().mean())
        )
    assert right[1] > right[0] + 0.03


def test_of_selected_draws_the_kept_have_their_density_and_the_others_the_mass_below():
    world, system = deployed(GaussianNoise(noise_std=0.5), TopK(share=0.2))
    release = system.transmit(world.targets[:3], generator=stream(0, "release"))
    features = system.features(world.targets[:3])
    found = system.defense.negative_log_likelihood(release.tensors, features)
    seen, place = release.tensors[0].double().flatten(1), features[0].double().flatten(1)
    (std,) = system.defense.stages[0].stds(features)
    least = torch.where(seen == 0, torch.inf, seen.abs()).min(1, keepdim=True).values
    law = [stats.norm(loc=p, scale=float(std)) for p in place.numpy()]
    below = torch.stack(
        [torch.from_numpy(la.cdf(t) - la.cdf(-t)) for la, t in zip(law, least.numpy(), strict=True)]
    )
    kept = ((seen - place) / float(std)).square() / 2
    wanted = torch.where(seen == 0, -below.log(), kept).sum(1)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "members",
    [
        (GaussianNoise(noise_std=0.5), Dropout(rate=0.3)),
        (GaussianNoise(noise_std=0.5), LaplaceNoise(noise_std=0.5)),
        (GaussianNoise(noise_std=0.5), LocalDpGaussian(epsilon=8.0)),  # clips what is noisy
        (GaussianNoise(noise_std=0.5), StochasticRounding(bits=3)),
        (TopK(share=0.3),),
    ],
    ids=repr,
)
def test_kinds_that_do_not_join_have_no_likelihood_and_neither_has_what_is_not_random(members):
    world, system = deployed(*members)
    release = system.release(world.targets, generator=stream(0, "release"))
    features = system.features(world.targets)
    assert not system.is_likelihood(release, features)
    assert system.mismatch(release, features).isfinite().all()
    assert system.defense.information(features) is None


JOINED = [
    (GaussianNoise(noise_std=0.5), FisherNoise(target_mse=0.05, images=20, probes=2)),
    (VariationalBottleneck(beta=0.01, channels=2), GaussianNoise(noise_std=0.5)),
    (LocalDpGaussian(epsilon=50.0), GaussianNoise(noise_std=0.5), GaussianNoise(noise_std=1.0)),
]


def joined(members, *last):
    """A deployed chain, with means and deviation of what its normal noises come to."""
    world, system = deployed(*members, *last)
    features = system.features(world.targets)
    random = system.defense.stages[: len(members)]
    means, variances = random[0].signal_and_noise(features)
    more = [member.signal_and_noise(means)[1] for member in random[1:]]
    std = sum(variances + sum(more, ())).sqrt().expand_as(means[0])
    return world, system, features, means[0].double(), std.double()


@pytest.mark.parametrize("members", JOINED, ids=repr)
@pytest.mark.parametrize("k", [1, 4])
def test_normal_noises_one_after_the_other_are_one_of_their_summed_variance(members, k):
    world, system, features, mean, std = joined(members)
    release = system.release(world.targets, generator=stream(0, "release"), observations=k)
    found = system.mismatch(release, features, observations=k)
    (seen,) = release.tensors
    density = stats.norm(mean, std / k**0.5).logpdf(seen.double())
    constant = math.log(2 * math.pi / k) / 2  # per value
    wanted = -(torch.from_numpy(density) + constant).flatten(1).sum(1)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-3)
    # The noise that was really drawn, over the deviation that it should have.
    assert float(((seen - mean) / std).std()) == pytest.approx(k**-0.5, rel=0.1)


@pytest.mark.parametrize("members", JOINED, ids=repr)
def test_joined_noises_that_are_rounded_are_as_likely_as_the_cell(members):
    world, system, features, mean, std = joined(members, Quantization(bits=3))
    release = system.release(world.targets[:3], generator=stream(0, "release"))
    (low,), (high,) = system.codec.interval(release.tensors)
    law = stats.norm(mean[:3], std[:3])
    inside = torch.from_numpy(law.cdf(high) - law.cdf(low))
    told = torch.where(low == high, torch.from_numpy(law.pdf(low)) * (2 * math.pi) ** 0.5, inside)
    found = system.defense.negative_log_likelihood(release.tensors, tuple(f[:3] for f in features))
    wanted = -told.log().flatten(1).sum(1)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-3)


class Blurred(Float16):
    """Loses something, and does not say between which ends a value was."""

    def interval(self, decoded):
        return None


class Blurs(NoDefense):
    """Brings that codec."""

    codec = Blurred()


@pytest.mark.parametrize(
    "members",
    [
        *((*members, Blurs()) for members in JOINED),
        (VariationalBottleneck(beta=0.01, channels=2), Blurs()),
        (DistillationBottleneck(channels=2, epochs=1, nat_price=0.01), Blurs()),
        (VariationalBottleneck(beta=0.01, channels=2), LaplaceNoise(noise_std=0.5)),
        (LocalDpGaussian(epsilon=50.0), LaplaceNoise(noise_std=0.5)),
        (Shredder(noise_std=0.5, noise_epochs=1, tensors=4), GaussianNoise(noise_std=0.5)),
    ],
    ids=repr,
)
def test_without_a_likelihood_messages_are_held_against_what_they_are_on_average(members):
    """Where the client computes means and variances, against the means; clipped, if they are."""
    world, system = deployed(*members)
    release = system.release(world.targets, generator=stream(0, "release"), observations=400)
    features = system.features(world.targets)
    assert not system.is_likelihood(release, features)
    (seen,), (expected,) = release.tensors, system.defense.expected(features)
    found = system.mismatch(release, features, observations=400)
    torch.testing.assert_close(found, (seen - expected).square().flatten(1).sum(1))
    once = system.release(world.targets, generator=stream(1, "release"))
    apart = (once.tensors[0] - expected).square().mean()
    assert float((seen - expected).square().mean()) == pytest.approx(float(apart) / 400, rel=0.2)


@pytest.mark.parametrize("per", ["element", "channel"])
def test_erased_values_lie_in_a_cell_as_often_as_it_is_likely(per):
    """``r [0 in it] + (1 - r) [gain f in it]``, a constant apart where zero is not in it."""
    rate = 0.3
    system = defense_world().deploy(Dropout(rate=rate, per=per))
    features = torch.tensor([[4.0, 4.0], [4.0, 4.0], [0.0, 4.0], [1.0, 1.0]]).view(4, 1, 1, 2)
    low = torch.tensor([[-1.0, -1.0], [5.0, 5.0], [-1.0, -1.0], [-1.0, -1.0]]).view(4, 1, 1, 2)
    high = torch.tensor([[1.0, 1.0], [6.0, 6.0], [1.0, 8.0], [3.0, 3.0]]).view(4, 1, 1, 2)
    found = system.defense.cell_surprise((low,), (high,), (features,))
    generator = stream(0, "erased")
    draws = [system.defense.protect((features,), generator=generator)[0] for _ in range(4000)]
    often = torch.stack([((low <= z) & (z <= high)).flatten(1).all(1) for z in draws]).float()
    units = 2 if per == "element" else 1
    constant = torch.tensor([0.0, units * math.log(1 - rate), 0.0, 0.0])
    wanted = constant - often.mean(0).log()
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.06)


def test_cells_that_no_survivor_reaches_are_unlikely_with_a_way_back():
    system = defense_world().deploy(Dropout(rate=0.3))
    features = torch.tensor([[[[2.0]]], [[[1.0]]]], requires_grad=True)
    cell = torch.full((2, 1, 1, 1), 5.0)
    found = system.defense.cell_surprise((cell,), (cell + 1,), (features,))
    (slope,) = torch.autograd.grad(found.sum(), features)
    assert bool((found > 100).all())
    assert found[1] > found[0]
    assert bool((slope < 0).all())


def test_erased_and_rounded_values_have_a_likelihood():
    world, system = deployed(Dropout(rate=0.3), Quantization(bits=4))
    release = system.release(world.targets, generator=stream(0, "release"))
    features = system.features(world.targets)
    assert system.is_likelihood(release, features)
    cells = system.codec.interval(release.tensors)
    found = system.mismatch(release, features)
    torch.testing.assert_close(found, system.defense.stages[0].cell_surprise(*cells, features))
    assert float(found.mean()) < float(system.mismatch(release, (features[0].roll(1, 0),)).mean())


def test_gradients_pass_a_chain_that_no_member_stops():
    assert chained(GaussianNoise(noise_std=0.5), Quantization(bits=4)).differentiable
    assert not chained(GaussianNoise(noise_std=0.5), StochasticRounding(bits=3)).differentiable


class Coarse(NoDefense):
    """Rounds, and leaves the codec to others."""

    differentiable = False

    def protect(self, features, *, generator):
        return tuple(f.round() for f in features)


@pytest.mark.parametrize("rounds", [Quantization(bits=4), StochasticRounding(bits=3), Coarse()])
@pytest.mark.parametrize(
    "trains",
    [
        NoPeek(weight=1.0),
        AdversarialTraining(weight=1.0),
        GaussianNoise(noise_std=0.5, trains="both", finetune_epochs=1),
    ],
    ids=repr,
)
def test_who_trains_the_client_is_not_put_behind_what_rounds(rounds, trains):
    with pytest.raises(
        ValueError, match=r"'late' trains the client, and gradients do not pass"
    ) as no:
        Chain(members={"few": rounds, "late": trains})
    assert str(no.value).endswith("put 'late' before 'few'")
    assert Chain(members={"late": trains, "few": rounds}).changes_client


def test_who_trains_the_server_alone_may_come_behind_what_rounds():
    assert not chained(Coarse(), NoPeek(weight=0.0), Quantization(bits=2)).changes_client


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ((), "at least one"),
        ((Quantization(bits=4), GaussianNoise(noise_std=1.0)), "only the last"),
        ((SecretRotation(),), "secret key"),
    ],
)
def test_what_cannot_follow_on_each_other_is_refused(members, complaint):
    with pytest.raises(ValueError, match=complaint):
        chained(*members)


def test_only_the_first_member_may_change_the_structure():
    with pytest.raises(ValueError, match="structure"):
        deployed(GaussianNoise(noise_std=0.5), VariationalBottleneck(beta=0.1, channels=2))


def test_chains_fit_members_of_their_own():
    shared = GaussianNoise(noise_std=0.5)
    deployed(shared)
    assert not shared.state_dict()


def test_what_is_computed_from_a_private_message_is_as_private():
    promise = chained(LocalDpGaussian(epsilon=4.0), Quantization(bits=4)).guarantee()
    assert (promise.kind, promise.epsilon) == ("local_dp", 4.0)
    kinds = chained(GaussianNoise(noise_std=0.5), Quantization(bits=4)).guarantee()
    assert kinds.kind == "empirical"
    assert "SNR" in kinds.statement
    assert "4 bits" in kinds.statement


def test_knowing_the_whole_law_helps_the_search():
    """Against taking the distance to the released cells for all there is."""

    class Deaf(Chain):
        def negative_log_likelihood(self, observed, features, *, observations=1):
            return None

    errors = []
    for kind in (Deaf, Chain):
        members = {"noise": GaussianNoise(noise_std=0.6), "bits": Quantization(bits=3)}
        world = build(linear(gaussian_matrix(12)), defense=kind(members=members), targets=200)
        codec = world.deployment.defense.codec
        parts = vars(world.deployment) | {"codec": codec}
        world = World(type(world.deployment)(**parts), world.feed, world.targets)
        prior = Gaussian(mean=GREY, precision=1 / STD**2)
        search = LikelihoodMaximization(steps=150, weights=(1.0,), prior=prior)
        off = (world.guess(search) - world.targets) / STD
        errors.append(off.square().flatten(1).mean(1).double())
    gain = errors[0] - errors[1]  # on the same images, in the same noise
    assert float(gain.mean()) > 3 * float(gain.std()) / len(gain) ** 0.5
