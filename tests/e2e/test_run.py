"""The whole path on real images, through the command line."""

import math
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from commands import QUICK, command, environment, records
from PIL import Image

from experiments.cli import main
from splitbench.record import Scores

ATTACKS = 11
CUTS = 2


def test_one_command_yields_a_record_for_every_cell(finished):
    runs, _ = finished
    found = records(runs)
    assert len(found) == ATTACKS * CUTS
    assert {r["status"] for r in found.values()} == {"ok"}
    assert {r["cell"]["cut"] for r in found.values()} == {"relu1", "relu3"}


def test_records_carry_floors_intervals_bytes_and_times(finished):
    runs, _ = finished
    for record in records(runs).values():
        leak = record["leakage"]["L"]
        assert leak["low"] <= leak["mean"] <= leak["high"]
        assert record["floors"]["mean_image/mse"] > 0
        assert record["cost"]["payload_bytes_mean"] > 0
        assert 0 < record["utility"]["accuracy"]["mean"] <= 1
        assert set(record["data_fingerprints"]) == {"train", "auxiliary", "calibration", "target"}


def test_scores_hold_the_same_guesses_against_other_images(finished):
    runs, _ = finished
    for cell, record in records(runs).items():
        scores = Scores.load(runs / "cells" / f"{cell}.safetensors")
        blind, there = (part["mean_image/mse"] for part in (scores.floors, scores.null))
        assert (blind != there).all()
        if record["targets"] == 24:
            assert sorted(blind) == sorted(there)
        if record["cell"]["attack_name"] == "ridge":
            assert scores.null["mse"].mean() > 2 * scores.metrics["mse"].mean()
        assert set(record["images"]) == set(record["data_fingerprints"])


def test_the_mean_image_leaks_nothing_and_the_decoder_something(finished):
    runs, _ = finished
    leak = {
        (r["cell"]["attack_name"], r["cell"]["cut"]): r["leakage"]["L"]["mean"]
        for r in records(runs).values()
    }
    assert leak["mean_image", "relu1"] == pytest.approx(0, abs=0.02)
    assert leak["ridge", "relu1"] > 0.5


def test_a_second_run_computes_nothing_and_says_so(splitbench, finished):
    runs, _ = finished
    before = {p: p.stat().st_mtime_ns for p in (runs / "cells").iterdir()}
    again = splitbench("run", *QUICK, f"paths.runs={runs}")
    assert again.returncode == 0
    assert "nothing to do" in again.stderr
    assert {p: p.stat().st_mtime_ns for p in (runs / "cells").iterdir()} == before


def test_adding_a_cut_leaves_the_other_cells_alone(splitbench, finished, tmp_path):
    runs, _ = finished
    wider = splitbench("run", "debug=smoke", "cuts=[relu1,pool2,relu3]", f"paths.runs={tmp_path}")
    assert wider.returncode == 0, wider.stderr
    alone, among = records(runs), records(tmp_path)
    assert set(alone) < set(among)
    for cell, record in alone.items():
        assert among[cell]["leakage"] == record["leakage"]


def test_a_killed_run_goes_on_where_it_stopped_and_ends_in_the_same_numbers(
    splitbench, finished, tmp_path
):
    whole, _ = finished
    process = subprocess.Popen(
        command("run", *QUICK, f"paths.runs={tmp_path}"),
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    cells = tmp_path / "cells"
    deadline = time.monotonic() + 120
    while len(list(cells.glob("*.json"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {p.name: p.stat().st_mtime_ns for p in cells.glob("*.json")}
    assert 4 <= len(kept) < ATTACKS * CUTS
    resumed = splitbench("run", *QUICK, f"paths.runs={tmp_path}")
    assert resumed.returncode == 0, resumed.stderr
    assert {n: (cells / n).stat().st_mtime_ns for n in kept} == kept
    expected, got = records(whole), records(tmp_path)
    assert set(got) == set(expected)
    for cell, record in expected.items():
        for part in ("leakage", "utility", "floors", "normalised", "flags"):
            assert got[cell][part] == record[part], (cell, part)


def test_a_sweep_over_defenses_with_different_keywords_runs_in_two_processes(splitbench, tmp_path):
    swept = splitbench(
        "run", "-m", "debug=smoke", "cuts=[relu3]", "attack=ridge", f"paths.runs={tmp_path}",
        "defense=none,gaussian_noise", "defense.noise_std=0.5,2", "hydra/launcher=joblib",
    )  # fmt: skip
    assert swept.returncode == 0, swept.stderr
    found = [r for r in records(tmp_path).values() if r["cell"]["attack_name"] == "ridge"]
    leak = {r["cell"]["defense"]: r["leakage"]["L"]["mean"] for r in found}
    assert len(found) == len(leak) == 3
    quiet, half, loud = sorted(leak.values(), reverse=True)
    assert quiet > half > loud
    assert not list(tmp_path.rglob(".partial-*"))


def test_a_job_of_a_sweep_that_fails_says_so_before_the_next_one_begins(capfd, tmp_path):
    code = main([
        "run", "-m", "debug=smoke", "cuts=[relu3]", "attack=ridge", f"paths.runs={tmp_path}",
        "defense=gaussian_noise", "defense.noise_std=-1.0,1.0", "hydra/launcher=basic",
    ])  # fmt: skip
    told = capfd.readouterr().err
    failed = next(line for line in told.splitlines() if "failed the whole job" in line)
    assert told.index(failed) < told.index("cells to compute")  # the other's first word
    assert "defense.noise_std=-1.0]" in failed
    assert "must be finite and not negative" in failed
    assert code == 2
    assert {r["status"] for r in records(tmp_path).values()} == {"ok"}


def mistakes(tmp_path: Path) -> dict[str, tuple[list[str], str]]:
    file = tmp_path / "file"
    return {
        "unknown attack": (["attack=nope"], "inverse_network"),
        "typo in a key": (["seeed=1"], "seeed"),
        "typo in a group's key": (["data.trian=5"], "trian"),
        "unknown cut": (["cuts=[relu9]"], "did you mean"),
        "negative noise": (["defense=gaussian_noise", "defense.noise_std=-1"], "noise_std"),
        "no data folder": (
            ["data=image_folder", f"data.root={tmp_path}/nowhere"], f"{tmp_path}/nowhere",
        ),
        "other images, but not which": (["threat=shifted"], "data@auxiliary="),
        "other images for the usual adversary": (
            ["data@auxiliary=image_folder", f"auxiliary.root={tmp_path}"], "threat=shifted",
        ),
        "a store that is a file": ([f"paths.runs={file}"], "paths.runs=DIR"),
    }  # fmt: skip


@pytest.mark.parametrize("mistake", list(mistakes(Path())))
def test_a_mistake_ends_in_one_sentence_and_nothing_half_written(capfd, tmp_path, mistake):
    (tmp_path / "file").write_text("not a folder")
    arguments, hint = mistakes(tmp_path)[mistake]
    runs = tmp_path / "runs"
    # In this process: what is said is said before any work, and starting one takes longer.
    code = main(["run", "debug=smoke", "cuts=[relu3]", f"paths.runs={runs}", *arguments])
    told = capfd.readouterr().err
    assert code not in (0, 1)
    assert told.count("error:") == 1
    assert hint in told
    assert "Traceback" not in told
    assert told.strip().startswith("error:")  # before any work, and nothing else
    assert not list(runs.rglob("*.json"))
    assert not list(tmp_path.rglob(".partial-*"))


def test_a_damaged_product_is_named_with_its_remedy(splitbench, finished, tmp_path):
    runs, _ = finished
    product = next((runs / "model").iterdir()) / "tensors.safetensors"
    sound = product.read_bytes()
    product.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    try:
        failed = splitbench("run", "debug=smoke", "cuts=[pool1]", f"paths.runs={runs}")
    finally:
        product.write_bytes(sound)
    assert failed.returncode == 2
    assert "damaged" in failed.stderr
    assert str(product.parent) in failed.stderr


def test_an_adversary_without_the_weights_leaves_white_box_cells_marked(splitbench, tmp_path):
    done = splitbench(
        "run", "debug=smoke", "cuts=[relu3]", "threat=black_box", f"paths.runs={tmp_path}"
    )
    assert done.returncode == 0, done.stderr
    status = {r["cell"]["attack_name"]: r["status"] for r in records(tmp_path).values()}
    assert status["likelihood_maximization"] == "not_applicable"
    assert status["inverse_network"] == "ok"


def test_tracking_works_offline_and_never_prompts(splitbench, tmp_path):
    done = splitbench(
        "run", "debug=smoke", "cuts=[relu3]", "attack=ridge", "tracking=wandb",
        f"paths.runs={tmp_path}", WANDB_MODE="offline",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "wandb").rglob("*.wandb"))


def test_the_leaderboard_is_made_of_the_records(splitbench, finished, tmp_path):
    runs, _ = finished
    made = splitbench("leaderboard", str(runs), "--out", str(tmp_path))
    assert made.returncode == 0, made.stderr
    page = next(tmp_path.glob("*.html")).read_text()
    assert "relu1" in page
    assert list(tmp_path.glob("*.csv"))
    assert list(tmp_path.glob("*.md"))


def test_all_numbers_are_finite(finished):
    runs, _ = finished
    for record in records(runs).values():
        for interval in record["leakage"].values():
            assert all(math.isfinite(v) for v in interval.values())


def test_records_name_other_images_of_the_adversary_and_trained_ones_of_the_model(
    splitbench, tmp_path
):
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for i in range(40):
            pixels = np.kron(generator.integers(0, 256, (5, 5, 3)), np.ones((8, 8, 1)))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    sizes = "auxiliary.sizes={train: 5, auxiliary: 60, calibration: 5, target: 5}"
    done = splitbench(
        "run", "debug=smoke", "attack=ridge", "cuts=[relu1]", f"paths.runs={tmp_path}/runs",
        "threat=shifted", "data@auxiliary=image_folder", f"auxiliary.root={tmp_path}/pictures",
        "auxiliary.size=32", sizes, "target_role=train",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = records(tmp_path / "runs").values()
    assert {r["cell"]["threat"]["auxiliary_data"] for r in found} == {"image_folder"}
    assert {r["images"]["auxiliary"] for r in found} == {60}
    assert {r["cell"]["target_role"] for r in found} == {"train"}
    (leak,) = [r["leakage"]["L"] for r in found if r["cell"]["attack_name"] == "ridge"]
    assert 0.1 < leak["mean"] < 1
