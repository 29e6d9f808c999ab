"""What a row may not beat, and what is only said under an assumption."""

import csv
import dataclasses
import io
import json
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_module

from experiments.compose import plain
from experiments.console import Reporter
from experiments.job import Job
from experiments.judge import Judge
from experiments.page.markdown import to_markdown
from experiments.page.render import render
from experiments.page.spreadsheet import to_csv
from experiments.store import Store
from splitbench.guarantee import NO_GUARANTEE, Guarantee, local_privacy
from splitbench.leaderboard import Board, Evidence, boards
from splitbench.record import Record, SchemaError
from tests.unit.records import SETTINGS, cells
from tests.unit.test_record import RECORD, edited

N = 96


def certificate(
    least: float,
    applies: bool | str = True,
    bound: str = "rate bound",
    prior: str = "white noise",
) -> Guarantee:
    return Guarantee(
        "certified",
        f"{bound}: 100 bytes leave an error of {least:g} under {prior}",
        least_mse=least,
        prior=prior,
        assumptions=("All that is seen of an image is 100 bytes at most.",),
        applies=applies,
    )


def board(
    *certificates: Guarantee,
    guarantee: Guarantee = NO_GUARANTEE,
    keeps: float = 0.9,
    hide: bool = False,
) -> Board:
    """One noisy system that leaks so much; `hide`: as much of any other image."""
    setting = dataclasses.replace(SETTINGS[1], keeps=(keeps,) * 6)
    told: dict[str, Any] = {
        "guarantee": guarantee.to_record(),
        "certificates": tuple(one.to_record() for one in certificates),
    }
    evidence = []
    for record, scores in cells(settings=(setting,), cuts=("relu1",), targets=N):
        if scores is not None and hide:
            alike = np.random.default_rng(0).permutation(scores.metrics["mse"])
            scores = dataclasses.replace(scores, null={**scores.null, "mse": alike})
        evidence.append(Evidence(dataclasses.replace(record, **told), scores))
    (found,) = boards(evidence, resamples=100)
    return found


def beaten(found: Board) -> bool:
    (row,) = found.rows
    assert (row.rank is None) == ("guarantee_beaten" in row.flags)
    return "guarantee_beaten" in row.flags


def least_error() -> float:
    """Of the best attack on the row."""
    (row,) = board().rows
    (best,) = (e for e in row.attacks if e.name == row.best)
    errors = {record.cell_id: record.leakage["mse"] for record, _ in
              cells(settings=(dataclasses.replace(SETTINGS[1], keeps=(0.9,) * 6),),
                    cuts=("relu1",), targets=N) if "mse" in record.leakage}  # fmt: skip
    return errors[best.cells[0]].mean


@pytest.mark.parametrize(("factor", "applies", "flagged"), [
    (0.5, True, False), (30.0, True, True), (30.0, "these are photographs", False),
])  # fmt: skip
def test_an_attack_that_errs_less_than_is_certified_is_an_error_where_the_prior_is_true(
    factor: float, applies: bool | str, flagged: bool
) -> None:
    found = board(certificate(factor * least_error(), applies))
    assert beaten(found) == flagged


@pytest.mark.parametrize(("epsilon", "flagged"), [(0.5, True), (12.0, False)])
def test_a_row_that_rebuilds_more_targets_than_privacy_allows_is_an_error(
    epsilon: float, flagged: bool
) -> None:
    promise = local_privacy(epsilon=epsilon)
    (row,) = board(guarantee=promise).rows
    assert row.share_above_half is not None
    assert row.share_above_half.mean > 0.9
    assert beaten(board(guarantee=promise)) == flagged


def test_guesses_that_fit_any_image_as_well_beat_no_promise() -> None:
    """However strict it is: a blind rate is allowed."""
    assert not beaten(board(guarantee=local_privacy(epsilon=0.01), hide=True))


def test_where_seeds_differ_the_weaker_bound_counts() -> None:
    found = board(
        certificate(0.2, "no"), certificate(0.1, "no"), certificate(0.3, "no", "van Trees bound")
    )
    (row,) = found.rows
    assert [one.least_mse for one in row.certificates] == [0.1, 0.3]


def test_a_certificate_of_one_message_says_nothing_of_several() -> None:
    one = certificate(0.1)
    assert one.over(messages=1) is one
    assert one.over(messages=4).kind == "empirical"
    assert "of one message, not of 4" in one.over(messages=4).statement


def test_a_record_keeps_its_certificates_and_need_not_have_any() -> None:
    told = (certificate(0.1, "these are photographs"), certificate(0.2))
    record = dataclasses.replace(RECORD, certificates=tuple(one.to_record() for one in told))
    again = Record.from_json(record.to_json())
    assert again == record
    assert tuple(Guarantee.from_record(one) for one in again.certificates) == told
    before = json.loads(RECORD.to_json())
    del before["certificates"]
    assert Record.from_json(json.dumps(before)) == RECORD


@pytest.mark.parametrize(
    "damage", [7, {"a": 1}, ["no"], [{"kind": "certified", "statement": "trust me"}]]
)
def test_a_record_with_damaged_certificates_is_refused(damage: object) -> None:
    with pytest.raises(SchemaError, match=r"certificates|guarantee"):
        Record.from_json(edited(certificates=damage))


def test_tables_and_page_say_under_which_prior_and_that_no_attack_is_bound() -> None:
    reason = "these are photographs"
    found = [board(certificate(0.25, reason), certificate(1e-9, reason, "van Trees bound"))]
    for text in (to_markdown(found), render(found)):
        assert "100 bytes leave an error of 0.25" in text
        assert f"an assumption, no bound on attacks: {reason}" in text
        assert "van Trees" not in text  # less than what bytes leave
    (line,) = csv.DictReader(io.StringIO(to_csv(found)))
    assert float(line["certified_mse"]) == 0.25
    assert line["certificate"] == found[0].rows[0].certificates[0].statement
    assert reason in line["certificate_applies"]
    assert "What messages cannot say" not in render([board()])
    assert "Least mean squared error" not in to_markdown([board()])
    assert "binds every attack here" in to_markdown([board(certificate(0.25))])


def test_tables_name_a_prior_once_and_every_prior_apart() -> None:
    reason, noise = "these are <photographs>", "pink | noise"
    kinds = ("rate bound", "van Trees bound", "third bound")
    white = [certificate(0.2, reason, kind) for kind in kinds]
    text = to_markdown([board(*white, certificate(0.1, reason, "fourth bound", noise))])
    first, second = text.split("Least mean squared error")[1:]
    for part, prior, rows in ((first, "white noise", 3), (second, r"pink \| noise", 1)):
        told = f"drawn from {prior} (an assumption, no bound on attacks: these are &lt;photographs"
        assert told in part.split("\n")[0]
        assert part.count(prior) == part.count("photographs") == 1
        assert part.count(" bound: 100 bytes leave an error of 0.") == rows


def test_the_page_names_a_prior_once_for_readers_and_escapes_it() -> None:
    told = [certificate(0.2, "these are <b>", kind) for kind in ("rate bound", "van Trees bound")]
    page = render([board(*told)])
    sentence = "no bound on attacks: these are &lt;b&gt;):</p>"
    assert page.count(sentence) == 1
    assert "these are <b>" not in page
    assert page.count("100 bytes leave an error of 0.2<") == 2


@pytest.mark.parametrize(
    ("defense", "bounds"),
    [
        ("gaussian_noise", ["rate bound", "van Trees bound"]),
        ("local_dp_gaussian", ["rate bound", "van Trees bound"]),
        ("binarization", ["rate bound"]),
    ],
)
def test_a_run_certifies_each_cut_under_a_prior_that_it_does_not_claim_to_be_true(
    tmp_path, defense, bounds
):
    overrides = [f"defense={defense}", "debug=smoke", "cuts=[relu3]"]
    with initialize_config_module("configs", version_base="1.3"):
        config = compose("run", overrides=overrides)
    job = Job(plain(config), Store(tmp_path), Reporter("test", interactive=False))
    judge = Judge(job)
    judge.see(job.target(job.cuttable.find("relu3")))
    found = [Guarantee.from_record(one) for one in judge.facts("relu3")["certificates"]]
    assert [one.statement.split(":")[0] for one in found] == bounds
    assert not any(one.binds for one in found)
    variance = float(job.roles.calibration.images().flatten(1).var(0).mean())
    for one in found:
        assert 0 < one.least_mse < variance
        assert "covariance" in one.prior
