"""Secret keys: how they act, and what an adversary without the true one may touch."""

from dataclasses import replace

import pytest
import torch
from jaxtyping import TypeCheckError

from defenses.secret_permutation import SecretPermutation
from defenses.secret_rotation import SecretRotation
from splitbench.checks.attack_world import toy_images, toy_world
from splitbench.key import KeyAction
from splitbench.pool import Pool
from splitbench.release import Release
from splitbench.rng import stream
from splitbench.shadow import Traffic
from splitbench.threat import ThreatModel

SHAPES = [(3, 2, 4, 5), (3, 7, 6), (3, 8)]
PARTS = ("channel", "position", "element")
SIZES = {
    "channel": {4: 2, 3: 6, 2: 8},
    "position": {4: 20, 3: 7, 2: 8},
    "element": {4: 40, 3: 42, 2: 8},
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("per", PARTS)
def test_units_are_found_and_put_back(per, shape):
    values = torch.randn(shape, generator=stream(0, "values"))
    action = KeyAction("rotation", per)
    units = action.unfold(values)
    assert units.shape[1] == SIZES[per][len(shape)]
    assert units.numel() == values.numel()
    assert torch.equal(action.fold(units, values), values)


def test_channels_are_mixed_alike_at_every_position():
    values = torch.randn(2, 3, 4, 4, generator=stream(0, "values"))
    units = KeyAction("rotation", "channel").unfold(values)
    assert torch.equal(units[0, 1], values[0, 1].flatten())
    units = KeyAction("permutation", "position").unfold(values)
    assert torch.equal(units[0, 5], values[0, :, 1, 1])


@pytest.mark.parametrize("draws", [2000])
def test_rotations_are_uniform_where_qr_alone_is_not(draws):
    """Of a uniform rotation every entry has mean 0 and variance 1/k, signs included."""
    defense, generator = SecretRotation(), stream(0, "haar")
    keys = torch.stack([defense.draw(3, generator=generator) for _ in range(draws)])
    assert torch.allclose(keys @ keys.mT, torch.eye(3).expand_as(keys), atol=1e-5)
    assert float(keys.mean(0).abs().max()) < 4 * (1 / 3 / draws) ** 0.5
    assert torch.allclose(keys.square().mean(0), torch.full((3, 3), 1 / 3), atol=0.03)
    assert 0.45 < float((torch.linalg.det(keys) > 0).float().mean()) < 0.55


def test_permutations_are_uniform():
    defense, generator = SecretPermutation(), stream(0, "shuffles")
    keys = [tuple(defense.draw(3, generator=generator).tolist()) for _ in range(3000)]
    assert len(set(keys)) == 6
    assert all(abs(keys.count(key) - 500) < 100 for key in set(keys))


@pytest.mark.parametrize(("cls", "per"), [(SecretRotation, "position"), (SecretPermutation, "row")])
def test_units_that_do_not_exist_are_refused(cls, per):
    with pytest.raises((ValueError, TypeCheckError), match=per):
        cls(per=per)


def test_without_a_key_nothing_is_sent():
    with pytest.raises(RuntimeError, match="call fit"):
        SecretRotation().protect((torch.zeros(1, 2),), generator=torch.Generator())


def keyed(defense=None):
    """The toy world behind a key."""
    world = toy_world()
    chosen = defense or SecretRotation()
    images = toy_images(4, "train")
    chosen.fit(world.deployment.split, images, generator=stream(0, "victim's key"))
    return replace(world, deployment=replace(world.deployment, defense=chosen.eval()))


def difference(one, other):
    return float((one.tensors[0] - other.tensors[0]).abs().max())


def test_who_knows_the_key_simulates_what_the_targets_release():
    world = keyed()
    opened = world.surface("x", ThreatModel())
    assert difference(opened.query(world.targets), world.release()) == 0
    assert opened.defense is world.deployment.defense


def test_who_lacks_the_key_simulates_under_another_in_every_way():
    world = keyed()
    opened = world.surface("x", ThreatModel(key="secret"))
    features, release = world.deployment.features(world.targets), world.release()
    asked, simulated = opened.query(world.targets), opened.simulate(features)
    assert difference(asked, simulated) == 0
    assert difference(asked, release) > 0.1
    assert not torch.equal(opened.defense.key0, world.deployment.defense.key0)
    assert difference(Release(opened.defense.restore(asked.tensors)), Release(features)) < 1e-5
    assert opened.mismatch(asked, features).max() == 0
    assert opened.mismatch(release, features).min() > 0.1  # which is under the true key


@pytest.mark.parametrize("defense", ["known", "hidden"])
def test_the_true_key_is_in_nothing_that_is_handed_out(defense):
    world = keyed()
    opened = world.surface("x", ThreatModel(key="secret", defense=defense))
    true = world.deployment.defense.key0
    assert not torch.equal(opened.server.defense.key0, true)
    inner = opened.simulated(world.client)
    assert all(not torch.equal(k, true) for k in inner.server.buffers() if k.shape == true.shape)


def test_the_key_of_an_adversary_is_the_same_on_all_its_surfaces_and_in_its_own_simulations():
    world, threat = keyed(), ThreatModel(key="secret")
    one, other = (world.surface(name, threat) for name in ("fit", "recover"))
    asked = one.query(world.targets)
    assert difference(asked, other.query(world.targets)) == 0
    assert difference(asked, one.simulated(world.client).query(world.targets)) == 0


def test_a_query_budget_buys_answers_under_the_adversarys_key():
    world = keyed()
    threat = ThreatModel(key="secret", query_budget=30)
    pool = Pool.of(world.deployment, threat, world.feed, seed=0)
    images, release = pool.validation(None)
    own = world.surface("x", ThreatModel(key="secret")).query(images)
    assert difference(release, own) == 0
    assert difference(release, Release(world.deployment.release(
        images, generator=stream(0, "m")).tensors)) > 0.1  # fmt: skip


def test_targets_other_users_and_answers_of_the_server_are_under_the_true_key():
    world = keyed()
    images = toy_images(5, "others")
    traffic = Traffic(world.deployment, images, observations=1, seed=0)
    opened = replace(world, overheard=traffic).surface("x", ThreatModel(key="secret"))
    sent = world.deployment.release(images.images(), generator=stream(0, "m"))
    assert difference(opened.observed(5), sent) == 0
    release = world.release()
    assert torch.equal(opened.predict(release), world.deployment.predict(release))


def test_a_secret_key_changes_nothing_where_there_is_none():
    world = toy_world()
    secret, known = (world.surface("x", ThreatModel(key=k)) for k in ("secret", "known"))
    assert difference(secret.query(world.targets), known.query(world.targets)) == 0
    assert secret.defense is known.defense


def test_a_key_is_known_or_secret():
    with pytest.raises(ValueError, match=r"threat\.key='lost': choose from"):
        ThreatModel(key="lost")
