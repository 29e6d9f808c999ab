"""What releases tell besides the image is shown with its row and moves nothing else there."""

import csv
import dataclasses
import io

import numpy as np
import pytest

from experiments.errors import UserError
from experiments.leaderboard import load
from experiments.page.markdown import to_markdown
from experiments.page.render import render
from experiments.page.spreadsheet import to_csv
from splitbench.guarantee import local_privacy
from splitbench.leaderboard import Evidence, LeaderboardError, boards
from splitbench.record import Scores
from tests.unit.records import SETTINGS, cells, write

N = 96


def pictures(**options):
    """Evidence about images, with few resamples in mind."""
    chosen = {"settings": SETTINGS[:2], "cuts": ("relu3",), **options}
    return [Evidence(*pair) for pair in cells(**chosen)]


def about(evidence, share, *, secret="attribute fine", name="linear_probe", **fields):
    """A record of the same system whose secret is another: so many targets are told right."""
    record = evidence.record
    place = np.arange(N) // 2 / (N / 2)
    right = (place < share).astype(float)
    group = np.arange(N) % 2.0
    nothing = np.zeros((0, 1, 28, 28), np.uint8)
    told = dataclasses.replace(
        record,
        status="ok",
        error=None,
        cell_id=f"{record.cell_id[:8]}{name}{secret[-4:]}",
        scores_file=f"{record.cell_id[:8]}{name}{secret[-4:]}.safetensors",
        cell=dataclasses.replace(
            record.cell, secret=secret, attack_name=name, attack=f"{name}()", floor=False
        ),
        leakage={},
        utility={},
        traits={},
        cost={},
        floors={"prior": 0.5, "prediction": 0.6},
        ceilings={"pixels": 0.9},
        targets=N,
        **fields,
    )
    pixels, prediction = (place < 0.9).astype(float), (place < 0.6).astype(float)
    metrics = {"right": right, "group": group, "pixels": pixels}
    return Evidence(told, Scores(metrics, {"prediction": prediction}, nothing, nothing))


def first(evidence, **where):
    """One image record of each system."""
    systems = {e.record.cell.defense: e for e in evidence if e.record.cell.attack_name == "ridge"}
    return list(systems.values())


@pytest.fixture(scope="module")
def evidence():
    found = pictures()
    return [*found, *(about(e, 0.75) for e in first(found))]


@pytest.fixture(scope="module")
def board(evidence):
    (found,) = boards(evidence, resamples=200)
    return found


def test_a_row_says_what_else_its_release_tells(board):
    for row in board.rows:
        (told,) = row.inferred
        assert (told.secret, told.name, told.seeds) == ("attribute fine", "linear_probe", 1)
        assert told.rate.mean == pytest.approx(0.75)
        assert (told.prior, told.prediction, told.pixels) == pytest.approx(
            (0.5, 0.6, 0.9), abs=0.02
        )
        assert told.advantage.mean == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("share", "secret", "flagged"),
    [(0.9, "attribute fine", True), (0.6, "attribute fine", False), (0.9, "identity", False)],
)
def test_a_row_that_beats_its_guarantee_is_flagged_and_not_ranked(share, secret, flagged):
    """Two values at epsilon 0.5: nobody is right more often than 62 % of the time."""
    promise = local_privacy(epsilon=0.5)
    assert promise.best_guess(candidates=2) == pytest.approx(0.622, abs=1e-3)
    images = [
        Evidence(dataclasses.replace(e.record, guarantee=promise.to_record()), e.scores)
        for e in pictures(settings=[dataclasses.replace(SETTINGS[1], keeps=(0.02,) * 6)])
    ]
    told = [about(e, share, secret=secret) for e in first(images)]
    (found,) = boards([*images, *told], resamples=200)
    (row,) = found.rows
    assert ("guarantee_beaten" in row.flags) == flagged
    assert (row.rank is None) == flagged


def test_nothing_else_of_a_row_depends_on_it(board):
    (plain,) = boards(pictures(), resamples=200)
    bare = [dataclasses.replace(row, inferred=()) for row in board.rows]
    assert bare == list(plain.rows)
    assert [e.name for row in board.rows for e in row.attacks if e.name == "linear_probe"] == []


def test_seeds_are_pooled_and_a_failed_one_is_counted_out():
    found = pictures(seeds=2)
    ridges = [e for e in found if e.record.cell.attack_name == "ridge"]
    told = [about(e, 0.7 + 0.1 * e.record.cell.seed) for e in ridges]
    (board,) = boards([*found, *told], resamples=200)
    assert board.rows[0].inferred[0].rate.mean == pytest.approx(0.75, abs=0.02)
    broken = [
        Evidence(dataclasses.replace(e.record, status="failed", error="ValueError: no"))
        if e.record.cell.seed
        else e
        for e in told
    ]
    (board,) = boards([*found, *broken], resamples=200)
    one = board.rows[0].inferred[0]
    assert (one.seeds, one.failed, one.note) == (1, True, "ValueError: no")
    assert one.rate.mean == pytest.approx(0.7, abs=0.02)


def test_an_inference_about_a_system_without_images_is_counted_in_a_note():
    found = pictures()
    lonely = [e for e in found if e.record.cell.defense_name != "none"]
    (board,) = boards([*lonely, *(about(e, 0.75) for e in first(found))], resamples=200)
    assert [len(row.inferred) for row in board.rows] == [1]
    assert any("1 inferences were left out" in note for note in board.notes)
    assert boards([about(first(found)[0], 0.75)], resamples=200) == ()


def test_an_inference_without_its_scores_is_named():
    found = pictures()
    bare = Evidence(about(first(found)[0], 0.75).record)
    with pytest.raises(LeaderboardError, match="its scores are missing"):
        boards([*found, bare], resamples=200)


def test_a_side_channel_has_neither_prediction_nor_pixels_beside_it():
    found = pictures()
    told = about(first(found)[0], 0.75, name="length_probe")
    record = dataclasses.replace(told.record, floors={"prior": 0.5}, ceilings={})
    everything = {**told.scores.metrics, "pixels": np.ones(N)}
    scores = dataclasses.replace(
        told.scores, metrics=everything, floors={"prediction": np.zeros(N)}
    )
    made = boards([*found, Evidence(record, scores)], resamples=200)
    (one,) = [told for row in made[0].rows for told in row.inferred]
    assert (one.prediction, one.pixels) == (None, None)
    assert one.advantage.mean == pytest.approx(0.5, abs=0.03)
    assert "— | — | 0.5" in to_markdown(made)


def test_page_and_tables_show_rates_floors_ceilings_and_reasons():
    found = pictures()
    told = [
        about(first(found)[0], 0.75),
        about(first(found)[0], 0.6, secret="identity", name="release_matching"),
        Evidence(
            dataclasses.replace(
                about(first(found)[0], 0.5, name="length_probe").record,
                status="not_applicable",
                error="all messages have one length",
            )
        ),
    ]
    made = boards([*found, *told], resamples=200)
    page, table = render(made), to_markdown(made)
    for text in (page, table):
        assert "What else it tells" in text
        assert "release matching" in text
        assert "75" in text
    assert "all messages have one length" in page
    assert "| attribute fine | linear probe | 75" in table
    lines = list(csv.DictReader(io.StringIO(to_csv(made))))
    (line,) = [x for x in lines if x["attribute_fine_by_linear_probe"]]
    assert float(line["attribute_fine_by_linear_probe"]) == pytest.approx(0.75)
    assert float(line["identity_by_release_matching_pixels"]) == pytest.approx(0.9, abs=0.02)
    assert not line["attribute_fine_by_length_probe"]


def test_nobody_asked_nothing_is_said():
    made = boards(pictures(), resamples=200)
    assert "What else it tells" not in render(made) + to_markdown(made)


def test_records_are_read_from_their_folder_and_damaged_scores_are_named(tmp_path, evidence):
    folder = write(tmp_path, ((e.record, e.scores) for e in evidence))
    assert len(load(folder / "cells")) == len(evidence)
    short = about(first(evidence)[0], 0.75)
    metrics = {**short.scores.metrics, "pixels": np.ones(3)}
    wrong = dataclasses.replace(short.scores, metrics=metrics)
    other = write(tmp_path / "other", iter([(short.record, wrong)]))
    with pytest.raises(UserError, match="pixels is not a finite number per image"):
        load(other / "cells")
