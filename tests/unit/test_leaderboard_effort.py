"""Flags for numbers that more effort would raise: a larger attack, more data, more releases."""

import dataclasses

import pytest

from splitbench.leaderboard import Evidence, boards
from tests.unit.records import SETTINGS, cells

UNDEFENDED, NOISE, NAIVE = SETTINGS[0], SETTINGS[1], SETTINGS[-1]


def made(setting=NOISE, attacks=("inverse_network",), keeps=None, **options):
    if keeps is not None:
        setting = dataclasses.replace(setting, keeps=(keeps,) * 6)
    found = cells(settings=(setting,), cuts=("relu3",), attacks=attacks, **options)
    return [Evidence(*pair) for pair in found]


def changed(evidence, **fields):
    """The same records under another id, with fields of the cell or the record replaced."""
    inside = {k: fields.pop(k) for k in ("attack", "attack_name", "codec", "threat") if k in fields}
    return [
        Evidence(
            dataclasses.replace(
                e.record,
                cell_id=f"{e.record.cell_id}-{i}-{sorted(inside.items())}-{sorted(fields)}",
                cell=dataclasses.replace(e.record.cell, **inside),
                **fields,
            ),
            e.scores,
        )
        for i, e in enumerate(evidence)
    ]


def sized(keeps, expression):
    return changed(made(keeps=keeps), attack=expression, attack_name=expression)


def flags_of(evidence):
    ((row,),) = [board.rows for board in boards(evidence, resamples=200)]
    return row.flags


SMALL = "InverseNetwork(width=48, blocks=2, steps=400, learning_rate=0.03, loss='mse')"
LARGE = "InverseNetwork(width=96, blocks=4, steps=400, learning_rate=0.01, loss='mse')"
LONGER = "InverseNetwork(width=48, blocks=2, steps=800, learning_rate=0.03, loss='mse')"
OTHER = "InverseNetwork(width=96, blocks=2, steps=400, learning_rate=0.03, loss='l1')"
SHORTER = "InverseNetwork(width=96, blocks=2, steps=200, learning_rate=0.03, loss='mse')"


@pytest.mark.parametrize("larger", [LARGE, LONGER])
def test_a_larger_or_longer_attack_that_finds_more_is_flagged(larger):
    assert "capacity_not_saturated" in flags_of([*sized(0.4, SMALL), *sized(0.5, larger)])


@pytest.mark.parametrize(
    ("smaller", "larger", "keeps"),
    [(SMALL, LARGE, 0.41), (LARGE, SMALL, 0.5), (SMALL, OTHER, 0.5), (SMALL, SHORTER, 0.5)],
    ids=["by little", "the smaller one wins", "another loss", "larger but shorter"],
)
def test_nothing_else_says_that_capacity_is_short(smaller, larger, keeps):
    evidence = [*sized(0.4, smaller), *sized(keeps, larger)]
    assert "capacity_not_saturated" not in flags_of(evidence)


def with_auxiliary(keeps, images, **fingerprints):
    found = made(keeps=keeps)
    roles = {**found[0].record.data_fingerprints, "auxiliary": f"sha{images}", **fingerprints}
    return changed(found, images={"auxiliary": images}, data_fingerprints=roles)


def flags_by_size(*evidence):
    found = boards([e for part in evidence for e in part], resamples=200)
    rows = {board.fingerprints["auxiliary"]: board.rows[0].flags for board in found}
    return {size: "data_not_saturated" in flags for size, flags in rows.items()}


def test_more_auxiliary_images_that_find_more_are_flagged_at_the_larger_size():
    flagged = flags_by_size(with_auxiliary(0.4, 1000), with_auxiliary(0.5, 2000))
    assert flagged == {"sha1000": False, "sha2000": True}


def test_boards_that_differ_in_the_number_of_auxiliary_images_say_it_and_come_in_its_order():
    parts = [*with_auxiliary(0.4, 2000), *with_auxiliary(0.5, 1000), *with_auxiliary(0.3, 500)]
    names = [board.data for board in boards(parts, resamples=200)]
    assert [name.partition(", ")[2] for name in names] == [
        "500 auxiliary images",
        "1,000 auxiliary images",
        "2,000 auxiliary images",
    ]
    (alone,) = boards(with_auxiliary(0.4, 2000), resamples=200)
    assert "auxiliary" not in alone.data


def test_the_gain_from_data_counts_per_doubling():
    flagged = flags_by_size(with_auxiliary(0.4, 100), with_auxiliary(0.5, 100 * 2**6))
    assert not any(flagged.values())


def test_boards_with_other_targets_say_nothing_about_the_auxiliary_data():
    flagged = flags_by_size(with_auxiliary(0.4, 1000, target="x"), with_auxiliary(0.5, 2000))
    assert not any(flagged.values())


def repeated(evidence):
    threat = {**evidence[0].record.cell.threat, "observations": 16}
    return changed(evidence, threat=threat)


@pytest.mark.parametrize(("keeps", "flagged"), [(0.6, True), (0.45, False)])
def test_many_releases_that_say_much_more_are_flagged_on_the_row_that_sees_one(keeps, flagged):
    (board,) = boards([*made(keeps=0.4), *repeated(made(keeps=keeps))], resamples=200)
    raised = {
        row.message.threat["observations"]: "repetition_leaks" in row.flags for row in board.rows
    }
    assert raised == {1: flagged, 16: False}


def without_the_key(evidence):
    return changed(evidence, threat={**evidence[0].record.cell.threat, "key": "secret"})


@pytest.mark.parametrize(("keeps", "flagged"), [(0.1, True), (0.35, False), (0.4, False)])
def test_a_row_that_owes_what_it_hides_to_its_key_is_flagged(keeps, flagged):
    (board,) = boards([*made(keeps=0.4), *without_the_key(made(keeps=keeps))], resamples=200)
    raised = {row.keyless: "security_by_key" in row.flags for row in board.rows}
    assert raised == {False: False, True: flagged}


def test_a_secret_key_is_not_blamed_where_adversaries_differ_in_more_or_nobody_has_the_key():
    weak = without_the_key(made(keeps=0.1))
    assert "security_by_key" not in flags_of(weak)
    found = boards([*repeated(made(keeps=0.4)), *weak], resamples=200)
    assert not any("security_by_key" in row.flags for board in found for row in board.rows)


def test_only_the_adversary_with_the_key_is_ranked():
    (board,) = boards([*made(keeps=0.4), *without_the_key(made(keeps=0.35))], resamples=200)
    assert {row.keyless: row.rank for row in board.rows} == {False: (1, 1), True: None}


def test_who_lacks_the_key_and_still_finds_more_says_that_the_other_attack_failed():
    (board,) = boards([*made(keeps=0.2), *without_the_key(made(keeps=0.4))], resamples=200)
    raised = {row.keyless: "weaker_access_wins" in row.flags for row in board.rows}
    assert raised == {False: True, True: False}


def randomised(evidence, stochastic):
    traits = {**evidence[0].record.traits, "stochastic": stochastic}
    return changed(evidence, traits=traits)


def test_a_random_defense_that_the_adversary_does_not_expect_is_flagged():
    assert "randomness_ignored" in flags_of(randomised(made(NAIVE), True))


def test_a_defense_that_is_not_random_or_is_expected_is_not():
    assert "randomness_ignored" not in flags_of(randomised(made(NAIVE), False))
    assert "randomness_ignored" not in flags_of(randomised(made(NOISE), True))
    assert "randomness_ignored" not in flags_of(repeated(randomised(made(NAIVE), True)))


def untested(*parts):
    (board,) = boards([e for part in parts for e in part], resamples=200)
    raised = {}
    for row in board.rows:
        who = row.message.threat["client"], row.message.threat["observations"], row.naive
        raised[who] = "repetition_untested" in row.flags
    return raised


def under(evidence, **threat):
    return changed(evidence, threat={**evidence[0].record.cell.threat, **threat})


def test_a_random_defense_of_which_nobody_saw_two_releases_of_a_target_is_flagged_but_ranked():
    evidence = randomised(made(NOISE), True)
    assert untested(evidence) == {("weights", 1, False): True}
    ((row,),) = [board.rows for board in boards(evidence, resamples=200)]
    assert row.rank == (1, 1)


def test_one_row_with_several_releases_answers_for_all_adversaries_of_the_same_system():
    evidence = randomised(made(NOISE), True)
    raised = untested(evidence, repeated(evidence), under(evidence, client="query"))
    assert raised == {
        ("weights", 1, False): False,
        ("weights", 16, False): False,
        ("query", 1, False): False,
    }


def test_several_releases_of_another_system_or_that_nobody_could_attack_answer_nothing():
    evidence = randomised(made(NOISE), True)
    other = changed(repeated(evidence), codec="Float16()")
    assert untested(evidence, other)["weights", 1, False]
    failed = [
        Evidence(dataclasses.replace(e.record, status="failed", error="no memory"))
        for e in repeated(evidence)
    ]
    assert untested(evidence, failed)["weights", 1, False]


def test_repetition_is_no_question_where_nothing_is_random_or_another_flag_says_it():
    assert untested(randomised(made(NOISE), False)) == {("weights", 1, False): False}
    assert untested(randomised(made(NAIVE), True)) == {("weights", 1, True): False}


@pytest.mark.parametrize("flag", ["search_failed", "payload_tells_class", "batch_dependent"])
def test_what_concerns_the_whole_row_reaches_it_from_any_attack(flag):
    evidence = made(attacks=("inverse_network", "ridge"))
    best, other = evidence
    assert flag not in flags_of(evidence)
    assert flag in flags_of([best, *changed([other], flags=(flag,))])


@pytest.mark.parametrize(
    ("failed", "flagged"), [(("ridge", "inverse_network"), True), (("ridge",), False)]
)
def test_a_row_of_nothing_but_failed_searches_is_not_ranked(failed, flagged):
    evidence = made(attacks=("inverse_network", "mean_image", "ridge"))
    parts = [
        changed([e], flags=("search_failed",)) if e.record.cell.attack_name in failed else [e]
        for e in evidence
    ]
    (board,) = boards([e for part in parts for e in part], resamples=200)
    (row,) = board.rows
    assert "search_failed" in row.flags
    assert ("only_failed_searches" in row.flags) == flagged
    assert (row.rank is None) == flagged


def test_a_row_whose_releases_depend_on_their_batch_is_not_ranked():
    evidence = changed(made(), flags=("batch_dependent",))
    ((row,),) = [board.rows for board in boards(evidence, resamples=200)]
    assert row.rank is None
    ((sound,),) = [board.rows for board in boards(made(), resamples=200)]
    assert sound.rank == (1, 1)
