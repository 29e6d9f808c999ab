"""What rows of adversaries that know more and less say about each other."""

import dataclasses

import numpy as np
import pytest

from experiments.page.markdown import to_markdown
from experiments.page.render import render
from experiments.page.words import between, rate
from splitbench.leaderboard import Evidence, boards
from splitbench.link import Link
from tests.unit.records import of_threat
from tests.unit.test_leaderboard import (
    MORE_NOISE,
    NAIVE,
    NOISE,
    RESAMPLES,
    changed,
    made,
    only_board,
    row_of,
)

LINK = Link(name="wifi", up_mbps=45.74, down_mbps=85.73, rtt_ms=21.0)


@pytest.fixture(scope="module")
def board():
    return only_board(made())


def test_a_naive_row_says_what_knowing_the_defense_adds(board):
    naive, adaptive = row_of(board, "relu3", NAIVE), row_of(board, "relu3", NOISE)
    assert naive.adaptive_gain.mean == pytest.approx(adaptive.raw.mean - naive.raw.mean)
    assert naive.adaptive_gain.low > 0
    assert not {"adaptive_not_better", "weaker_access_wins"} & {*adaptive.flags}


def test_an_adaptive_attack_that_loses_to_the_naive_one_is_flagged_and_not_ranked():
    better = dataclasses.replace(NAIVE, keeps=(0.95,) * 6)
    board = only_board(made((NOISE, better), ("relu3",)))
    row = row_of(board, "relu3", NOISE)
    assert {"adaptive_not_better", "weaker_access_wins"} <= {*row.flags}
    assert row.rank is None
    assert row.closed.mean == pytest.approx(0.95)


def test_an_adaptive_attack_that_only_ties_with_the_naive_one_is_flagged_but_ranked():
    equal = dataclasses.replace(NAIVE, keeps=(0.401,) * 6)
    board = only_board(made((NOISE, equal), ("relu3",)))
    row = row_of(board, "relu3", NOISE)
    assert "adaptive_not_better" in row.flags
    assert "weaker_access_wins" not in row.flags
    assert row.rank == (1, 1)


@pytest.mark.parametrize(
    ("client", "raised"), [("weights", True), ("query", True), ("architecture", False)]
)
def test_more_noise_raises_the_row_of_who_learns_the_client_from_the_client(client, raised):
    odd = dataclasses.replace(MORE_NOISE, keeps=(0.9,) * 6)
    board = only_board(of_threat(made((NOISE, odd), ("relu3",)), client=client))
    row = row_of(board, "relu3", NOISE, client=client)
    assert ("closure_raised" in row.flags) == raised
    assert row.closed.mean == pytest.approx(0.9 if raised else 0.4)


def test_a_naive_adversary_whom_an_undefended_device_answers_does_not_know_less():
    better = dataclasses.replace(NAIVE, keeps=(0.95,) * 6)
    board = only_board(of_threat(made((NOISE, better), ("relu3",)), client="query"))
    row = row_of(board, "relu3", NOISE, client="query")
    assert "weaker_access_wins" not in row.flags
    assert row.closed.mean == pytest.approx(0.4)
    assert row_of(board, "relu3", better, client="query").adaptive_gain.mean < 0


@pytest.mark.parametrize(("best", "flagged"), [("inverse_network", True), ("ridge", False)])
def test_a_row_whose_best_attack_follows_no_gradients_is_not_ranked(best, flagged):
    evidence = made((NOISE,), ("relu3",), targets=1000)
    evidence = changed(evidence, lambda c: c.attack_name == best, flags=("gradients_mislead",))
    (row,) = only_board(evidence).rows
    assert ("gradients_mislead" in row.flags) == flagged
    assert (row.rank is None) == flagged


def test_a_search_without_gradients_that_is_best_by_chance_is_no_reason_to_distrust_them():
    evidence = made((NOISE,), ("relu3",))
    (best,) = [e.scores for e in evidence if e.record.cell.attack_name == "inverse_network"]
    closely = best.metrics["mse"] + np.linspace(-1, 1.02, len(best.metrics["mse"])) * 1e-3
    twin = dataclasses.replace(best, metrics={**best.metrics, "mse": closely})
    evidence = [
        Evidence(e.record, twin) if e.record.cell.attack_name == "ridge" else e for e in evidence
    ]
    evidence = changed(
        evidence, lambda c: c.attack_name == "inverse_network", flags=("gradients_mislead",)
    )
    (row,) = only_board(evidence).rows
    assert row.best == "inverse_network"
    assert "gradients_mislead" not in row.flags


def test_an_adversary_leads_those_that_know_less_but_not_over_another_between_them():
    evidence = made((NOISE,), ("relu3",))
    queries = of_threat(evidence, client="query")
    few = of_threat(evidence, client="query", query_budget=500)
    rows = only_board([*evidence, *queries, *few]).rows
    over = {
        (row.message.threat["client"], row.message.threat["query_budget"]): [
            (lead.over["client"], lead.over["query_budget"], lead.gain.mean) for lead in row.leads
        ]
        for row in rows
    }
    assert over == {
        ("weights", None): [("query", None, 0)],
        ("query", None): [("query", 500, 0)],
        ("query", 500): [],
    }


def test_the_page_and_the_table_say_who_leads_whom_by_how_much():
    found = boards(made((NOISE, NAIVE), ("relu3",)), resamples=RESAMPLES)
    (naive,) = [row for row in found[0].rows if row.naive]
    gain = naive.adaptive_gain
    shown = f"{rate(gain.mean, 3)} ({between(gain, 3)})"
    assert f"| the headline adversary | naive | {shown} |" in to_markdown(found)
    page = render(found, link=LINK, commands={})
    assert "Who knows more" in page
    assert rate(gain.mean, 3) in page.partition("Who knows more")[2]


def test_a_lone_adversary_is_compared_with_nobody():
    found = boards(made((NOISE,), ("relu3",)), resamples=RESAMPLES)
    assert "Who knows more" not in render(found, link=LINK, commands={})
    assert "knows more than" not in to_markdown(found)
