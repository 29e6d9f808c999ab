"""The search, its priors, the loss and the settings of the attacks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from attacks.inverse_network import InverseNetwork
from attacks.likelihood_maximization import LikelihoodMaximization, Reading
from attacks.perceptual_loss import perceptual_loss
from attacks.priors.gaussian import Gaussian
from attacks.priors.joint import Joint
from attacks.priors.patch_borders import PatchBorders
from attacks.priors.total_variation import TotalVariation
from attacks.ridge import Ridge
from splitbench.checks.attack_world import toy_world
from splitbench.codecs.float32 import Float32
from splitbench.codecs.uniform import Uniform
from splitbench.rng import stream
from splitbench.threat import Access, ThreatModel, ThreatModelError

NO_DATA = ThreatModel(auxiliary="none")


def attacked(attack, world, threat=None, index=slice(None)):
    threat = threat or ThreatModel()
    attack.fit(world.surface("fit", threat), generator=stream(0, "fit"))
    release = world.release()[index]
    return attack(release, world.surface("recover", threat), generator=stream(0, "recover"))


def test_total_variation_adds_up_the_steps_of_an_image():
    images = torch.zeros(2, 1, 3, 3)
    images[1, 0, 0, 0] = 1.0
    flat, corner = TotalVariation(weight=2.0, beta=2.0)(images)
    assert float(flat) == pytest.approx(0, abs=1e-3)
    assert float(corner) == pytest.approx(2 * 2, abs=1e-3)


def test_a_gaussian_prior_is_half_the_weighted_squared_distance():
    images = torch.tensor([0.5, 0.7]).view(2, 1, 1, 1)
    torch.testing.assert_close(Gaussian(precision=10.0)(images), torch.tensor([0.0, 0.2]))


def test_the_prior_of_patches_sees_steps_over_borders_only():
    images = torch.zeros(4, 2, 6, 6)
    images[1, :, :, 3:] = 0.5  # within the second column of patches
    images[2, :, :, 2:] = 0.5  # between the first and the second
    images[3, 0, 4:, 4:] = 1.0  # the last patch of one channel
    found = PatchBorders(patch=2, weight=3.0)(images)
    torch.testing.assert_close(found, torch.tensor([0, 0, 3 * 0.25 * 6 * 2, 3 * (2.0 + 2.0)]))
    assert not PatchBorders(patch=6)(images).any()
    assert float(PatchBorders(patch=4)(images[3:])) == 5 * 4  # the rest is a patch, too


def test_the_prior_of_patches_minds_seams_more_than_total_variation_does():
    smooth = torch.linspace(0.2, 0.8, 8).expand(1, 1, 8, 8).contiguous()
    seams = smooth.clone()
    seams[..., 4:] += 0.1  # a patch too bright
    ahead = {
        type(prior): float(prior(seams) / prior(smooth))
        for prior in (PatchBorders(patch=4), TotalVariation(beta=1.0))
    }
    assert ahead[PatchBorders] > 4
    assert ahead[TotalVariation] < 1.3


def test_beliefs_held_at_once_add_up():
    images = torch.rand(3, 1, 4, 4, generator=stream(0, "images"))
    members = PatchBorders(patch=2), Gaussian()
    torch.testing.assert_close(
        Joint(members=members)(images), members[0](images) + members[1](images)
    )
    with pytest.raises(ValueError, match="at least one"):
        Joint(members=())


@pytest.mark.parametrize(
    "prior",
    [
        TotalVariation(weight=2.0),
        Gaussian(mean=0.4, precision=3.0),
        PatchBorders(patch=4),
        Joint(members=(PatchBorders(patch=4), TotalVariation())),
    ],
    ids=lambda prior: type(prior).__name__,
)
def test_a_prior_is_what_its_repr_says(prior):
    assert repr(eval(repr(prior))) == repr(prior)


def test_the_perceptual_loss_has_the_structural_similarity_of_scikit_image():
    generator = stream(0, "images")
    a, b = torch.rand(2, 16, 16, generator=generator)
    wanted = structural_similarity(
        a.double().numpy(),
        b.double().numpy(),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        full=True,
    )[1][5:-5, 5:-5]
    loss = perceptual_loss(a[None, None], b[None, None])
    similarity = 1 - 2 * (float(loss) - float((a - b).abs().mean()))
    assert similarity == pytest.approx(np.mean(wanted), abs=1e-5)


def test_without_data_a_search_with_one_weight_still_works():
    attack = LikelihoodMaximization(steps=100, weights=(1.0,), prior=TotalVariation(weight=0.1))
    world = toy_world()
    assert world.leak(attacked(attack, world, NO_DATA)) > 0.9
    assert attack.needs == {Access.CLIENT, Access.QUERY}


@pytest.mark.parametrize(
    "attack",
    [LikelihoodMaximization(weights=(1.0, 2.0)), LikelihoodMaximization(warm_start=Ridge())],
    ids=["choice", "warm start"],
)
def test_what_needs_data_is_refused_without(attack):
    assert Access.AUXILIARY in attack.needs
    with pytest.raises(ThreatModelError):
        attacked(attack, toy_world(), NO_DATA)


def test_a_heavy_prior_leaves_the_guess_of_the_warm_start_as_it_is():
    world = toy_world()
    start = attacked(Ridge(), world)
    heavy = LikelihoodMaximization(steps=20, weights=(1e12,), warm_start=Ridge())
    torch.testing.assert_close(attacked(heavy, world), start, atol=1e-5, rtol=0)


def test_a_warm_start_is_refined_where_the_channel_tells_all():
    class Half(Ridge):
        def recover(self, release, surface, *, generator):
            return 0.5 * super().recover(release, surface, generator=generator) + 0.25

    world = toy_world()
    refined = attacked(LikelihoodMaximization(steps=200, warm_start=Half()), world)
    assert world.leak(attacked(Half(), world)) < 0.8
    assert world.leak(refined) > 0.99


def test_a_search_that_makes_held_out_images_worse_is_given_up():
    black = Gaussian(mean=0.0, precision=1e6)  # a belief that is wrong whatever its weight
    world = toy_world()
    misled = LikelihoodMaximization(steps=20, weights=(1.0, 10.0), prior=black, warm_start=Ridge())
    assert torch.equal(attacked(misled, world), attacked(Ridge(), world))
    alone = LikelihoodMaximization(steps=20, weights=(1.0,), prior=black, warm_start=Ridge())
    assert world.leak(attacked(alone, world)) < world.leak(attacked(misled, world))


def sent_by(codec):
    world = toy_world()
    return replace(world, deployment=replace(world.deployment, codec=codec))


def read(bits):
    """The search that may choose how it reads a quantiser, and one that keeps to the cells."""
    world, prior = sent_by(Uniform(bits=bits)), TotalVariation(weight=3.0)
    free = LikelihoodMaximization(steps=200, weights=(1.0, 10.0), prior=prior)
    leak = world.leak(attacked(free, world))
    state = free.export_state()
    cells = LikelihoodMaximization(steps=200, weights=(float(state["weight"]),), prior=prior)
    bound = world.leak(attacked(cells, world))
    assert int(cells.export_state()["reading"]) == Reading.CELLS
    return Reading(int(state["reading"])), leak, bound


def test_between_fine_levels_the_search_learns_to_stay_in_the_middle_of_the_cell():
    reading, leak, bound = read(bits=4)
    assert reading in (Reading.CENTRES, Reading.EXACT)
    assert leak > bound + 0.01


def test_between_coarse_levels_the_search_keeps_to_the_whole_cell():
    reading, leak, bound = read(bits=2)
    assert reading == Reading.CELLS
    assert leak == bound


def test_where_nothing_is_rounded_there_is_one_reading_only():
    attack = LikelihoodMaximization(steps=5, weights=(1.0, 100.0))
    attacked(attack, sent_by(Float32()))
    assert int(attack.export_state()["reading"]) == Reading.CELLS


def weighed(refinements):
    """What a search finds of coarse values when it may weigh its prior, and the weight it kept."""
    world, prior = sent_by(Uniform(bits=2)), TotalVariation(weight=3.0)
    choices = {"weights": (1e-6, 1e6), "refinements": refinements}
    attack = LikelihoodMaximization(steps=50, prior=prior, **choices)
    return world.leak(attacked(attack, world)), float(attack.export_state()["weight"])


def test_weights_between_the_best_one_and_its_neighbors_are_tried():
    coarse, ends = weighed(refinements=0)
    middle, mean = weighed(refinements=1)
    fine, quarter = weighed(refinements=2)
    assert ends in (pytest.approx(1e-6), pytest.approx(1e6))
    assert mean == pytest.approx(1.0)
    assert quarter in (pytest.approx(1e-3), pytest.approx(1e3))
    assert coarse < min(middle, fine)


def test_a_fitted_part_takes_the_place_of_the_warm_start():
    attack = LikelihoodMaximization(warm_start=Ridge())
    part = Ridge()
    other = attack.with_parts((part,))
    assert other.parts() == (part,)
    assert attack.parts() != (part,)
    assert repr(other) == repr(attack)


def test_a_longer_search_explains_the_release_no_worse():
    world = toy_world()
    errors = [
        1 - world.leak(attacked(LikelihoodMaximization(steps=s, weights=(0.0,)), world))
        for s in (1, 10, 100)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_the_search_does_not_see_how_many_targets_there_are():
    attack = LikelihoodMaximization(steps=20)
    world = toy_world()
    whole = attacked(attack, world)
    torch.testing.assert_close(
        attacked(attack, world, index=slice(1, 3)), whole[1:3], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (InverseNetwork, {"width": 12}),
        (InverseNetwork, {"heads": 3}),
        (InverseNetwork, {"blocks": 0}),
        (InverseNetwork, {"learning_rate": 0.0}),
        (LikelihoodMaximization, {"steps": 0}),
        (LikelihoodMaximization, {"learning_rate": -1.0}),
        (LikelihoodMaximization, {"weights": ()}),
        (LikelihoodMaximization, {"weights": (-1.0,)}),
        (LikelihoodMaximization, {"refinements": -1}),
        (LikelihoodMaximization, {"restart": True}),
        (LikelihoodMaximization, {"max_targets": 0}),
        (TotalVariation, {"weight": -1.0}),
        (TotalVariation, {"beta": 0.0}),
        (Gaussian, {"precision": 0.0}),
    ],
)
def test_impossible_settings_are_refused_by_name(kind, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kind(**wrong)
