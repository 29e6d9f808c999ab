"""Inferences on real images, through the command line."""

from commands import records

RUN = [
    "debug=smoke", "data=fashion_mnist_coarse", "attack=mean_image", "inferences=probes_lite",
    "inferences.mlp_probe.steps=60", "data.sizes.target=100", "data.sizes.auxiliary=400",
    "targets=100", "training.epochs=3", "cuts=[relu1]", "defense=quantization",
    "defense.bits=3", "defense.entropy=true",
]  # fmt: skip


def test_one_command_tells_what_else_a_release_tells(splitbench, tmp_path):
    done = splitbench("run", *RUN, f"paths.runs={tmp_path}")
    assert done.returncode == 0, done.stderr
    found = {
        r["cell"]["attack_name"]: r
        for r in records(tmp_path).values()
        if r["cell"]["secret"] == "attribute fine"
    }
    assert set(found) == {"linear_probe", "mlp_probe", "length_probe", "pattern_probe"}
    linear = found["linear_probe"]
    assert linear["status"] == "ok"
    floor = max(linear["floors"].values())
    assert linear["floors"]["prior"] == 0.1
    assert linear["leakage"]["balanced_accuracy"]["low"] > floor
    assert linear["leakage"]["advantage"]["low"] > 0
    assert linear["ceilings"]["pixels"] > floor
    length = found["length_probe"]
    assert length["status"] == "ok"
    assert (length["floors"], length["ceilings"]) == ({"prior": 0.1}, {})
    pattern = found["pattern_probe"]
    assert pattern["status"] == "ok"
    assert pattern["leakage"]["balanced_accuracy"]["low"] > pattern["floors"]["prior"]
    made = splitbench("leaderboard", str(tmp_path))
    assert made.returncode == 0, made.stderr
    table = (tmp_path / "leaderboard" / "leaderboard.md").read_text()
    assert "attribute fine | linear probe" in table


def test_data_without_secrets_is_refused_in_one_sentence(splitbench, tmp_path):
    failed = splitbench(
        "run", "debug=smoke", "cuts=[relu3]", "inferences=probes_lite", f"paths.runs={tmp_path}"
    )
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: the data names nothing that these inferences could")
    assert "data=fashion_mnist_coarse" in failed.stderr
    assert not list(tmp_path.rglob("*.json"))
