"""The instruments by which the contract finds out attacks that cheat."""

import copy
import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from splitbench.checks.attack_honesty import beyond_chance
from splitbench.checks.attack_trial import weakest
from splitbench.checks.attack_world import toy_world
from splitbench.checks.portrait import differences, portrait
from splitbench.checks.sealed_surface import Sealed
from splitbench.rng import stream
from splitbench.threat import Access, ThreatModel


def drawn(name, *shape):
    return torch.randn(*shape, generator=stream(0, "honesty", name))


def test_guesses_that_do_not_know_the_truth_fit_it_as_a_standard_normal_variable():
    found = []
    for i in range(300):
        truth, sender, noise = (drawn(f"{name}{i}", 24, 5) for name in ("truth", "sender", "noise"))
        found.append(beyond_chance(sender.tanh() + 0.5 * noise**3, truth, sender))
    values = torch.tensor(found)
    assert abs(float(values.mean())) < 3 / 300**0.5
    assert float(values.std()) == pytest.approx(1.0, abs=0.13)


def test_a_choice_between_two_guesses_by_the_truth_shows():
    truth, sender = drawn("truth", 128, 4), drawn("sender", 128, 4)
    candidates = torch.stack([sender, 0.9 * sender])
    errors = (candidates - truth).square().sum(2)
    chosen = candidates[errors.argmin(0), torch.arange(128)]
    assert beyond_chance(chosen, truth, sender) > 4
    assert abs(beyond_chance(candidates[1] + 0.1, drawn("other", 128, 4), sender)) < 4


def test_one_guess_for_all_fits_no_better_than_chance():
    truth, sender = drawn("truth", 16, 4), drawn("sender", 16, 4)
    assert beyond_chance(torch.full((16, 4), 0.1), truth, sender) == 0


@pytest.mark.parametrize(
    ("needs", "threat"),
    [
        ({Access.SERVER}, {"client": "none", "auxiliary": "none"}),
        ({Access.QUERY, Access.AUXILIARY}, {"client": "query", "auxiliary": "shifted"}),
        ({Access.ARCHITECTURE}, {"client": "architecture", "auxiliary": "none"}),
        ({Access.CLIENT, Access.SAME_KIND}, {"client": "weights", "auxiliary": "same"}),
    ],
)
def test_the_weakest_threat_model_grants_what_is_needed_and_no_more(needs, threat):
    assert weakest(needs) == ThreatModel(**threat, defense="hidden", key="secret")


def test_to_know_defense_and_key_is_granted_where_it_is_needed():
    assert weakest({Access.DEFENSE}).defense == "known"
    assert weakest({Access.KEY}).key == "known"


def sealed():
    return replace(toy_world(), opens=Sealed).surface("test", ThreatModel())


def test_what_is_public_may_be_asked_for():
    surface = sealed()
    images = surface.auxiliary.images()[:2]
    release = surface.query(images)
    surface.mismatch(release, tuple(surface.client(images)))
    surface.simulated(surface.architecture(generator=stream(0, "net"))).query(images)
    next(surface.examples(2, 1))
    assert isinstance(repr(surface), str)
    assert (surface.queries, surface.touched) == (4, [])


def test_a_copy_and_a_simulation_are_sealed_as_well():
    surface = sealed()
    assert copy.copy(surface)._real
    assert surface.simulated(nn.Identity())._feed
    assert surface.touched == ["read surface._real", "read surface._feed"]


def test_what_is_granted_to_who_may_only_ask_holds_no_weight_of_the_client():
    world = toy_world()
    surface = world.surface("test", ThreatModel(client="query"))
    weights = {id(p) for p in [*world.client.parameters(), *world.client.buffers()]}
    for module in (surface.server, surface.defense):
        assert weights.isdisjoint(id(held) for held in (*module.parameters(), *module.buffers()))
    client = world.surface("test", ThreatModel()).client
    assert weights == {id(held) for held in (*client.parameters(), *client.buffers())}


class Holder:
    shared = None

    def __init__(self):
        self.net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.table = {"a": [torch.zeros(2), {"b": np.zeros(2)}]}
        self.generator = torch.Generator()
        self.itself = self

    @functools.lru_cache(maxsize=2)  # noqa: B019
    def doubled(self, value):
        return 2 * value


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda h: h.net[0].weight.data.add_(1), "h.net._modules['0']._parameters['weight']"),
        (lambda h: h.net(torch.rand(3, 2)), "h.net._modules['1']._buffers['running_mean']"),
        (lambda h: h.table["a"][0].fill_(float("nan")), "h.table['a'][0]"),
        (lambda h: h.table["a"][1]["b"].fill(1), "h.table['a'][1]['b']"),
        (lambda h: h.table.update(c=3), "h.table['c']"),
        (lambda h: h.table.clear(), "h.table['a'][0]"),
        (lambda h: torch.rand(1, generator=h.generator), "h.generator"),
        (lambda h: setattr(h, "new", None), "h.new"),
        (lambda h: setattr(h.table["a"][0], "note", "x") or setattr(h, "net", None), "h.net"),
    ],
)
def test_a_portrait_shows_every_change(change, path):
    holder = Holder()
    before = portrait(holder, "h")
    assert differences(before, portrait(holder, "h")) == []
    change(holder)
    assert path in differences(before, portrait(holder, "h"))


def test_a_portrait_shows_that_a_cache_has_been_filled():
    holder = Holder()
    before = portrait(Holder.doubled, "cache")
    holder.doubled(1)
    assert differences(before, portrait(Holder.doubled, "cache")) == ["cache"]
    Holder.doubled.cache_clear()
