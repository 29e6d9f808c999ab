"""Every defense of the package keeps every promise, and every promise can be broken."""

import inspect
from functools import partial

import pytest
from citizens_defense import Coarse, Noise, Private
from citizens_key import VILLAINS as KEY_VILLAINS
from citizens_key import Signs
from tiny_defenses import ELSEWHERE, OTHERS, TINY, world
from villains_defense import VILLAINS as OTHER_VILLAINS
from villains_defense import AnswersAndSendsAllTheSame, CitesNothing, DrawsGlobally

import defenses
from splitbench.checks.defense import CUTS, DEFENSE_CHECKS, check_defense, checks_at
from splitbench.checks.defense_exits import check_who_stays_sends_nothing
from splitbench.checks.defense_form import check_every_knob_matters
from splitbench.checks.discovery import concrete
from splitbench.defense import Defense

DISCOVERED = concrete(defenses, Defense)
DEFENSES = [cls(**settings) for cls in DISCOVERED for settings in TINY.get(cls, [{}])]
VILLAINS = {**OTHER_VILLAINS, **KEY_VILLAINS}
PROMISES = [(cut, check) for cut in CUTS for check in checks_at(cut)]


@pytest.mark.parametrize(
    ("cut", "check"), PROMISES, ids=[f"{check.__name__}-{cut}" for cut, check in PROMISES]
)
@pytest.mark.parametrize("defense", DEFENSES, ids=repr)
def test_every_defense_keeps_every_promise(defense, cut, check):
    where = partial(world, cut)
    if check is check_every_knob_matters:
        check = partial(check, others=OTHERS.get(type(defense), {}))
        where = ELSEWHERE.get(type(defense), where)
    check(defense, where())


@pytest.mark.parametrize("citizen", [Noise(), Coarse(), Private(), Signs()], ids=repr)
def test_a_good_citizen_passes_all_checks(citizen):
    check_defense(citizen)


@pytest.mark.parametrize("villain", VILLAINS, ids=lambda villain: villain.__name__)
def test_a_villain_breaks_exactly_its_promise(villain):
    broken = []
    for check in DEFENSE_CHECKS:
        try:
            check(villain(), world("relu"))
        except AssertionError:
            broken.append(check)
    assert broken == [VILLAINS[villain]]


def test_every_check_has_a_villain():
    assert set(VILLAINS.values()) == set(DEFENSE_CHECKS)


def test_all_failures_are_reported_at_once():
    class Careless(DrawsGlobally, CitesNothing):
        pass

    with pytest.raises(AssertionError) as failure:
        check_defense(Careless())
    assert "check_leaves_global_rng_alone at 'branch'" in str(failure.value)
    assert "check_docstring at 'relu'" in str(failure.value)


def test_a_device_that_answers_and_sends_all_the_same_is_told_so():
    with pytest.raises(AssertionError, match="their features are sent all the same: set exits"):
        check_who_stays_sends_nothing(AnswersAndSendsAllTheSame(), world("relu"))


def test_a_crash_is_reported_as_a_failure():
    class Crashes(Noise):
        def protect(self, features, *, generator):
            raise KeyError("no such thing")

    with pytest.raises(AssertionError, match="no such thing"):
        check_defense(Crashes())


def test_every_row_of_settings_belongs_to_a_defense_and_its_keywords():
    assert set(TINY) <= set(DISCOVERED)
    for cls, rows in TINY.items():
        for row in rows:
            assert set(row) <= set(inspect.signature(cls).parameters)
