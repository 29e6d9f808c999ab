"""O33: where the payload is zero nothing leaks, and a server knows the largest class alone."""

import pytest
import torch
from hydra import compose, initialize_config_module

from defenses.early_exit import EarlyExit
from defenses.fine_tuning import fine_tune_server
from experiments.compose import plain
from experiments.console import Reporter
from experiments.evaluate import evaluate
from experiments.leaderboard import load
from experiments.store import Store
from splitbench.checks.defense_world import defense_world
from splitbench.rng import stream

# The threshold of the exit is that of the least sure of 900 images; none of a hundred is below it.
WORLD = ["debug=smoke", "suite=lite", "cuts=[relu3]", "targets=100", "data.sizes.target=100"]
WORLD += ["data.sizes.train=1000", "defense=early_exit", "defense.held_out=0.9", "latency.runs=1"]
NAMES = {"data": "fashion_mnist_sample", "model": "le_net5", "defense": "early_exit"}
STEPS = 20  # of every attack that takes any
THREATS = ("white_box", "query_free", "no_data", "secret_key")  # each attack runs under the first


@pytest.fixture(autouse=True)
def _arithmetic_as_before():
    """Runs ask torch for repeatable algorithms, and do not take it back."""
    strict = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(strict)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("runs"))


def shortened(node):
    """A suite of the same attacks, and their parts, that are over in seconds."""
    if not isinstance(node, dict):
        return node
    short = {key: shortened(value) for key, value in node.items()}
    return {**short, "steps": min(STEPS, node["steps"])} if "steps" in node else short


def judged(store, names, *overrides):
    """Name of each of these attacks that runs in this world, to its record."""
    with initialize_config_module("configs", version_base="1.3"):
        values = plain(compose("run", overrides=[*WORLD, *overrides]))
    values["attacks"] = {name: shortened(values["attacks"][name]) for name in names}
    cells = evaluate(values, NAMES, "job", store, Reporter("job", interactive=False))
    records = [evidence.record for evidence in load(store.root / "cells", cells)]
    assert not [record.error for record in records if record.status == "failed"]
    return {r.cell.attack_name: r for r in records if r.status == "ok"}


def test_where_nothing_is_sent_no_attack_of_the_suite_learns_anything(store):
    with initialize_config_module("configs", version_base="1.3"):
        left = list(compose("run", overrides=["suite=lite"]).attacks)
    for threat in THREATS:
        found = judged(store, left, "defense.share=1.0", f"threat={threat}")
        for name, record in found.items():
            assert record.cost["payload_bytes_max"] == 0
            assert record.leakage["L"].low <= 0, name
            assert record.leakage["excess"].low <= 0, name
        left = [name for name in left if name not in found]
    assert not left


def test_what_is_sent_the_same_attacks_do_recover(store):
    names = ("ridge", "nearest_neighbor", "likelihood_maximization")
    found = judged(store, names, "defense.share=0.0")
    for name in names:
        assert found[name].cost["payload_bytes_min"] > 0
        assert found[name].leakage["excess"].low > 0.1, name


def test_a_server_that_is_sent_nothing_is_as_good_as_the_largest_class():
    """However it is tuned: exactly, for it answers all alike."""
    world = defense_world()
    deployed = world.deploy(EarlyExit(share=1.0, side=2, held_out=0.9))
    generator = stream(0, "server")
    stays = ~deployed.release(world.train.images(), generator=generator).sent
    labels = world.train.labels
    place = torch.arange(len(labels)) // 3
    # All of the second class, every other image of the first, one in four of the third.
    kept = stays & (place % torch.tensor([2, 1, 4])[labels] == 0)
    skewed = world.train.subset(kept)
    largest = torch.bincount(skewed.labels)
    fine_tune_server(
        deployed.split,
        skewed,
        receive=lambda features: deployed.message(features, generator=generator).tensors,
        epochs=20,
        learning_rate=1e-2,
        batch_size=16,
        generator=generator,
    )
    sent = deployed.transmit(skewed.images(), generator=generator)
    assert not sent.payload_bytes.any()
    right = int((deployed.predict(sent).argmax(1) == skewed.labels).sum())
    assert right == int(largest.max()) == int(largest[1])
