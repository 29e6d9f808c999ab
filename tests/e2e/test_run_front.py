"""A search for a defense's front, through the command line and the real plugin."""

from importlib.util import find_spec

import pytest
import yaml
from commands import records

MISSING = find_spec("hydra_plugins.hydra_optuna_sweeper") is None
SMALL = ("experiment=front", "debug=smoke", "attack=ridge", "hydra.sweeper.n_jobs=2")
optuna = pytest.mark.skipif(MISSING, reason="the extra `optuna` is not installed")


def search(splitbench, runs, *words):
    done = splitbench("run", *SMALL, f"paths.runs={runs}", *words)
    assert done.returncode == 0, done.stderr
    return done


def solutions(runs):
    return yaml.safe_load((runs / "optimization_results.yaml").read_text())["solutions"]


def cells(runs):
    return {path: path.stat().st_mtime_ns for path in (runs / "cells").iterdir()}


@pytest.mark.skipif(not MISSING, reason="the extra `optuna` is installed")
def test_without_the_extra_one_sentence_says_how_to_install_it(splitbench, tmp_path):
    failed = splitbench("run", "experiment=front", f"paths.runs={tmp_path}/runs")
    assert failed.returncode == 2
    (line,) = failed.stderr.splitlines()
    assert line.startswith("error: hydra/sweeper=optuna is not installed")
    assert "pip install '.[optuna]'" in line
    assert not (tmp_path / "runs").exists()


@optuna
def test_a_search_reports_points_that_were_measured_and_goes_on_where_it_stopped(
    splitbench, tmp_path
):
    search(splitbench, tmp_path, "hydra.sweeper.n_trials=2")
    first = cells(tmp_path)
    settings = {r["cell"]["defense"] for r in records(tmp_path).values()}
    assert len(settings) == 2
    more = search(splitbench, tmp_path, "hydra.sweeper.n_trials=3")
    assert more.stderr.count("nothing to do") == 2  # the same two settings, proposed again
    after = cells(tmp_path)
    assert {path: after[path] for path in first} == first
    found = records(tmp_path).values()
    assert len({r["cell"]["defense"] for r in found}) == 3
    assert "3 settings" in more.stdout
    assert "hypervolume" in more.stdout
    measured = {
        (
            r["leakage"]["L"]["mean"],
            r["utility"]["accuracy"]["mean"],
            r["cost"]["payload_bytes_mean"],
        )
        for r in found
        if r["cell"]["attack_name"] == "ridge"
    }
    assert solutions(tmp_path)
    for one in solutions(tmp_path):
        assert any(one["values"] == pytest.approx(list(values)) for values in measured)


@optuna
def test_a_search_of_which_no_setting_works_ends_in_an_error(splitbench, tmp_path):
    failed = splitbench(
        "run", *SMALL, f"paths.runs={tmp_path}", "hydra.sweeper.n_trials=2", "threat.observations=0"
    )
    assert failed.returncode == 2
    assert "observations=0" in failed.stderr
    assert "Traceback" not in failed.stderr


@optuna
def test_a_search_over_several_cuts_is_refused_before_any_work(splitbench, tmp_path):
    failed = splitbench("run", *SMALL, f"paths.runs={tmp_path}/runs", "cuts=[relu1,relu2]")
    assert failed.returncode == 2
    assert "a search looks at one cut" in failed.stderr
    assert not list(tmp_path.rglob("*.json"))
