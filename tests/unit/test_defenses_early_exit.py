"""Early exits: who is sure, how sure, how many that are, and what a chain makes of it."""

from functools import cache
from itertools import pairwise

import pytest
import torch

from defenses.chain import Chain
from defenses.early_exit import EarlyExit
from defenses.exit_head import (
    ExitHead,
    best_temperature,
    log_odds,
    moments,
    pooled,
    thresholds,
)
from defenses.gaussian_noise import GaussianNoise
from defenses.local_dp_gaussian import LocalDpGaussian
from splitbench.checks.defense_world import defense_world
from splitbench.operations import operations
from splitbench.release import TensorSpec
from splitbench.rng import stream
from splitbench.split import walk
from splitbench.stations import stations
from tests.unit.test_defenses_training import trained

CUT = "relu"


@cache
def fitted(**changes):
    setting = {"share": 0.4, "side": 2, "batch_size": 24, "held_out": 0.3, **changes}
    return trained(CUT).deploy(EarlyExit(**setting))


def answered(deployment, images):
    return deployment.seen(images)[1]


@pytest.mark.parametrize("share", [0.2, 0.4, 0.8, 1.0])
def test_about_the_wanted_share_of_images_stays(share):
    images = trained(CUT).train.images()
    stays = answered(fitted(share=share), images).stays
    assert float(stays.float().mean()) == pytest.approx(share, abs=0.1)


def test_a_larger_share_keeps_the_same_images_and_more():
    images = trained(CUT).train.images()
    few, many = (answered(fitted(share=share), images) for share in (0.2, 0.6))
    assert torch.equal(few.logits, many.logits)
    assert bool((few.stays <= many.stays).all())
    assert few.stays.sum() < many.stays.sum()


def test_images_that_stay_are_answered_better_than_the_device_would_answer_the_others():
    train = trained(CUT).train
    told = answered(fitted(), train.images())
    right = told.logits.argmax(1) == train.labels
    assert right[told.stays].float().mean() > right[~told.stays].float().mean() + 0.05


def test_every_image_that_stays_is_surer_than_every_one_that_is_sent():
    told = answered(fitted(), trained(CUT).train.images())
    odds = log_odds(told.logits)
    assert odds[told.stays].min() > odds[~told.stays].max()


def test_the_device_stays_as_it_is_and_the_others_are_sent_as_they_are():
    deployed, world = fitted(), trained(CUT)
    images = world.train.images()
    release, features = (
        deployed.transmit(images, generator=stream(0, "message")),
        world.features(images)[0],
    )
    assert torch.equal(release.tensors[0][release.sent], features[release.sent])
    assert not release.tensors[0][~release.sent].any()


def test_the_temperature_undoes_overconfidence():
    honest = 2 * torch.randn(8_000, 4, generator=stream(0, "logits"))
    labels = torch.multinomial(honest.softmax(1), 1, generator=stream(0, "labels"))[:, 0]
    assert float(best_temperature(3 * honest, labels)) == pytest.approx(3.0, rel=0.05)
    assert float(best_temperature(honest / 3, labels)) == pytest.approx(1 / 3, rel=0.05)


def test_sure_images_differ_in_how_sure_they_are():
    logits = torch.tensor([[100.0, 0.0], [120.0, 0.0]])
    assert logits.softmax(1)[0, 0] == logits.softmax(1)[1, 0] == 1
    assert log_odds(logits).tolist() == [100.0, 120.0]
    several = torch.randn(5, 3, generator=stream(0, "logits"))
    probability = several.double().softmax(1).max(1).values
    torch.testing.assert_close(log_odds(several), torch.logit(probability))


def test_features_of_every_kind_are_pooled_for_each_image_by_itself():
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    tokens = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    rows = pooled((maps, tokens, torch.tensor([[7.0]])), side=2)
    assert rows.tolist() == [[2.5, 4.5, 10.5, 12.5, 2.0, 3.0, 7.0]]
    assert pooled((maps,), side=9).tolist() == [maps.flatten().tolist()]


def test_a_column_that_never_moves_is_not_blown_up():
    mean, scale = moments(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    assert mean.tolist() == [2.0, 5.0]
    assert scale.tolist() == pytest.approx([1.0, 0.01 * 0.5**0.5])
    assert moments(torch.ones(3, 2))[1].tolist() == [1.0, 1.0]


def test_a_chain_decides_by_the_bare_features_and_protects_the_rest():
    world = trained(CUT)
    exit_, noise = EarlyExit(share=0.4, side=2, held_out=0.3), GaussianNoise(noise_std=0.5)
    chain = world.deploy(Chain(members={"exit": exit_, "noise": noise}))
    images = world.train.images()
    release, again = (
        chain.release(images, generator=stream(seed, "message"), observations=2) for seed in (0, 1)
    )
    assert torch.equal(release.sent, again.sent)
    assert not torch.equal(release.tensors[0], again.tensors[0])
    assert not release.tensors[0][~release.sent].any()
    surprise = chain.mismatch(release, world.features(images), observations=2)
    assert not surprise[~release.sent].any()
    assert bool((surprise[release.sent] > 0).all())


def test_only_the_first_member_of_a_chain_may_have_exits_and_no_formal_promise_survives_them():
    exit_, private = EarlyExit(share=0.4), LocalDpGaussian(epsilon=8.0)
    with pytest.raises(ValueError, match="only the first"):
        Chain(members={"private": private, "exit": exit_})
    assert Chain(members={"private": private, "exit": EarlyExit(share=0.0)}).guarantee().formal
    assert not Chain(members={"exit": exit_, "private": private}).guarantee().formal


def told_by(deployment, images):
    """What each exit says by itself, from the whole client."""
    defense, client = deployment.defense, deployment.split.client
    *early, features = walk(client, images, defense.stops)
    told = [defense.answered_early(*each) for each in zip(defense.stops, early, strict=True)]
    return [*told, defense.answered(features)]


INNER = {"after": ("mul", "stem")}


def test_the_first_exit_that_is_sure_answers():
    deployed, images = fitted(**INNER, share=0.6), trained(CUT).train.images()
    told, left, each = answered(deployed, images), deployed.left(images), told_by(deployed, images)
    assert deployed.exits == ("mul", "stem", CUT)
    assert set(left.tolist()) == {0, 1, 2, 3}
    for i, place in enumerate(left.tolist()):
        sure = [bool(one.stays[i]) for one in each]
        assert place == (sure.index(True) if any(sure) else 3)
        assert bool(told.stays[i]) is any(sure)
        assert torch.equal(told.logits[i], each[min(place, 2)].logits[i])
    assert any(one.stays[left == 0].any() for one in each[1:]), "a later one is sure of some, too"
    release = deployed.transmit(images, generator=stream(0, "message"))
    assert torch.equal(release.sent, left == 3)
    plain_features = trained(CUT).features(images)[0]
    assert torch.equal(release.tensors[0][release.sent], plain_features[release.sent])
    assert torch.equal(deployed.answer(images, release)[left < 3], told.logits[left < 3])


def test_each_exit_takes_an_equal_part_of_the_share_of_the_images_that_chose_the_thresholds():
    world = trained(CUT)
    defense = EarlyExit(share=0.5, side=2, batch_size=24, held_out=0.3, **INNER)
    deployed = world.deploy(defense)
    generator = stream(0, "defense", "fit")  # as the world fits, so the same images
    held = torch.randperm(len(world.train), generator=generator)[:72]
    left = deployed.left(world.train.images(held))
    assert torch.bincount(left, minlength=4).tolist() == [12, 12, 12, 36]


def test_a_larger_share_keeps_the_same_images_with_several_exits_and_none_leaves_later():
    images = trained(CUT).train.images()
    lefts = [fitted(**INNER, share=share).left(images) for share in (0.1, 0.3, 0.5, 0.9, 1.0)]
    for less, more in pairwise(lefts):
        assert bool((more <= less).all())
        assert bool((more < less).any())


def test_no_threshold_rises_with_the_share():
    odds = [torch.randn(11, generator=stream(k, "odds"), dtype=torch.float64) for k in range(3)]
    found = [thresholds(odds, total) for total in range(1, 12)]
    for total, least in enumerate(found, start=1):
        reach = torch.ones(11, dtype=torch.bool)
        taken = []
        for values, bound in zip(odds, least, strict=True):
            taken.append(int((reach & (values >= bound)).sum()))
            reach &= values < bound
        assert sum(taken) == total
        assert max(taken) - min(taken) <= 1
        assert taken == sorted(taken, reverse=True)
    for less, more in pairwise(found):
        assert all(a >= b for a, b in zip(less, more, strict=True))


def test_images_that_tie_leave_together_and_whoever_is_left_leaves_at_the_end():
    same = torch.zeros(4, dtype=torch.float64)
    first, second = thresholds([same, torch.arange(4.0, dtype=torch.float64)], 4)
    assert float(first) == 0
    assert float(second) == -torch.inf


@pytest.mark.parametrize("after", [(), ("stem",), ("mul", "stem")])
def test_what_stays_depends_on_no_other_image(after):
    deployed, images = fitted(after=after, share=0.5), trained(CUT).train.images()[:40]
    whole, left = answered(deployed, images), deployed.left(images)
    for i in (0, 7, 39):
        alone = answered(deployed, images[i : i + 1])
        torch.testing.assert_close(alone.logits, whole.logits[i : i + 1])
        assert int(deployed.left(images[i : i + 1])) == int(left[i])


def test_nothing_behind_the_exit_is_computed():
    """A convolution of 9 weights, 3 channels and 25 places; linear classifiers of 3 classes."""
    deployed, images = fitted(**INNER), trained(CUT).train.images()[:1]
    sides = [2 * 1 * 4 * 3, 2 * 3 * 4 * 3, 2 * 3 * 4 * 3]  # multiply-adds are 2, of a 2 x 2 grid
    convolution = 2 * 9 * 3 * 25
    wanted = [sides[0], sides[0] + convolution + sides[1], sum(sides) + convolution]

    def until(place):
        passed = stations(deployed.defense, deployed.split.client, images)
        return operations(lambda: [next(passed) for _ in range(place + 1)])

    assert [until(place) for place in range(3)] == wanted


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (["relu"], "no layer 'relu' lies before the cut; choose from sub, mul, stem"),
        (["hidden"], "no layer 'hidden' lies before the cut"),
        (["nowhere"], "no layer 'nowhere' lies before the cut"),
        (["stem", "mul"], "in the order in which they run"),
        (["stem", "stem"], "name each layer once"),
    ],
)
def test_exits_are_at_layers_before_the_cut_in_turn(after, words):
    with pytest.raises(ValueError, match=words):
        EarlyExit(share=0.3, after=after).adapt(defense_world(CUT).split)
    assert EarlyExit(share=0.0, after=after).adapt(defense_world(CUT).split)


def test_features_that_may_stop_on_the_way_are_shared_with_no_other_cut():
    assert EarlyExit(share=0.3, after=["stem"]).changes_client
    assert not EarlyExit(share=0.3).changes_client
    assert not EarlyExit(share=0.0, after=["stem"]).changes_client
    off = fitted(share=0.0, **INNER)
    release = off.transmit(trained(CUT).targets, generator=stream(0, "message"))
    assert release.sent is None
    assert off.exits == ()
    assert off.left(trained(CUT).targets) is None


def test_a_chain_stops_where_its_first_member_does():
    exit_ = EarlyExit(share=0.4, side=2, held_out=0.3, after=["stem"])
    chain = trained(CUT).deploy(
        Chain(members={"exit": exit_, "noise": GaussianNoise(noise_std=1.0)})
    )
    images = trained(CUT).train.images()
    left = chain.left(images)
    assert chain.exits == ("stem", CUT)
    assert set(left.tolist()) == {0, 1, 2}
    assert torch.equal(chain.release(images, generator=stream(0, "message")).sent, left == 2)


def test_an_untrained_exit_and_settings_out_of_range_are_refused():
    with pytest.raises(RuntimeError, match="call fit"):
        ExitHead()(torch.zeros(1, 3))
    for wrong in ({"share": -0.1}, {"share": 1.1}, {"side": 0}, {"held_out": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            EarlyExit(**{"share": 0.3, **wrong})
    world = defense_world(CUT)
    one = world.train.subset(slice(1))
    with pytest.raises(ValueError, match="leaves nothing"):
        EarlyExit(share=0.3).fit(world.split, one, generator=stream(0, "fit"))


def test_without_exits_nothing_is_announced():
    deployed = fitted(share=0.0)
    release = deployed.transmit(trained(CUT).targets, generator=stream(0, "message"))
    assert release.sent is None
    assert TensorSpec("sent", (1,)) not in deployed.visible_specs(1)
    assert TensorSpec("sent", (1,)) in fitted().visible_specs(1)
