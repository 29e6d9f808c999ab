"""Kinds of defenses at equal accuracy."""

import dataclasses
import math

import pytest

from experiments.page.markdown import to_markdown
from experiments.page.operating import HEADINGS, operating, tuning
from experiments.page.render import render
from splitbench.leaderboard import DROPS, UNRANKED, families
from tests.unit.test_leaderboard import NAIVE, NOISE, UNDEFENDED, made, only_board, row_of

STRONG = "noise_std=2.0"


@pytest.fixture(scope="module")
def board():
    return only_board(made())


def family(board, cut, kind="gaussian noise"):
    (found,) = [one for one in families(board) if (one.cut, one.kind) == (cut, kind)]
    return found


def test_a_kind_is_shown_by_the_setting_that_leaks_least_at_that_price(board):
    for one in families(board):
        rows = [r for r in board.rows if (r.cut, r.kind) == (one.cut, one.kind) and not r.naive]
        for drop, chosen in one.at.items():
            fair = [r for r in rows if not UNRANKED & {*r.flags}]
            cheap = [r.closed.mean for r in fair if r.accuracy_drop.mean <= drop]
            assert (chosen is None) == (not cheap)
            assert chosen is None or chosen.closed.mean == min(cheap)


def test_at_each_cut_the_best_kind_comes_first_and_what_is_never_cheap_last(board):
    leaks = {}
    for one in families(board):
        row = one.at[max(DROPS)]
        leaks.setdefault(one.cut, []).append(row.closed.mean if row else math.inf)
    assert list(leaks) == list(board.cuts)
    assert all(found == sorted(found) for found in leaks.values())
    assert any(len(found) > 1 for found in leaks.values())


def test_a_larger_loss_buys_no_less(board):
    for one in families(board):
        leaks = [row.closed.mean for row in one.at.values() if row]
        assert leaks == sorted(leaks, reverse=True)


def test_the_strong_setting_is_out_of_reach_where_it_costs_too_much(board):
    weak = row_of(board, "relu3", NOISE)
    strong = next(r for r in board.rows if r.cut == "relu3" and r.setting == STRONG)
    assert strong.accuracy_drop.mean > DROPS[-1]
    found = family(board, "relu3")
    assert found.settings == 2
    assert found.at[DROPS[-1]].setting == weak.setting


def test_naive_and_undefended_rows_and_weaker_adversaries_are_no_operating_points(board):
    kinds = {one.kind for one in families(board)}
    assert "undefended" not in kinds
    assert not any(row and row.naive for one in families(board) for row in one.at.values())


def test_rows_in_doubt_are_left_out():
    better = dataclasses.replace(NAIVE, keeps=(0.95,) * 6)
    doubted = only_board(made((NOISE, better), ("relu3",)))
    assert set(family(doubted, "relu3").at.values()) == {None}


def test_the_page_and_the_table_show_every_price(board):
    page, table = render([board]), to_markdown([board])
    assert "At equal accuracy" in page
    for heading in HEADINGS:
        assert heading in page
        assert f"| {heading} |" in table
    line = next(line for line in operating(board) if line.cut == "relu3")
    assert line.points[-1].setting in table


def test_unequal_budgets_for_tuning_are_said(board):
    lines = operating(board)
    assert {line.settings for line in lines} == {1, 2}
    assert "unequally, at 1 to 2 settings" in tuning(lines)
    assert tuning(lines) in to_markdown([board])
    assert tuning(lines) in render([board])
    alike = [line for line in lines if line.settings == 2]
    assert tuning(alike) == "Every defense had the same budget for tuning: 2 settings."


def test_a_secret_key_has_no_budget_for_tuning():
    traits = {"changes_client": False, "keyed": True}
    expression = "SecretRotation(per='channel')"
    key = dataclasses.replace(NOISE, name="secret_rotation", expression=expression, traits=traits)
    noises = (NOISE, dataclasses.replace(NOISE, expression="GaussianNoise(noise_std=0.7)"))
    for kept, told in (
        ((key, *noises), "but secret keys, which have no knob, had the same budget for tuning: 2"),
        ((key,), "Every defense had the same budget for tuning: one setting."),
    ):
        assert told in tuning(operating(only_board(made((UNDEFENDED, *kept), ("relu3",)))))


def test_where_nothing_is_defended_nothing_is_said():
    plain = only_board([e for e in made() if e.record.cell.defense_name == "none"])
    assert operating(plain) == []
    assert "At equal accuracy" not in render([plain])
    assert "At equal accuracy" not in to_markdown([plain])


def test_a_row_without_leakage_is_no_point(board):
    bare = dataclasses.replace(
        board, rows=tuple(dataclasses.replace(row, closed=None) for row in board.rows)
    )
    assert all(row is None for one in families(bare) for row in one.at.values())
