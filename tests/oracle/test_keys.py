"""What a secret key hides, and what it cannot: the answers are known in closed form."""

import pytest
import torch

from attacks.key_matching import Crowd, matched_order, matched_rotation, undo
from attacks.key_recovery import KeyRecovery
from attacks.likelihood_maximization import LikelihoodMaximization
from attacks.ridge import Ridge
from defenses.no_defense import NoDefense
from defenses.secret_permutation import SecretPermutation
from defenses.secret_rotation import SecretRotation
from splitbench.rng import stream
from splitbench.shadow import Traffic
from splitbench.threat import Surface, ThreatModel
from tests.oracle.worlds import PIXELS, SIDE, build, sample

KEYS = [SecretRotation(per="element"), SecretPermutation(per="element")]
UNEQUAL = torch.diag(torch.logspace(-1, 0.5, PIXELS, dtype=torch.float64))


def flat(values):
    return values.flatten(1)


def guessed(world, attack, *, users=2000, covariance=None, **threat):
    """The targets as an attack guesses them, beside other users of the same key."""
    model = ThreatModel(**threat)
    others = sample(users, "other users", covariance)
    surface = Surface(
        world.deployment,
        model,
        feed=world.feed,
        classes=2,
        image_shape=(1, SIDE, SIDE),
        seed=0,
        traffic=Traffic(world.deployment, others, observations=1, seed=0),
    )
    attack.fit(surface, generator=stream(0, "fit"))
    return world.score(attack(world.release(), surface, generator=stream(0, "recover")))


@pytest.mark.parametrize("count", [PIXELS, 3 * PIXELS])
def test_as_many_pairs_as_units_give_an_unknown_rotation_away_exactly(count):
    """O23."""
    defense = SecretRotation().double()
    defense.draw_all([PIXELS], generator=stream(0, "victim"))
    defense.double()
    images = torch.randn(count + 50, PIXELS, generator=stream(0, "pairs"), dtype=torch.float64)
    (sent,) = defense.protect((images,), generator=stream(0, "message"))
    undoing = torch.linalg.lstsq(sent[:count], images[:count]).solution
    assert float((sent[count:] @ undoing - images[count:]).abs().max()) < 1e-10
    few = torch.linalg.lstsq(sent[: count // 4], images[: count // 4], driver="gelsd").solution
    if count == PIXELS:
        assert float((sent[count:] @ few - images[count:]).abs().max()) > 0.1


@pytest.mark.parametrize("defense", KEYS, ids=repr)
@pytest.mark.parametrize("client", ["weights", "query"])
def test_who_has_pairs_under_the_key_recovers_everything(defense, client):
    """O23: a key hides nothing from who may ask a device that holds it."""
    outcome = guessed(build(flat, defense=defense, targets=500), Ridge(), client=client)
    assert outcome.error < 1e-8


@pytest.mark.parametrize("defense", KEYS, ids=repr)
def test_a_search_that_knows_the_key_ends_where_it_does_without_one(defense):
    search = LikelihoodMaximization(weights=(0.0,), steps=100)
    keyed, bare = (
        guessed(build(flat, defense=each, targets=20), search) for each in (defense, NoDefense())
    )
    assert keyed.error == pytest.approx(bare.error, rel=0.01)
    assert bare.error < 0.1


@pytest.mark.parametrize("defense", KEYS, ids=repr)
def test_a_decoder_taught_under_another_key_is_worse_than_a_blind_guess(defense):
    outcome = guessed(build(flat, defense=defense, targets=500), Ridge(), key="secret")
    assert outcome.error > 1


def test_rows_with_different_codes_are_put_in_order_without_a_mistake():
    """O24."""
    codes = torch.randn(200, 5, generator=stream(0, "codes"), dtype=torch.float64)
    shaking = torch.randn(400, 200, 5, generator=stream(0, "rows"), dtype=torch.float64)
    units, nobody = codes + 0.1 * shaking, torch.zeros(400, 0, dtype=torch.float64)
    defense = SecretPermutation(per="position")
    key = defense.draw(200, generator=stream(0, "victim"))
    seen = Crowd(defense.mix(units[:200], key), nobody[:200])
    found = matched_order(Crowd(units[200:], nobody[200:]), seen)
    assert torch.equal(key[found["order"]], torch.arange(200))
    assert torch.equal(undo(seen.units, found), units[:200])


def test_equal_crowds_give_their_rotation_away_to_rounding():
    """With the very same moments on both sides the alternation ends at the true rotation."""
    units = torch.rand(500, 6, 4, generator=stream(0, "units"), dtype=torch.float64)
    answers = units.flatten(1)[:, :3].softmax(1)
    defense = SecretRotation()
    key = defense.draw(6, generator=stream(0, "victim")).double()
    seen = Crowd(defense.mix(units, key), answers)
    found = matched_rotation(Crowd(units, answers), seen, components=6)
    assert float((undo(seen.units, found) - units).abs().max()) < 1e-5


def test_keys_shared_by_many_are_found_without_a_pair():
    """Pixels of unequal variance keep theirs in any order, and show who is who."""
    world = build(flat, defense=KEYS[1], covariance=UNEQUAL, targets=500)
    blind = float(UNEQUAL.diagonal().mean())
    alone = guessed(world, Ridge(), key="secret", covariance=UNEQUAL)
    joined = guessed(world, KeyRecovery(decoder=Ridge()), key="secret", covariance=UNEQUAL)
    assert alone.error > blind
    assert joined.error < 0.2 * blind


def test_a_rotation_of_white_pixels_cannot_be_found():
    """Their law is the same under every key: only what the server answers tells one direction."""
    world = build(flat, defense=KEYS[0])
    outcome = guessed(world, KeyRecovery(decoder=Ridge()), key="secret")
    assert outcome.respects(1 - 1 / PIXELS)
