"""Every measure of guesses is that of the attack which is best by it."""

import csv
import dataclasses
import io

import numpy as np
import pytest

from experiments.page.render import render
from experiments.page.spreadsheet import to_csv
from splitbench.leaderboard import Evidence, boards
from splitbench.record import Interval
from tests.unit.records import TRUTH
from tests.unit.test_leaderboard import NOISE, RESAMPLES, made, only_board

SEARCH = "likelihood_maximization"  # takes on the first 16 of 96 targets
OF_BLIND = {"psnr_db": 12.0, "ssim": 0.15, "lpips": 0.6, "top1": 0.1}


def scored(evidence, attack, **values):
    """Evidence with measures of one attack replaced, each a value or one per target."""
    return [_scored(e, values) if e.record.cell.attack_name == attack else e for e in evidence]


def _scored(item, values):
    record, scores = item.record, item.scores
    n = record.targets
    metrics = {name: np.broadcast_to(np.asarray(v, float), n) for name, v in values.items()}
    told, scaled = dict(record.leakage), dict(record.normalised)
    for name, value in metrics.items():
        mean, low, span = value.mean(), OF_BLIND[name], TRUTH[name] - OF_BLIND[name]
        ends = mean - 0.01, mean + 0.01
        told[name] = Interval(mean=mean, low=ends[0], high=ends[1], n=n)
        low, high = sorted((end - low) / span for end in ends)
        scaled[name] = Interval(mean=(low + high) / 2, low=low, high=high, n=n)
    return Evidence(
        dataclasses.replace(record, leakage=told, normalised=scaled),
        dataclasses.replace(scores, metrics={**scores.metrics, **metrics}),
    )


def rows(**options):
    return made((NOISE,), ("relu3",), lpips=True, **options)


def only_row(evidence):
    (row,) = only_board(evidence).rows
    return row


def test_each_measure_is_that_of_the_attack_which_is_best_by_it():
    evidence = scored(rows(), "nearest_neighbor", lpips=0.01, top1=0.99)
    row = only_row(scored(evidence, "ridge", ssim=0.97))
    assert row.best == "inverse_network"
    assert {name: one.attack for name, one in row.quality.items()} == {
        "psnr_db": "inverse_network",
        "ssim": "ridge",
        "lpips": "nearest_neighbor",
        "top1": "nearest_neighbor",
    }
    assert row.quality["lpips"].value.mean == pytest.approx(0.01)
    assert row.quality["lpips"].normalised.mean == pytest.approx(1 - 0.01 / 0.6)


def test_a_floor_is_never_the_best_by_any_measure():
    row = only_row(scored(rows(), "mean_image", ssim=0.999, lpips=0.0))
    assert "mean_image" not in {one.attack for one in row.quality.values()}


def test_easy_targets_do_not_favour_an_attack_on_few_by_any_measure():
    easy = np.where(np.arange(96) < 16, 0.9, 0.5)
    evidence = scored(rows(attacks=("ridge", SEARCH)), "ridge", ssim=easy)
    found = only_row(scored(evidence, SEARCH, ssim=0.85)).quality["ssim"]
    assert found.attack == "ridge"
    assert found.value.mean == pytest.approx(easy.mean())


def test_an_attack_that_is_better_on_the_same_few_targets_is_so_on_all():
    easy = np.where(np.arange(96) < 16, 0.8, np.linspace(0, 1, 96))
    evidence = scored(rows(attacks=("ridge", SEARCH)), "ridge", ssim=easy, lpips=easy)
    row = only_row(scored(evidence, SEARCH, ssim=0.85, lpips=0.7))
    for name, gain in (("ssim", 0.05), ("lpips", -0.1)):
        found = row.quality[name]
        assert found.attack == SEARCH
        assert found.value.mean == pytest.approx(easy.mean() + gain)
        assert found.value.low < found.value.mean < found.value.high
        low, span = OF_BLIND[name], TRUTH[name] - OF_BLIND[name]
        assert found.normalised.mean == pytest.approx((found.value.mean - low) / span)
        assert found.normalised.low < found.normalised.mean < found.normalised.high


def test_what_is_estimated_from_few_targets_is_no_more_than_any_image_scores():
    hard = np.where(np.arange(96) < 16, 0.0, 1.0)
    evidence = scored(rows(attacks=("ridge", SEARCH)), "ridge", top1=hard)
    found = only_row(scored(evidence, SEARCH, top1=0.9)).quality["top1"]
    assert found.attack == SEARCH
    assert found.value.mean == found.value.high == 1


def test_seeds_are_averaged_and_few_targets_compared_within_each():
    evidence = scored(rows(attacks=("ridge", SEARCH), seeds=2), "ridge", ssim=0.4)
    evidence = [*scored(evidence[:2], SEARCH, ssim=0.5), *scored(evidence[2:], SEARCH, ssim=0.7)]
    found = only_row(evidence).quality["ssim"]
    assert (found.attack, found.value.mean) == (SEARCH, pytest.approx(0.6))


def test_the_worst_channel_is_the_measure_that_is_nearest_to_the_true_image():
    row = only_row(scored(rows(), "ridge", lpips=0.03))
    name, found = row.worst_channel
    assert (name, found.attack) == ("lpips", "ridge")
    assert found.normalised.mean == pytest.approx(0.95)


def test_the_worst_channel_may_be_the_leakage_itself():
    dull = {"ssim": 0.2, "lpips": 0.5, "top1": 0.12, "psnr_db": 13.0}
    evidence = rows(attacks=("ridge",))
    row = only_row(scored(evidence, "ridge", **dull))
    name, found = row.worst_channel
    assert (name, found.attack, found.normalised) == ("L", "ridge", row.raw)


def test_a_measure_that_cannot_tell_truth_from_a_blind_guess_is_shown_but_is_no_channel():
    evidence = scored(rows(attacks=("ridge",)), "ridge", top1=1.0)
    evidence = [Evidence(dataclasses.replace(e.record, normalised={}), e.scores) for e in evidence]
    row = only_row(evidence)
    assert row.quality["top1"].normalised is None
    assert row.worst_channel[0] == "L"


def test_no_place_is_won_by_another_measure_than_leakage():
    plain = only_board(rows()).rows
    sharp = only_board(scored(rows(), "ridge", lpips=0.0, ssim=1.0)).rows
    assert [(r.rank, r.closed) for r in sharp] == [(r.rank, r.closed) for r in plain]


def test_a_row_without_any_success_has_no_worst_channel():
    evidence = [
        Evidence(dataclasses.replace(e.record, status="failed", error="no memory")) for e in rows()
    ]
    assert only_row(evidence).worst_channel is None


def test_the_tables_name_the_attack_and_the_worst_channel():
    found = boards(scored(rows(), "nearest_neighbor", lpips=0.03), resamples=RESAMPLES)
    (line,) = csv.DictReader(io.StringIO(to_csv(found)))
    assert (line["lpips"], line["lpips_attack"]) == ("0.03", "nearest_neighbor")
    assert float(line["lpips_normalised"]) == pytest.approx(0.95)
    assert (line["worst_channel"], line["worst_channel_attack"]) == ("lpips", "nearest_neighbor")
    assert float(line["worst_channel_normalised"]) == pytest.approx(0.95)
    assert float(line["worst_channel_normalised_low"]) < 0.95
    page = render(found)
    assert 'title="nearest neighbor: 0.02 to 0.04">0.03<' in page
    assert ">0.95 LPIPS<" in page
    assert "LPIPS 0.95 (nearest neighbor)" in page
