"""The suites that are made for a GPU, with all their networks at their sizes, for a few steps.

What these attacks find with so little is nothing; that each of them runs is what is tested.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from commands import records
from hydra import compose, initialize_config_module

from experiments.compose import plain

FEW = {"steps": 2, "generations": 2, "batch_size": 4, "max_targets": 4}
CHOSEN = [
    ("suite=standard", "threat=white_box"),
    ("suite=full", "threat=white_box"),
    ("suite=gpu_lite", "threat=query_free"),
    ("suite=standard", "threat=secret_key", "defense=secret_permutation"),
]
WANTED = {"threat=query_free": {"shadow_client"}, "threat=secret_key": {"key_recovery"}}
SMALL = [
    "model=le_net5", "cuts=[relu3]", "targets=8", "training.epochs=1", "data.sizes.auxiliary=80",
    "data.sizes.calibration=24", "latency.runs=2", "latency.warmup=1",
]  # fmt: skip


def shortened(node: Mapping[str, Any], path: str) -> Iterator[str]:
    """Overrides that make every attack under a node short, and leave its networks as they are."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from shortened(value, f"{path}.{key}")
        elif key in FEW and value is not None:
            yield f"{path}.{key}={FEW[key]}"


@pytest.mark.slow
@pytest.mark.parametrize("chosen", CHOSEN, ids=" ".join)
def test_every_attack_of_a_large_suite_runs(splitbench, tmp_path, chosen):
    with initialize_config_module("configs", version_base="1.3"):
        config = plain(compose("run", overrides=list(chosen)))
    few = list(shortened(config["attacks"], "attacks"))
    assert len(few) > len(config["attacks"]) / 2
    done = splitbench("run", *chosen, *few, *SMALL, f"paths.runs={tmp_path}")
    assert done.returncode == 0, done.stderr
    ended = {r["cell"]["attack_name"]: r["status"] for r in records(tmp_path).values()}
    assert set(ended.values()) <= {"ok", "not_applicable"}
    everybody = set(config["attacks"]) - set(config["without"])
    wanted = WANTED.get(chosen[1], everybody)
    assert {name for name, status in ended.items() if status == "ok"} >= wanted
