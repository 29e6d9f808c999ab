"""The search for a secret key: on the toy world, behind a key that many users share."""

from dataclasses import replace

import pytest
import torch

from attacks.key_recovery import KeyRecovery
from attacks.mean_image import MeanImage
from attacks.ridge import Ridge
from defenses.secret_permutation import SecretPermutation
from defenses.secret_rotation import SecretRotation
from splitbench.checks.attack_trial import attempt, recover
from splitbench.checks.attack_world import TRAFFIC, Undefended, toy_images, toy_world
from splitbench.rng import stream
from splitbench.shadow import Traffic
from splitbench.threat import ThreatModel, ThreatModelError

SECRET = ThreatModel(key="secret")
DEFENSES = [
    SecretRotation(per="channel"),
    SecretPermutation(per="channel"),
    SecretPermutation(per="position"),
    SecretPermutation(per="element"),
]


def keyed(defense, *, forked=False):
    """The toy world behind a key, with other users who share it."""
    world = toy_world(forked=forked)
    images = toy_images(TRAFFIC, "traffic")
    defense.fit(world.deployment.split, images, generator=stream(0, "victim's key"))
    deployment = replace(world.deployment, defense=defense.eval())
    traffic = Traffic(deployment, images, observations=1, seed=0)
    return replace(world, deployment=deployment, overheard=traffic)


@pytest.mark.parametrize("defense", DEFENSES, ids=repr)
def test_releases_of_other_users_undo_their_key(defense):
    world = keyed(defense)
    known = world.leak(attempt(Ridge(), world).guess)
    lost = world.leak(attempt(Ridge(), world, threat=SECRET).guess)
    found = world.leak(attempt(KeyRecovery(decoder=Ridge()), world, threat=SECRET).guess)
    assert known > 0.99
    assert lost < 0.5
    assert found > 0.8


def test_every_tensor_has_a_key_of_its_own():
    world = keyed(SecretPermutation(per="channel"), forked=True)
    assert len(list(world.deployment.defense.buffers())) == 2
    found = world.leak(attempt(KeyRecovery(decoder=Ridge()), world, threat=SECRET).guess)
    assert found > 0.5


def test_with_the_key_it_is_its_decoder():
    world = keyed(SecretRotation())
    plain = attempt(Ridge(), world).guess
    assert torch.equal(attempt(KeyRecovery(decoder=Ridge()), world).guess, plain)


@pytest.mark.parametrize("defense", [DEFENSES[0], DEFENSES[2]], ids=repr)
def test_what_was_found_survives_the_store(defense):
    world = keyed(defense)
    trial = attempt(KeyRecovery(decoder=Ridge()), world, threat=SECRET)
    heir = KeyRecovery(decoder=Ridge())
    heir.import_state(trial.attack.export_state(), world.surface("fit", SECRET))
    assert torch.equal(recover(heir, world, threat=SECRET)[0], trial.guess)


@pytest.mark.parametrize(
    ("word", "value"), [("observed", 12), ("simulated", 12), ("components", 1)]
)
def test_every_keyword_matters_where_there_is_a_key(word, value):
    world = keyed(SecretRotation())
    usual = attempt(KeyRecovery(decoder=Ridge()), world, threat=SECRET).guess
    other = attempt(KeyRecovery(decoder=Ridge(), **{word: value}), world, threat=SECRET).guess
    assert not torch.equal(usual, other)


def test_one_axis_of_a_rotation_says_little_and_all_of_them_much():
    world = keyed(SecretRotation())
    leaks = [
        world.leak(attempt(KeyRecovery(decoder=Ridge(), components=c), world, threat=SECRET).guess)
        for c in (1, 4)
    ]
    assert leaks[0] < leaks[1]


def test_who_does_not_know_the_defense_cannot_match_its_key():
    with pytest.raises(ThreatModelError):
        attempt(KeyRecovery(decoder=MeanImage()), toy_world(), threat=ThreatModel(defense="hidden"))


class Unspoken(Undefended):
    """Has a key and does not say how it acts."""

    keyed = True

    def rekeyed(self, *, generator):
        del generator
        return self


def test_a_key_that_acts_in_an_unknown_way_is_refused():
    world = toy_world()
    world = replace(world, deployment=replace(world.deployment, defense=Unspoken()))
    with pytest.raises(ValueError, match="does not say how its key acts"):
        attempt(KeyRecovery(decoder=Ridge()), world, threat=SECRET)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"observed": 1}, "observed=1"),
        ({"simulated": 0}, "simulated=0"),
        ({"components": 0}, "components=0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong, text):
    with pytest.raises(ValueError, match=text):
        KeyRecovery(decoder=Ridge(), **wrong)
