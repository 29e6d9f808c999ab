"""Sweeps over choices with different keywords."""

from types import SimpleNamespace

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from hydra_plugins.applicable_sweeper import (
    ApplicableSweeper,
    as_sweep,
    choices_of,
    expand,
    keywords,
    prune,
)


def jobs(*words):
    return expand(OverridesParser.create().parse_overrides(list(words)))


def test_a_keyword_is_dropped_from_the_choices_that_lack_it():
    assert jobs("defense=none,gaussian_noise", "defense.noise_std=0.5,2") == [
        ["defense=none"],
        ["defense=gaussian_noise", "defense.noise_std=0.5"],
        ["defense=gaussian_noise", "defense.noise_std=2"],
    ]


def test_each_choice_keeps_its_own_keywords():
    words = ("defense=none,gaussian_noise,quantization", "defense.noise_std=0.5,2")
    assert jobs(*words, "defense.bits=8,2") == [
        ["defense=none"],
        ["defense=gaussian_noise", "defense.noise_std=0.5"],
        ["defense=gaussian_noise", "defense.noise_std=2"],
        ["defense=quantization", "defense.bits=8"],
        ["defense=quantization", "defense.bits=2"],
    ]


def test_a_misspelt_keyword_stays_so_that_it_fails():
    words = ("defense=none,gaussian_noise", "defense.noise_sdt=0.5,2")
    assert [job[-1] for job in jobs(*words)] == [
        "defense.noise_sdt=0.5",
        "defense.noise_sdt=2",
    ] * 2


def test_a_keyword_that_the_only_choice_lacks_stays_so_that_it_fails():
    assert jobs("defense=none", "defense.noise_std=1") == [["defense=none", "defense.noise_std=1"]]


def test_a_keyword_of_an_unknown_choice_stays_so_that_the_choice_fails():
    words = ("defense=nope,gaussian_noise", "defense.noise_std=1,2")
    assert ["defense=nope", "defense.noise_std=1"] in jobs(*words)


def test_keys_outside_the_groups_are_never_dropped():
    words = ("defense=none,gaussian_noise", "seed=0,1", "data.train=100", "+latency.more=1")
    for job in jobs(*words):
        assert job[2:] == ["data.train=100", "+latency.more=1"]
        assert job[1].startswith("seed=")


def test_a_sweep_without_choices_is_hydras_own():
    assert jobs("seed=0,1,2") == [["seed=0"], ["seed=1"], ["seed=2"]]


def test_no_overrides_are_one_job():
    assert jobs() == [[]]


def test_batches_are_no_larger_than_asked_for():
    words = ["defense=none,gaussian_noise", "defense.noise_std=0.5,2", "seed=0,1"]
    overrides = OverridesParser.create().parse_overrides(words)
    configured = SimpleNamespace(params={}, also=[])
    batches = ApplicableSweeper.split_arguments(configured, overrides, 4)
    assert [len(batch) for batch in batches] == [4, 2]


def test_equal_jobs_run_once():
    found = jobs("defense=none,none", "seed=0,0")
    assert found == [["defense=none", "seed=0"]]


def test_a_variant_has_the_keywords_of_what_it_changes():
    assert keywords("threat", "black_box") == keywords("threat", "white_box")
    assert "query_budget" in keywords("threat", "black_box")


@pytest.mark.parametrize("choice", ["", "nope"])
def test_keywords_of_no_choice_are_unknown(choice):
    assert keywords("threat", choice) is None


def test_choices_are_read_off_the_command_line():
    words = ["defense=none,gaussian_noise", "seed=3", "defense.noise_std=1,2"]
    overrides = OverridesParser.create().parse_overrides(words)
    assert choices_of(overrides) == {"defense": ["none", "gaussian_noise"], "seed": ["3"]}


def test_pruning_leaves_a_job_without_choices_alone():
    assert prune(["data.train=3", "seed=1"], {}) == ["data.train=3", "seed=1"]


def test_one_value_of_a_swept_choice_becomes_a_sweep():
    words = ["-m", "defense=none,gaussian_noise", "defense.noise_std=0.5", "seed=0"]
    assert as_sweep(words) == [
        "-m",
        "defense=none,gaussian_noise",
        "defense.noise_std=choice(0.5)",
        "seed=0",
    ]


def test_one_value_of_a_swept_choice_reaches_only_the_choices_that_have_it():
    words = as_sweep(["defense=none,gaussian_noise", "defense.noise_std=0.5"])
    assert jobs(*words) == [["defense=none"], ["defense=gaussian_noise", "defense.noise_std=0.5"]]


@pytest.mark.parametrize(
    "words",
    [
        ["defense=gaussian_noise", "defense.noise_std=0.5"],
        ["seed=0,1", "defense.noise_std=0.5"],
        ["defense=none,gaussian_noise", "defense.noise_std=0.5,1"],
        ["--multirun", "hydra/launcher=joblib", "seed=0,1"],
    ],
)
def test_other_command_lines_are_left_alone(words):
    assert as_sweep(words) == words


@pytest.mark.parametrize("mark", ["+", "++", "~"])
def test_the_mark_of_an_override_survives(mark):
    word = f"{mark}defense.noise_std" + ("" if mark == "~" else "=0.5")
    pruned = as_sweep(["defense=none,gaussian_noise", word])[1]
    assert pruned.startswith(f"{mark}defense.noise_std")


def with_more(params, also, *given):
    """Jobs of a configured sweep, under a command line."""
    words = [f"{key}={value}" for key, value in params.items()]
    overrides = OverridesParser.create().parse_overrides([*words, *given])
    return expand(overrides, configured=len(params), also=also)


def test_more_sweeps_take_the_place_of_the_first_and_are_launched_with_it():
    also = [{"defense": "gaussian_noise", "threat": "naive"}]
    assert with_more({"defense": "none,gaussian_noise"}, also, "seed=1") == [
        ["defense=none", "seed=1"],
        ["defense=gaussian_noise", "seed=1"],
        ["defense=gaussian_noise", "threat=naive", "seed=1"],
    ]


def test_more_sweeps_are_swept_as_the_command_line_says():
    found = with_more({"defense": "none"}, [{"threat": "naive,repeated"}], "seed=0,1")
    assert found == [
        ["defense=none", "seed=0"],
        ["defense=none", "seed=1"],
        ["threat=naive", "seed=0"],
        ["threat=naive", "seed=1"],
        ["threat=repeated", "seed=0"],
        ["threat=repeated", "seed=1"],
    ]


def test_a_job_of_two_sweeps_runs_once():
    assert with_more({"seed": "0,1"}, [{"seed": "1,2"}]) == [["seed=0"], ["seed=1"], ["seed=2"]]
