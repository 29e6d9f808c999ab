"""Closure of measured leakage: a network's curve falls, nothing is lowered, nothing is made up."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitbench.closure import reachable
from splitbench.leaderboard.build import build_row
from splitbench.leaderboard.evidence import Evidence, System
from splitbench.leaderboard.relations import closed
from tests.unit.records import CUTS, SETTINGS, cells

UNDEFENDED, NOISE = SETTINGS[:2]
RESAMPLES = 100

curves = st.lists(st.floats(-0.5, 0.95), min_size=len(CUTS), max_size=len(CUTS))
few = settings(max_examples=10, deadline=None)


def measured(leaks, setting=UNDEFENDED):
    """Rows and their evidence, where one attack found so much at each cut."""
    made = cells(
        settings=(dataclasses.replace(setting, keeps=tuple(leaks)),),
        attacks=("inverse_network",),
        targets=24,
    )
    systems = {f"{setting.name} {r.cell.cut}": System([Evidence(r, s)]) for r, s in made}
    return {k: build_row(s, ("", ""), None, RESAMPLES) for k, s in systems.items()}, systems


def means(rows):
    return [row.closed.mean for row in rows.values()]


@few
@given(curves)
def test_the_curve_of_a_network_falls_and_nothing_is_lowered(leaks):
    rows, systems = measured(leaks)
    wanted = [max(leaks[i:]) for i in range(len(leaks))]
    assert means(rows) == pytest.approx(leaks)
    assert means(closed(rows, systems, RESAMPLES)) == pytest.approx(wanted)


@few
@given(curves)
def test_what_is_closed_stays_as_it_is(leaks):
    rows, systems = measured(leaks)
    once = closed(rows, systems, RESAMPLES)
    again = closed(once, systems, RESAMPLES)
    assert [r.closed for r in again.values()] == [r.closed for r in once.values()]
    assert [r.flags for r in again.values()] == [r.flags for r in once.values()]


def test_a_curve_that_falls_is_not_raised():
    rows, systems = measured([0.9, 0.7, 0.5, 0.3, 0.2, 0.1])
    after = closed(rows, systems, RESAMPLES)
    assert means(after) == means(rows)
    assert not any(row.closed_by for row in after.values())


def test_an_undefended_cut_is_raised_to_every_defended_one_behind_it_and_never_the_reverse():
    plain, systems = measured([0.3] * 6)
    noisy, more = measured([0.1, 0.2, 0.6, 0.4, 0.35, 0.1], NOISE)
    after = closed({**plain, **noisy}, {**systems, **more}, RESAMPLES)
    assert means(after)[:6] == pytest.approx([0.6, 0.6, 0.6, 0.4, 0.35, 0.3])
    assert means(after)[6:] == pytest.approx([0.1, 0.2, 0.6, 0.4, 0.35, 0.1])


def test_two_messages_that_follow_from_each_other_leak_alike():
    same = dataclasses.replace(UNDEFENDED, name="same", expression="GaussianNoise(noise_std=0.0)")
    falling = [0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    first, systems = measured(falling)
    second, more = measured([leak + 0.1 for leak in falling], same)
    after = closed({**first, **second}, {**systems, **more}, RESAMPLES)
    assert means(after) == pytest.approx(2 * [leak + 0.1 for leak in falling])


def test_what_follows_is_found_step_by_step():
    assert reachable({"a": ["b"], "b": ["c"], "c": []}) == {
        "a": ("a", "b", "c"),
        "b": ("b", "c"),
        "c": ("c",),
    }


def test_messages_that_nobody_measured_are_refused():
    with pytest.raises(ValueError, match="mentions"):
        reachable({"a": ["b"]})
