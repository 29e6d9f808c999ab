"""Defenses one after the other: what they release, how likely it was, what is promised."""

import pytest
import torch
from scipy import stats
from worlds import GREY, STD, World, build, gaussian_matrix, linear

from attacks.likelihood_maximization import LikelihoodMaximization
from attacks.priors.gaussian import Gaussian
from defenses.chain import Chain
from defenses.distillation_bottleneck import DistillationBottleneck
from defenses.dropout import Dropout
from defenses.gaussian_noise import GaussianNoise
from defenses.laplace_noise import LaplaceNoise
from defenses.local_dp_gaussian import LocalDpGaussian
from defenses.noise_laws import gaussian_cell_surprise, laplace_cell_surprise
from defenses.quantization import Quantization
from defenses.secret_rotation import SecretRotation
from defenses.top_k import TopK
from defenses.variational_bottleneck import VariationalBottleneck
from splitbench.checks.defense_world import defense_world
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


def test_a_chain_of_one_is_its_member():
    world = defense_world()
    one, other = chained(GaussianNoise(noise_std=0.5)), GaussianNoise(noise_std=0.5)
    releases = [
        world.deploy(d).release(world.targets, generator=stream(0, "release")) for d in (one, other)
    ]
    assert torch.equal(releases[0].tensors[0], releases[1].tensors[0])


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


def test_two_random_members_have_no_likelihood_and_neither_has_what_is_not_random():
    for members in (
        (GaussianNoise(noise_std=0.5), Dropout(rate=0.3)),
        (TopK(share=0.3),),
    ):
        world, system = deployed(*members)
        release = system.release(world.targets, generator=stream(0, "release"))
        features = system.features(world.targets)
        assert not system.is_likelihood(release, features)
        assert system.mismatch(release, features).isfinite().all()


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
