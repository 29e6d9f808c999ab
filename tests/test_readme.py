"""What the README tells a user to type works."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser

from experiments.cli import COMMANDS
from experiments.cuts import main as cuts
from experiments.planning import composed
from hydra_plugins.applicable_sweeper import as_sweep, expand

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands(*words: str) -> list[str]:
    lines = [line.split("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if shlex.split(line)[: len(words)] == list(words)]


def jobs(command: str) -> list[list[str]]:
    """The overrides of each job that a ``splitbench run`` line starts."""
    overrides = [w for w in shlex.split(command)[2:] if w not in ("-m", "--multirun")]
    parsed = OverridesParser.create().parse_overrides(as_sweep(overrides))
    return expand(parsed)


def test_the_two_commands_are_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    told = [shlex.split(line)[1] for line in commands("make")]
    assert told == ["demo", "test"]
    assert set(told) <= targets


def test_every_splitbench_command_exists():
    told = {shlex.split(line)[1] for line in commands("splitbench")}
    assert {"run", "cuts", "leaderboard"} <= told <= set(COMMANDS)


@pytest.mark.parametrize("command", commands("splitbench", "run"))
def test_every_run_composes(command):
    with initialize_config_module("configs", version_base="1.3"):
        found = [compose("run", overrides=job) for job in jobs(command)]
    assert found
    assert all(config.attacks for config in found)


@pytest.mark.parametrize(
    "command", [c for name in ("plan", "profile") for c in commands("splitbench", name)]
)
def test_every_plan_and_profile_composes(command):
    _, name, *overrides = shlex.split(command)
    config, _ = composed(name, overrides)
    assert config["model"]
    assert (ROOT / config.get("records", ".")).exists()


def test_the_mixed_sweep_starts_four_jobs():
    (mixed,) = [c for c in commands("splitbench", "run") if "none,gaussian_noise" in c]
    assert len(jobs(mixed)) == 4


@pytest.mark.parametrize("command", commands("splitbench", "cuts"))
def test_every_cuts_command_prints_its_table(command, capsys):
    assert cuts(shlex.split(command)[2:]) == 0
    assert "layer1.0.relu" in capsys.readouterr().out


@pytest.mark.parametrize("code", blocks("python"))
def test_every_python_example_runs(code):
    exec(compile(code, "README.md", "exec"), {})


def test_every_page_and_picture_that_it_links_exists():
    links = re.findall(r"\]\(((?!http)[^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def first_column(heading):
    """The names in the first column of the table of a section."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([a-z]\w*)`", cell)}


def test_every_threat_model_of_the_table_is_a_configuration():
    names = {path.stem for path in (ROOT / "configs" / "threat").glob("*.yaml")}
    assert first_column("Threat models") == names


def test_every_attack_has_its_row_in_the_table():
    kinds = {path.stem for path in (ROOT / "attacks").glob("*.py")}
    names = {path.stem for path in (ROOT / "configs" / "attack").glob("*.yaml")}
    assert first_column("Attacks") == names & kinds


def test_every_defense_has_its_row_in_the_table():
    offered = {path.stem for path in (ROOT / "configs" / "defense").glob("*.yaml")}
    assert first_column("Defenses") == offered


def test_every_inference_has_its_row_in_the_table():
    names = {path.stem for path in (ROOT / "configs" / "inference").glob("*.yaml")}
    assert first_column("Inferences") == {name for name in names if not name.endswith("_lite")}
