"""Boards whose adversaries or targets come from other images than usual."""

import dataclasses
from math import sqrt

import pytest

from experiments.page.render import render
from experiments.page.words import adversary, means
from splitbench.leaderboard import Evidence, boards
from splitbench.leaderboard.training_images import difference
from splitbench.record import Interval
from tests.unit.records import SETTINGS, cells, of_threat

UNDEFENDED = SETTINGS[0]


def made(keeps, *, role="target", **roles):
    """Two attacks on the undefended model at one cut; `roles` names fingerprints to change."""
    setting = dataclasses.replace(UNDEFENDED, keeps=(keeps,) * 6)
    found = cells(settings=(setting,), cuts=("relu3",), attacks=("mean_image", "inverse_network"))
    return [
        Evidence(
            dataclasses.replace(
                record,
                cell_id=f"{record.cell_id}{role}{keeps}{sorted(roles)}",
                cell=dataclasses.replace(record.cell, target_role=role),
                data_fingerprints={**record.data_fingerprints, **roles},
            ),
            scores,
        )
        for record, scores in found
    ]


SHIFTED = {"auxiliary": "shifted", "auxiliary_data": "digits"}


@pytest.mark.parametrize("threat", [SHIFTED, {"auxiliary": "none"}])
def test_an_adversary_with_other_images_joins_the_board_of_its_targets(threat):
    strangers = of_threat(made(0.3, auxiliary="of digits"), **threat)
    (board,) = boards([*made(0.5), *strangers], resamples=200)
    assert [row.message.threat["auxiliary"] for row in board.rows].count("same") == 1
    assert len(board.rows) == 2
    assert board.fingerprints["auxiliary"] != "of digits"


def test_other_targets_make_another_board_whatever_the_adversary_has():
    strangers = of_threat(made(0.3, auxiliary="of digits", target="others"), **SHIFTED)
    assert len(boards([*made(0.5), *strangers], resamples=200)) == 2


def test_images_of_the_same_kind_know_more_than_others_do():
    weak = of_threat(made(0.3, auxiliary="of digits"), **SHIFTED)
    strong = of_threat(made(0.5, auxiliary="of digits"), **SHIFTED)
    (board,) = boards([*made(0.4), *weak], resamples=200)
    assert not any("weaker_access_wins" in row.flags for row in board.rows)
    (board,) = boards([*made(0.4), *strong], resamples=200)
    (usual,) = [row for row in board.rows if row.message.threat["auxiliary"] == "same"]
    assert "weaker_access_wins" in usual.flags


def test_two_other_data_sets_are_two_rows():
    digits = of_threat(made(0.3, auxiliary="of digits"), **SHIFTED)
    faces = of_threat(made(0.2, auxiliary="of faces"), **{**SHIFTED, "auxiliary_data": "faces"})
    (board,) = boards([*made(0.5), *digits, *faces], resamples=200)
    assert len(board.rows) == 3
    assert {adversary(row.message.threat) for row in board.rows} == {
        "",
        "other images (digits)",
        "other images (faces)",
    }
    assert "images of another kind (digits)" in means({**SHIFTED, "client": "weights"})


def test_training_images_that_leak_more_are_flagged_on_both_boards():
    found = boards([*made(0.4), *made(0.6, role="train", target="of train")], resamples=200)
    unseen, trained = sorted(found, key=lambda board: len(board.data))
    assert trained.data == f"{unseen.data} (training images)"
    gap = unseen.rows[0].training_gap
    assert gap.low > 0
    assert gap.mean == pytest.approx(0.2, abs=0.02)
    for board in (unseen, trained):
        assert "training_images_leak_more" in board.rows[0].flags
    assert trained.rows[0].training_gap is None
    assert "Images that the model was trained on" in render((unseen,))


def test_training_images_that_leak_the_same_are_not_flagged():
    found = boards([*made(0.4), *made(0.4, role="train", target="of train")], resamples=200)
    for board in found:
        assert "training_images_leak_more" not in board.rows[0].flags


def test_without_training_images_the_page_does_not_speak_of_them():
    (board,) = boards(made(0.4), resamples=200)
    assert board.rows[0].training_gap is None
    assert "Images that the model was trained on" not in render((board,))


def test_independent_intervals_add_like_standard_errors():
    one = Interval(mean=0.8, low=0.77, high=0.83, n=50)
    other = Interval(mean=0.7, low=0.66, high=0.74, n=40)
    gap = difference(one, other)
    assert gap.mean == pytest.approx(0.1)
    assert gap.high - gap.mean == pytest.approx(sqrt(0.03**2 + 0.04**2))
    assert gap.mean - gap.low == pytest.approx(sqrt(0.03**2 + 0.04**2))
    assert gap.n == 40


def recognised(faces, pixels=None, attack="inverse_network"):
    """The usual board, with what recognisers made of the guesses of one attack."""
    rates = {"rank1_faces": faces} | ({} if pixels is None else {"rank1_pixels": pixels})
    found = []
    for item in made(0.5):
        record = item.record
        own = rates if record.cell.attack_name == attack else dict.fromkeys(rates, 0.05)
        leakage = {k: Interval(mean=v, low=v - 0.04, high=v + 0.04, n=80) for k, v in own.items()}
        floors = {
            f"{floor}/{key}": 0.02 + 0.01 * (floor == "mean_image")
            for floor in ("constant_color", "mean_image")
            for key in rates
        }
        changed = dataclasses.replace(
            record,
            leakage={**record.leakage, **leakage},
            floors={**record.floors, **floors},
            ceilings={**record.ceilings, **dict.fromkeys(rates, 0.95)},
        )
        found.append(Evidence(changed, item.scores))
    return boards(found, resamples=200)


def test_who_is_recognised_stands_beside_a_blind_guess_and_the_true_images():
    (board,) = recognised(0.6, 0.55)
    who = board.rows[0].recognition["rank1_faces"]
    assert (who.attack, who.rate.mean, who.blind, who.ceiling) == (
        "inverse_network",
        0.6,
        0.03,
        0.95,
    )
    page = render((board,))
    assert "Who is it?" in page
    assert "60\N{NO-BREAK SPACE}%" in page.split("Who is it?")[1].split("</section>")[0]


def test_where_nobody_asked_who_it_is_the_page_is_silent():
    (board,) = boards(made(0.4), resamples=200)
    assert board.rows[0].recognition == {}
    assert "Who is it?" not in render((board,))
