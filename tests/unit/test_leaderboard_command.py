"""``splitbench leaderboard``: what it reads, writes, prints and refuses."""

import json

import pytest
from plotly.offline import get_plotlyjs

from experiments.leaderboard import main
from tests.unit.records import CUTS, SETTINGS, cells, write

FILES = ("leaderboard.html", "leaderboard.md", "leaderboard.csv")


@pytest.fixture
def runs(tmp_path):
    few = cells(settings=SETTINGS[:3], cuts=CUTS[:2], targets=30, attacks=("mean_image", "ridge"))
    return write(tmp_path / "runs", few)


def some_record(runs):
    return sorted((runs / "cells").glob("*.json"))[0]


def test_it_writes_three_files_prints_the_table_and_names_the_page(runs, capsys):
    assert main([str(runs)]) == 0
    out = capsys.readouterr().out
    for name in FILES:
        assert (runs / "leaderboard" / name).stat().st_size > 500
    assert str(runs / "leaderboard" / "leaderboard.html") in out
    assert "undefended" in out
    assert "relu1" in out
    assert "gaussian noise noise_std=0.5" in out


def test_it_writes_elsewhere_on_request_and_the_same_bytes_again(runs, tmp_path):
    for folder in ("a", "b"):
        assert main([str(runs), "--out", str(tmp_path / folder)]) == 0
    for name in FILES:
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("a", "b"))
        assert first == second
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(FILES)


def test_the_link_changes_the_time(runs, tmp_path):
    for link in ("lan", "lte"):
        assert main([str(runs), "--out", str(tmp_path / link), "--link", link]) == 0
    fast, slow = ((tmp_path / link / "leaderboard.csv").read_text() for link in ("lan", "lte"))
    assert fast != slow


def test_commands_of_the_jobs_are_shown_without_paths_of_the_machine(runs):
    job = json.loads(some_record(runs).read_text())["job_id"]
    (runs / "jobs").mkdir()
    overrides = [
        "defense=none",
        "+paths.data=hidden/a",
        "paths.runs=hidden/b",
        "cuts=[relu1, a]",
    ]
    (runs / "jobs" / f"{job}.json").write_text(json.dumps({"cells": [], "overrides": overrides}))
    (runs / "jobs" / "broken.json").write_text("{")
    assert main([str(runs)]) == 0
    page = (runs / "leaderboard" / "leaderboard.html").read_text()
    assert "splitbench run defense=none &#39;cuts=[relu1, a]&#39;" in page
    assert "nowhere" not in page.replace(get_plotlyjs(), "")


def test_an_empty_folder_is_an_error_that_says_what_makes_records(tmp_path, capsys):
    assert main([str(tmp_path / "nothing")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: there are no records in")
    assert "splitbench demo" in error


def test_an_unknown_link_is_an_error_that_lists_the_known_ones(runs, capsys):
    assert main([str(runs), "--link", "pigeon"]) == 2
    assert "lan, lan_100, lte" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"schema": 99}', '{"schema": 1}', "null", "\x00\x01"]
)
def test_a_damaged_record_is_an_error_that_names_the_file(runs, capsys, content):
    some_record(runs).write_text(content)
    assert main([str(runs)]) == 2
    assert some_record(runs).name in capsys.readouterr().err


def test_a_record_with_a_damaged_cell_is_an_error_that_names_the_file(runs, capsys):
    path = some_record(runs)
    record = json.loads(path.read_text())
    del record["cell"]["cut"]
    path.write_text(json.dumps(record))
    assert main([str(runs)]) == 2
    assert path.name in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["missing", "cut short", "not scores", "checksum"])
def test_damaged_scores_are_an_error_that_names_the_file(runs, capsys, damage):
    path = next(p for p in sorted((runs / "cells").glob("*.safetensors")))
    if damage == "missing":
        path.unlink()
    elif damage == "cut short":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "not scores":
        path.write_bytes(b"\xff" * 64)
    else:
        record = json.loads(path.with_suffix(".json").read_text())
        record["scores_sha256"] = "0" * 64
        path.with_suffix(".json").write_text(json.dumps(record))
    assert main([str(runs)]) == 2
    assert path.name in capsys.readouterr().err


def test_scores_outside_the_folder_are_not_read(runs, capsys):
    path = some_record(runs)
    record = json.loads(path.read_text())
    record["scores_file"] = "../../elsewhere.safetensors"
    path.write_text(json.dumps(record))
    assert main([str(runs)]) == 2
    assert "names no file of scores" in capsys.readouterr().err


def test_contradicting_records_are_an_error_that_names_them(runs, capsys):
    path = some_record(runs)
    record = json.loads(path.read_text())
    record["cell_id"] = "twin"
    (runs / "cells" / "twin.json").write_text(json.dumps(record))
    assert main([str(runs)]) == 2
    assert "twin" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_an_error_that_says_what_to_do(runs, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([str(runs), "--out", str(tmp_path / "file")]) == 2
    assert "--out" in capsys.readouterr().err


def test_help_explains_the_arguments(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    assert "--link" in text
    assert "self-contained" in text
