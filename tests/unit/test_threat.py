"""What an adversary may touch."""

from dataclasses import replace

import pytest
import torch

from splitbench.checks.attack_world import Undefended, toy_world
from splitbench.pool import Spent
from splitbench.release import Release
from splitbench.threat import Access, Surface, ThreatModel, ThreatModelError

REACHES = {
    "auxiliary": (lambda s: s.auxiliary, {Access.AUXILIARY}),
    "validation": (lambda s: s.validation, {Access.AUXILIARY}),
    "query": (lambda s: s.query(torch.zeros(2, 1, 8, 8)), {Access.QUERY}),
    "examples": (lambda s: next(s.examples(4, 1)), {Access.AUXILIARY, Access.QUERY}),
    "client": (lambda s: s.client, {Access.CLIENT}),
    "defense": (lambda s: s.defense, {Access.DEFENSE}),
    "server": (lambda s: s.server, {Access.SERVER}),
    "observed": (lambda s: s.observed(5), {Access.SERVER}),
    "pairs": (lambda s: list(s.pairs()), {Access.AUXILIARY, Access.QUERY}),
    "architecture": (
        lambda s: s.architecture(generator=torch.Generator()),
        {Access.ARCHITECTURE},
    ),
}
GRANTS = {
    ThreatModel(): set(Access),
    ThreatModel(client="query"): set(Access) - {Access.CLIENT, Access.ARCHITECTURE},
    ThreatModel(client="architecture"): set(Access) - {Access.CLIENT, Access.QUERY},
    ThreatModel(client="none"): set(Access) - {Access.CLIENT, Access.ARCHITECTURE, Access.QUERY},
    ThreatModel(defense="hidden"): set(Access) - {Access.DEFENSE},
    ThreatModel(auxiliary="shifted"): set(Access) - {Access.SAME_KIND},
    ThreatModel(auxiliary="none"): set(Access) - {Access.AUXILIARY, Access.SAME_KIND},
    ThreatModel(key="secret"): set(Access) - {Access.KEY},
    ThreatModel(client="none", defense="hidden", auxiliary="none", key="secret"): {Access.SERVER},
}


def surface(**threat):
    return toy_world().surface("test", ThreatModel(**threat))


@pytest.mark.parametrize("threat", GRANTS, ids=repr)
def test_a_threat_model_grants_what_its_words_say(threat):
    assert threat.grants() == GRANTS[threat]


@pytest.mark.parametrize("threat", GRANTS, ids=repr)
@pytest.mark.parametrize("name", REACHES)
def test_what_is_granted_is_remembered_and_all_else_is_refused(threat, name):
    opened = toy_world().surface("test", threat)
    reach, asked = REACHES[name]
    if asked <= GRANTS[threat]:
        reach(opened)
        assert opened.used == asked
    else:
        with pytest.raises(ThreatModelError):
            reach(opened)
        assert opened.used <= GRANTS[threat]


def test_a_refusal_names_what_was_asked_and_what_is_granted():
    with pytest.raises(ThreatModelError) as refusal:
        surface(client="query", auxiliary="none").client  # noqa: B018
    assert str(refusal.value) == (
        "the threat model does not grant 'client'; it grants defense, key, query, server"
    )


def test_a_surface_without_data_says_so():
    world = toy_world()
    bare = Surface(
        world.deployment, ThreatModel(), feed=None, classes=4, image_shape=(1, 8, 8), seed=0
    )
    with pytest.raises(ThreatModelError, match="opened without auxiliary data"):
        bare.auxiliary  # noqa: B018


def test_a_fresh_surface_has_used_nothing():
    opened = surface()
    assert opened.used == frozenset()
    assert opened.queries == 0


def test_queries_are_counted_in_images():
    opened = surface()
    opened.query(torch.zeros(3, 1, 8, 8))
    list(opened.examples(10, 2))
    assert opened.queries == 23


def test_the_budget_may_be_spent_to_the_last_image_but_not_beyond():
    opened = surface(query_budget=5)
    opened.query(torch.zeros(5, 1, 8, 8))
    with pytest.raises(ThreatModelError, match="the query budget of 5 images is used up"):
        opened.query(torch.zeros(1, 1, 8, 8))


def test_what_was_spent_through_another_surface_counts_against_the_budget():
    world, threat = toy_world(), ThreatModel(query_budget=5)
    opened = world.surface("x", threat, spent=Spent(queries=4))
    opened.query(torch.zeros(1, 1, 8, 8))
    assert opened.queries == 1
    with pytest.raises(ThreatModelError, match="budget of 5"):
        opened.query(torch.zeros(1, 1, 8, 8))


def test_a_refused_query_is_not_sent_and_not_counted():
    world = toy_world()
    opened = world.surface("x", ThreatModel(query_budget=5))
    with pytest.raises(ThreatModelError):
        opened.query(torch.zeros(6, 1, 8, 8))
    assert (opened.queries, opened.refused, opened.remaining, world.client.images) == (0, 6, 5, 0)
    opened.query(torch.zeros(5, 1, 8, 8))
    assert (opened.queries, opened.remaining, world.client.images) == (5, 0, 5)


def test_a_budget_of_nothing_allows_no_query():
    with pytest.raises(ThreatModelError, match="budget of 0"):
        surface(query_budget=0).query(torch.zeros(1, 1, 8, 8))


def test_the_server_is_the_adversarys_own():
    world = toy_world()
    opened = world.surface("x", ThreatModel(client="none", defense="hidden", auxiliary="none"))
    release = world.release()
    assert torch.equal(opened.predict(release), world.deployment.predict(release))
    assert opened.used == {Access.SERVER}


def test_mismatch_is_zero_only_at_what_was_released():
    world = toy_world()
    opened = world.surface("x", ThreatModel())
    release = world.release()
    assert opened.mismatch(release, release.tensors).max() == 0
    elsewhere = tuple(t + 0.5 for t in release.tensors)
    assert opened.mismatch(release, elsewhere).tolist() == pytest.approx([64 * 0.25] * 6)


def test_a_distance_is_not_taken_for_a_likelihood():
    world = toy_world()
    release = world.release()
    opened = world.surface("x", ThreatModel())
    assert not opened.is_likelihood(release, release.tensors)


def test_queries_have_the_form_of_the_release():
    world = toy_world(forked=True)
    asked = world.surface("x", ThreatModel()).query(world.targets)
    assert isinstance(asked, Release)
    for got, sent in zip(asked.tensors, world.release().tensors, strict=True):
        assert torch.equal(got, sent)


class Shift(Undefended):
    """Adds one and a little noise to every feature."""

    stochastic = True

    def protect(self, features, *, generator):
        return tuple(t + 1 + 0.1 * torch.randn(t.shape, generator=generator) for t in features)

    def negative_log_likelihood(self, observed, features, *, observations=1):
        error = (observed[0] - features[0] - 1).flatten(1)
        return observations * error.square().sum(1) / (2 * 0.1**2)


def shifted(**threat):
    """A world whose features are shifted by one, and a surface of it."""
    world = toy_world()
    world = replace(world, deployment=replace(world.deployment, defense=Shift()))
    return world, world.surface("x", ThreatModel(**threat))


def test_an_adaptive_adversary_simulates_the_defended_release():
    world, opened = shifted()
    features = world.deployment.features(world.targets)[0]
    assert float((opened.query(world.targets).tensors[0] - features).mean()) == pytest.approx(
        1, abs=0.05
    )


def test_a_naive_adversary_simulates_the_undefended_release():
    world, opened = shifted(defense="hidden")
    features = world.deployment.features(world.targets)
    assert torch.equal(opened.query(world.targets).tensors[0], features[0])
    assert not opened.mismatch(Release(features), features).any()


def test_a_naive_adversary_has_the_client_of_before_the_defense_trained_it():
    class Doubled(torch.nn.Module):
        def forward(self, images):
            return tuple(2 * features for features in bare(images))

    world = toy_world()
    bare, split = world.deployment.split.client, world.deployment.split
    trained = replace(split, client=Doubled())
    world = replace(world, deployment=replace(world.deployment, split=trained, original=bare))
    features = bare(world.targets)[0]
    for defense, factor in (("known", 2), ("hidden", 1)):
        opened = world.surface("x", ThreatModel(defense=defense))
        for seen in (opened.query(world.targets).tensors, opened.client(world.targets)):
            assert torch.equal(seen[0], factor * features)
    own = opened.simulated(Doubled()).query(world.targets)
    assert torch.equal(own.tensors[0], 2 * features), "what it simulates is a client of its own"


def test_only_an_adversary_that_knows_the_defense_has_its_likelihood():
    for defense, known in (("known", True), ("hidden", False)):
        world, opened = shifted(defense=defense)
        features = world.deployment.features(world.targets)
        assert opened.is_likelihood(Release(features), features) == known


def test_every_query_draws_fresh_randomness():
    world, opened = shifted()
    first, second = (opened.query(world.targets).tensors[0] for _ in range(2))
    assert not torch.equal(first, second)


def test_surfaces_of_equal_purpose_draw_the_same_and_of_others_do_not():
    world, opened = shifted()
    first = opened.query(world.targets).tensors[0]
    again = world.surface("x", ThreatModel()).query(world.targets).tensors[0]
    other = world.surface("y", ThreatModel()).query(world.targets).tensors[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_an_adversary_that_sees_many_releases_simulates_their_mean():
    world, opened = shifted(observations=64)
    features = world.deployment.features(world.targets)[0]
    noise = opened.query(world.targets).tensors[0] - features - 1
    assert float(noise.std()) == pytest.approx(0.1 / 8, rel=0.15)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"client": "root"}, "threat.client='root': choose from"),
        ({"defense": None}, "threat.defense=None: choose from"),
        ({"auxiliary": "all"}, "threat.auxiliary='all': choose from"),
        ({"observations": 0}, "threat.observations=0: must be at least 1"),
        ({"query_budget": -1}, "threat.query_budget=-1: must not be negative"),
    ],
)
def test_a_threat_model_that_makes_no_sense_is_refused(wrong, text):
    with pytest.raises(ValueError, match=text.replace("'", ".")):
        ThreatModel(**wrong)
