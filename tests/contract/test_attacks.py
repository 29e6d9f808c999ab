"""Every attack of the package keeps every promise, and every promise can be broken."""

import inspect
from functools import partial

import pytest
from citizens_attack import Average, FeatureMatching, LeastSquares
from tiny_attacks import IDLE, OTHERS, TINY
from villains_attack import (
    VILLAINS,
    AsksAboutAllItHas,
    AsksBehindTheCounter,
    ChoosesAmongGuessesByTheTruth,
    ChoosesAmongSixByTheTruth,
    ChoosesItsIterateByTheTruth,
    CopiesTheClient,
    DrawsGlobally,
    EmptiesTheSurface,
    ExportsTheReleases,
    ForcesTheSurface,
    GoesOnOverBudget,
    GrantsItselfTheClient,
    KeepsTheReleases,
    KnowsTheTargets,
    LearnsFromTheTargets,
    ReadsTheClient,
    Underclaims,
    WantsMoreThanItSays,
)

import attacks
from splitbench.attack import Attack
from splitbench.checks.attack import ATTACK_CHECKS, check_attack
from splitbench.checks.attack_form import check_every_knob_matters
from splitbench.checks.discovery import concrete

DISCOVERED = concrete(attacks, Attack)
ATTACKS = [cls(**row) for cls in DISCOVERED for row in TINY.get(cls, [{}])]
CITIZENS = [LeastSquares(), FeatureMatching(), Average()]


def test_the_package_offers_attacks_and_floors():
    assert {attack.floor for attack in ATTACKS} == {True, False}


def as_the_package_needs(check, attack):
    """The check with the values and exemptions that the tables hold for this class."""
    if check is not check_every_knob_matters:
        return check
    cls = type(attack)
    return partial(check, others=OTHERS.get(cls, {}), exempt=IDLE.get(cls, {}))


@pytest.mark.parametrize("check", ATTACK_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: type(attack).__name__)
def test_every_attack_keeps_every_promise(attack, check):
    as_the_package_needs(check, attack)(attack)


@pytest.mark.parametrize("attack", CITIZENS, ids=repr)
def test_a_good_citizen_passes_all_checks(attack):
    check_attack(attack)


@pytest.mark.parametrize("villain", VILLAINS, ids=lambda villain: villain.__name__)
def test_a_villain_breaks_exactly_its_promise(villain):
    broken = []
    for check in ATTACK_CHECKS:
        try:
            check(villain())
        except AssertionError:
            broken.append(check)
    assert broken == [VILLAINS[villain]]


@pytest.mark.parametrize(
    ("villain", "says"),
    [
        (ReadsTheClient, "used ['client'] without saying so: add them to needs"),
        (WantsMoreThanItSays, "does not work where all that it says it needs is granted: the thr"),
        (CopiesTheClient, "went around its surface (got hold of the client, read surface._real)"),
        (
            EmptiesTheSurface,
            "went around its surface (got hold of the client, read surface.__dict__)",
        ),
        (ForcesTheSurface, "went around its surface (got hold of the client)"),
        (GrantsItselfTheClient, "client, wrote surface.threat, wrote surface.used)"),
        (KeepsTheReleases, "keeps state of its targets in KeepsTheReleases.seen.tensors[0], "),
        (ExportsTheReleases, "in ExportsTheReleases.weights, export_state()['weights']: all that"),
        (LearnsFromTheTargets, "guesses otherwise once it has seen other targets: it keeps state"),
        (AsksBehindTheCounter, "sent 197 images through the client, of which 192 were counted"),
        (GoesOnOverBudget, "went on when 11 images were beyond the query budget: ask no more"),
        (AsksAboutAllItHas, "with 60 queries: the query budget of 60 images is used up; learn"),
        (ChoosesItsIterateByTheTruth, "chooses by the truth: its guesses from the releases of oth"),
        (ChoosesAmongGuessesByTheTruth, "standard deviations better than by chance"),
        (ChoosesAmongSixByTheTruth, "does not get on with 128 targets: RuntimeError('The size of"),
        (KnowsTheTargets, "of the variance from features that say nothing: it knows the targets"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_who_cheats_is_told_so_in_one_sentence(villain, says):
    with pytest.raises(AssertionError) as failure:
        VILLAINS[villain](villain())
    assert str(failure.value).startswith(villain.__name__)
    assert says in str(failure.value)
    assert len(str(failure.value).splitlines()) == 1


def test_every_check_has_a_villain():
    assert set(VILLAINS.values()) == set(ATTACK_CHECKS)


def test_all_failures_are_reported_at_once():
    class Careless(DrawsGlobally, Underclaims):
        pass

    with pytest.raises(AssertionError) as failure:
        check_attack(Careless())
    assert "check_leaves_global_rng_alone" in str(failure.value)
    assert "check_needs_is_exact" in str(failure.value)


def test_a_crash_is_reported_as_a_failure():
    class Crashes(LeastSquares):
        def solve(self, rows, pixels):
            raise KeyError("no such thing")

    with pytest.raises(AssertionError, match="no such thing"):
        check_attack(Crashes())


def test_the_checks_leave_the_attack_as_it_is():
    attack = LeastSquares()
    check_attack(attack)
    assert vars(attack) == {"steps": 6, "ridge": 0.01}


@pytest.mark.parametrize("table", [TINY, OTHERS, IDLE], ids=["TINY", "OTHERS", "IDLE"])
def test_every_row_of_settings_belongs_to_an_attack_and_its_keywords(table):
    assert set(table) <= set(DISCOVERED)
    for cls, rows in table.items():
        for row in rows if isinstance(rows, list) else [rows]:
            assert set(row) <= set(inspect.signature(cls).parameters)
