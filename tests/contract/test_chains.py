"""A chain of one member is that member, to everybody who deals with it."""

import pytest
import torch
from tiny_defenses import TINY, world

import defenses
from defenses.chain import Chain
from splitbench.checks.defense_messages import equal
from splitbench.checks.discovery import concrete
from splitbench.defense import Defense
from splitbench.rng import stream

CLASSES = [cls for cls in concrete(defenses, Defense) if cls is not Chain]
DEFENSES = [cls(**settings) for cls in CLASSES for settings in TINY.get(cls, [{}])]
RANDOM = [defense for defense in DEFENSES if defense.stochastic]


@pytest.mark.parametrize("defense", RANDOM, ids=repr)
def test_a_chain_of_one_is_its_member(defense: Defense) -> None:
    place = world("relu")
    alone, chain = place.fitted(defense), place.fitted(Chain(members={"it": defense}))
    features = alone.features(place.targets)
    assert equal(features, chain.features(place.targets))
    assert chain.defense.guarantee() == alone.defense.guarantee()
    assert chain.defense.differentiable == alone.defense.differentiable
    assert equal(chain.defense.place(features), alone.defense.place(features))
    assert equal(chain.defense.expected(features), alone.defense.expected(features))
    told, same = (d.defense.information(features) for d in (alone, chain))
    assert (told is None and same is None) or equal(told or (), same or ())
    for k in (1, 4):
        releases = [
            d.release(place.targets, generator=stream(k, "message"), observations=k)
            for d in (alone, chain)
        ]
        assert equal(*(release.tensors for release in releases))
        likely, found = (
            d.defense.negative_log_likelihood(releases[0].tensors, features, observations=k)
            for d in (alone, chain)
        )
        assert likely is not None
        assert found is not None
        assert torch.equal(found, likely)
