"""What a search is told of a job."""

import dataclasses
import json
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_module
from hydra.types import RunMode
from omegaconf import OmegaConf

from experiments import evaluate, run
from experiments.compose import plain
from experiments.errors import UserError
from experiments.objectives import (
    Objectives,
    UnrankedError,
    check_one_cut,
    objectives,
    searching,
)
from splitbench.leaderboard import Evidence, boards
from splitbench.record import Interval
from tests.unit.records import SETTINGS, cells, noisy, write

OPTUNA = OmegaConf.create({"direction": ["minimize", "maximize", "minimize"], "n_trials": 3})
APPLICABLE = OmegaConf.create({"params": None, "also": None, "max_batch_size": None})


def evidence(setting=SETTINGS[1], cuts=("relu2",), targets=40, **more):
    found = cells(settings=(setting,), cuts=cuts, targets=targets, **more)
    return [Evidence(*pair) for pair in found]


def changed(items, attack, **fields):
    """The same evidence, but for the record of one attack."""
    return [
        Evidence(
            dataclasses.replace(e.record, **fields),
            None if fields.get("status", "ok") != "ok" else e.scores,
        )
        if e.record.cell.attack_name == attack
        else e
        for e in items
    ]


def test_the_objectives_are_the_strongest_attack_the_accuracy_and_the_mean_message():
    found = evidence()
    told = objectives(found)
    real = [e.record for e in found if not e.record.cell.floor]
    assert told.leakage == pytest.approx(max(r.leakage["L"].mean for r in real), abs=1e-9)
    assert told.accuracy == real[0].utility["accuracy"].mean
    assert told.payload_bytes == real[0].cost["payload_bytes_mean"]
    assert all(type(value) is float for value in told)


def test_the_leakage_is_what_the_leaderboard_ranks_by():
    found = evidence(setting=SETTINGS[4])
    ((row,),) = (board.rows for board in boards(found))
    assert row.rank is not None
    assert row.closed is not None
    assert objectives(found).leakage == row.closed.mean


def test_an_undefended_job_has_objectives_although_it_is_no_rival():
    assert objectives(evidence(setting=SETTINGS[0])).leakage > 0.5


@pytest.mark.parametrize("attack", ["ridge", "inverse_network"])
def test_a_job_with_a_failed_cell_has_no_objectives_though_other_attacks_would_give_a_number(
    attack,
):
    failed = changed(
        evidence(), attack, status="failed", error="LinAlgError: singular", targets=0, leakage={}
    )
    with pytest.raises(UnrankedError, match=rf"{attack} failed \(LinAlgError: singular\)"):
        objectives(failed)


def test_an_attack_that_does_not_apply_is_no_failure():
    found = evidence()
    lacking = changed(
        found, "likelihood_maximization", status="not_applicable", error="needs it", targets=0
    )
    assert objectives(lacking).leakage == pytest.approx(objectives(found).leakage)


def test_a_job_on_which_every_attack_was_impossible_has_no_objectives():
    floors = [e for e in evidence() if e.record.cell.floor]
    with pytest.raises(UnrankedError, match="no attack recovered anything"):
        objectives(floors)


@pytest.mark.parametrize("flag", ["batch_dependent", "blind_leaks"])
def test_what_the_leaderboard_does_not_rank_is_no_point(flag):
    attack = "mean_image" if flag == "blind_leaks" else "inverse_network"
    with pytest.raises(UnrankedError, match=f"flagged {flag}"):
        objectives(changed(evidence(), attack, flags=(flag,)))


def test_a_collapsed_task_is_no_point_however_little_it_leaks():
    found = evidence()
    low = {"accuracy": Interval(mean=0.1, low=0.05, high=0.15, n=40)}
    collapsed = [
        Evidence(
            dataclasses.replace(
                e.record, flags=("utility_collapsed",), utility={**e.record.utility, **low}
            ),
            e.scores,
        )
        for e in found
    ]
    with pytest.raises(UnrankedError, match="utility_collapsed"):
        objectives(collapsed)


def test_an_adversary_that_does_not_expect_the_defense_is_not_searched_against():
    with pytest.raises(UnrankedError, match="does not know the defense"):
        objectives(evidence(setting=noisy(0.5, "hidden")))


def test_records_of_several_cuts_are_refused():
    with pytest.raises(UserError, match="one row each, this one has 2"):
        objectives(evidence(cuts=("relu1", "relu2")))


@pytest.mark.parametrize("cuts", ["module", "tensor", "all", ["relu1", "relu2"], []])
def test_a_search_over_several_cuts_is_refused_in_one_sentence(cuts):
    with pytest.raises(UserError, match="a search looks at one cut"):
        check_one_cut({"cuts": cuts})


@pytest.mark.parametrize("cuts", ["relu2", "input", ["relu2"]])
def test_one_cut_is_one_cut(cuts):
    check_one_cut({"cuts": cuts})


@pytest.mark.parametrize(
    ("mode", "sweeper", "asked"),
    [
        (RunMode.MULTIRUN, OPTUNA, True),
        (RunMode.MULTIRUN, APPLICABLE, False),
        (RunMode.RUN, OPTUNA, False),
    ],
)
def test_only_a_sweeper_with_a_direction_asks(mode, sweeper, asked):
    assert searching(OmegaConf.create({"mode": mode, "sweeper": sweeper})) is asked


def finished(tmp_path, monkeypatch, sweeper, found):
    """A job whose records are there, under a sweep; computing anything is an error."""

    def work(*arguments):
        raise AssertionError("worked")

    monkeypatch.setattr(evaluate, "evaluate", work)
    runs = write(tmp_path / "runs", ((e.record, e.scores) for e in found))
    words = ["defense=gaussian_noise", "cuts=[relu2]", f"paths.runs={runs}"]
    with initialize_config_module("configs", version_base="1.3"):
        config = compose("run", overrides=words)
    hydra = SimpleNamespace(
        runtime=SimpleNamespace(choices={"defense": "gaussian_noise", "threat": "white_box"}),
        overrides=SimpleNamespace(task=words),
        mode=RunMode.MULTIRUN,
        sweeper=sweeper,
    )
    monkeypatch.setattr(run.HydraConfig, "get", lambda: hydra)
    values = plain(config)
    values["protocol"] = run.protocol(values)
    (runs / "jobs").mkdir()
    done = {"cells": [e.record.cell_id for e in found], "overrides": words}
    (runs / "jobs" / f"{run.job_id(values)}.json").write_text(json.dumps(done))
    return config


def test_a_job_that_was_finished_earlier_is_read_and_not_computed(tmp_path, monkeypatch):
    found = evidence()
    config = finished(tmp_path, monkeypatch, OPTUNA, found)
    told = run.job(config)
    assert isinstance(told, Objectives)
    assert told == objectives(found)


def test_a_job_is_judged_by_its_own_records_among_those_of_others(tmp_path, monkeypatch):
    found = evidence()
    config = finished(tmp_path, monkeypatch, OPTUNA, found)
    write(tmp_path / "others", cells(settings=SETTINGS[:1], cuts=("relu2",), targets=40))
    for file in (tmp_path / "others" / "cells").iterdir():
        file.rename(tmp_path / "runs" / "cells" / file.name)
    assert run.job(config) == objectives(found)


def test_other_sweepers_are_told_nothing_and_a_failed_cell_does_not_end_their_jobs(
    tmp_path, monkeypatch
):
    failed = changed(evidence(), "ridge", status="failed", error="no", targets=0, leakage={})
    assert run.job(finished(tmp_path, monkeypatch, APPLICABLE, failed)) is None


def test_a_search_over_a_job_with_a_failed_cell_gets_an_error_and_no_number(tmp_path, monkeypatch):
    failed = changed(evidence(), "ridge", status="failed", error="no", targets=0, leakage={})
    with pytest.raises(UnrankedError, match="ridge failed"):
        run.job(finished(tmp_path, monkeypatch, OPTUNA, failed))
