"""Early exits: who is sure, how sure, how many that are, and what a chain makes of it."""

from functools import cache

import pytest
import torch

from defenses.chain import Chain
from defenses.early_exit import EarlyExit
from defenses.exit_head import ExitHead, best_temperature, log_odds, moments, pooled
from defenses.gaussian_noise import GaussianNoise
from defenses.local_dp_gaussian import LocalDpGaussian
from splitbench.checks.defense_world import defense_world
from splitbench.release import TensorSpec
from splitbench.rng import stream
from tests.unit.test_defenses_training import trained

CUT = "relu"


@cache
def fitted(**changes):
    setting = {"share": 0.4, "side": 2, "batch_size": 24, "held_out": 0.3, **changes}
    return trained(CUT).deploy(EarlyExit(**setting))


def answered(deployment, images):
    return deployment.answered(deployment.features(images))


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
