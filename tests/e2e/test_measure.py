"""From a plan to what was measured of it, by the command that users type."""

import json
from pathlib import Path

import pytest

from experiments.cli import main

RESULTS = Path(__file__).parents[2] / "results" / "adversaries.csv"
QUICK = ["backend=proxy", "requests=3", "warmup=1", "calibrated=false"]
# A slow laptop, an edge too small for the whole rest of the model, and slow ways to the cloud: so
# the middle of the model runs at the edge.
CHAIN = [
    "scenario=laptop_fiber",
    "only=[laptop,edge,cloud]",
    "scenario.tiers.laptop.slowdown=3000",
    "scenario.tiers.edge.memory_bytes=1e5",
    "scenario.tiers.edge.trusted=true",
    "scenario.hops.edge.cloud.link.up_mbps=20",
    "scenario.hops.laptop.cloud.link.up_mbps=2",
    "limits.at_least=relu1",
    "limits.accuracy_drop=0.001",
]
MODEL = [
    "training.epochs=1",
    "data.sizes={train: 400, auxiliary: 200, calibration: 100, target: 48}",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Where the trained model is kept."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder in which the file of the model is."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "model").mkdir()
    (folder / "model" / "mine.yaml").write_text("defaults: [le_net5, _self_]\n")
    return f"--config-dir={folder}"


@pytest.fixture(scope="module")
def folder(own, tmp_path_factory):
    """A plan over three tiers, and nothing measured."""
    room = tmp_path_factory.mktemp("plan")
    shape = ["model=mine", "image_shape=[1,28,28]", "classes=10"]
    timing = ["runs=3", "warmup=1", "carrying=false", f"out={room}/profile.json"]
    assert main(["profile", own, *shape, *timing]) == 0
    told = [f"profile={room}/profile.json", f"records={RESULTS}", f"out={room}"]
    model = [own, "model=mine", "model_name=le_net5"]
    assert main(["plan", *model, *MODEL, *told, *CHAIN]) == 0
    return room


@pytest.fixture(scope="module")
def measured(folder, own, runs):
    """The recommended plan and the first baseline, which sends nothing, run for real.

    Made with a profile that says that it is of another machine.
    """
    document = json.loads((folder / "plan.json").read_text())
    document["profile"]["machine"]["processor"] = "imagined"
    (folder / "plan.json").write_text(json.dumps(document))
    (folder / "report.html").write_text("as it was")
    words = [own, str(folder / "plan.json"), "most=2", *QUICK, f"paths.runs={runs}"]
    assert main(["measure", *words]) == 0
    return json.loads((folder / "measured.json").read_text())


def test_a_plan_over_three_tiers_is_run_by_as_many_processes(measured):
    chain, alone = measured["plans"]
    assert chain["tiers"] == ["laptop", "edge", "cloud"]
    assert len(chain["processes"]) == 2
    assert chain["answered_by"] == {"server": 3}
    assert (alone["tiers"], alone["answered_by"]) == (["laptop"], {"device": 3})
    assert {*measured["calibrations"]} == {"laptop>edge", "edge>cloud"}


def test_every_prediction_is_held_against_what_was_measured(measured):
    for plan in measured["plans"]:
        error = plan["predicted"]["total_ms"] / plan["end_to_end_ms"]["p50"] - 1
        assert plan["error"] == pytest.approx(error)
    # the way there and back is in both
    assert measured["plans"][0]["predicted"]["total_ms"] > 28
    assert measured["plans"][0]["end_to_end_ms"]["p50"] > 28


def test_what_was_trained_and_cut_answers_as_the_whole_model(measured):
    assert [plan["answers"]["equal"] for plan in measured["plans"]] == [3, 3]


def test_a_note_says_that_the_profile_was_made_elsewhere(measured):
    (note,) = [note for note in measured["notes"] if "profile" in note]
    assert "made elsewhere (processor imagined there, " in note


def test_the_report_beside_the_plan_is_written_again(measured, folder):
    assert measured["plans"][0]["name"] in (folder / "report.html").read_text()
