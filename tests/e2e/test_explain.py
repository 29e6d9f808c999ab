"""What a plan rests on, and why not another one, by the command that users type."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from experiments.cli import main
from experiments.plan_page import rates, regions
from offloading.plan import Plan

RESULTS = Path(__file__).parents[2] / "results" / "adversaries.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    room = tmp_path_factory.mktemp("plan")
    words = ["image_shape=[1,28,28]", "classes=10", "runs=3", "warmup=1", "carrying=false"]
    assert main(["profile", "model=le_net5", *words, f"out={room / 'profile.json'}"]) == 0
    told = [f"profile={room / 'profile.json'}", f"records={RESULTS}", f"out={room}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regions, "RATES", (0.25, 1.0, 16.0))
        patch.setattr(regions, "TRIPS", (0.0, 1.0))
        patch.setattr(rates, "RATES", (0.01, 1.0, 100.0))
        asked = [
            "model=le_net5",
            "scenario=camera_lte",
            "limits.leakage=0.95",
            "limits.at_least=relu1",
        ]
        slow = "scenario.tiers.camera.slowdown=3000"
        assert main(["plan", *told, *asked, slow]) == 0
        yield room


def test_tells_phases_with_what_they_rest_on(folder, capsys):
    assert main(["explain", str(folder / "plan.json")]) == 0
    told = capsys.readouterr().out
    raw = json.loads((folder / "plan.json").read_text())
    plan = Plan.from_dict(raw["plans"][raw["recommended"]])
    assert str(plan.placement) in told
    for phase in plan.phases:
        assert phase.where in told
        assert phase.ms.basis in told
    assert "assumed slow-down of the profiled machine" in told
    assert "leakage L:" in told


def test_says_why_not_a_placement_by_its_number_and_by_its_parts(folder, capsys):
    lines = pd.read_csv(folder / "front.csv")
    number = 1 + int(lines.index[lines["kind"] == "send raw image to the cloud"][0])
    why = f"why=[{number},'camera > edge @ relu1 : undefended']"
    assert main(["explain", str(folder / "plan.json"), why]) == 0
    told = capsys.readouterr().out
    assert lines.loc[number - 1, "placement"] in told
    assert "exceeds leakage: 1.00, limit 0.95" in told.lower()
    assert "Why not camera > edge @ relu1 : undefended?" in told


def test_the_profile_of_the_plan_is_used_even_if_its_file_has_gone(folder, tmp_path, capsys):
    raw = json.loads((folder / "plan.json").read_text())
    raw["config"]["profile"] = str(tmp_path / "gone.json")
    (tmp_path / "plan.json").write_text(json.dumps(raw))
    assert main(["explain", str(tmp_path / "plan.json")]) == 0
    plan = Plan.from_dict(raw["plans"][raw["recommended"]])
    assert str(plan.placement) in capsys.readouterr().out


def test_writes_the_report_again_with_what_was_measured_since(folder, tmp_path, capsys):
    shutil.copy(folder / "plan.json", tmp_path)
    raw = json.loads((folder / "plan.json").read_text())
    assert 'id="checks"' not in (folder / "report.html").read_text()
    name = pd.read_csv(folder / "front.csv").loc[0, "placement"]
    plan = {
        "name": name,
        "end_to_end_ms": {"p50": 5.0, "p95": 6.0},
        "p50_interval_ms": [4.9, 5.1],
        "predicted": None,
    }
    about = {"requests": 9, "backend": "formula", "same_ms": 0.1}
    (tmp_path / "measured.json").write_text(json.dumps({"schema": 1, "plans": [plan], **about}))
    assert raw["limits"] == "L <= 0.95, up to relu1 on the device"
    assert main(["explain", str(tmp_path / "plan.json"), "report=true"]) == 0
    assert 'id="checks"' in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["why=99999"], "front.csv has the lines 1 to"),
        (["why=0"], "front.csv has the lines 1 to"),
        (["why='camera > moon @ relu1 : undefended'"], "routes are camera, "),
        (["why='camera > edge @ relu9 : undefended'"], "no placement over camera > edge"),
        (["--why", "7"], "write why=VALUE"),
        (["wyh=7"], "did you mean 'why'"),
    ],
)
def test_mistakes_end_in_one_sentence(folder, capsys, words, said):
    assert main(["explain", str(folder / "plan.json"), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"schema": 7}', '{"schema": 3, "config": {}, "run": [], "profile": {}}']
)
def test_what_is_no_plan_is_refused(tmp_path, capsys, text):
    (tmp_path / "plan.json").write_text(text)
    assert main(["explain", str(tmp_path / "plan.json")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_help_says_what_there_is(capsys):
    assert main(["explain", "--help"]) == 0
    assert "why=7" in capsys.readouterr().out
