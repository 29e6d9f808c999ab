"""Published facts: each holds where records say so, fails where they do not, or was not run."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from experiments.claims import FACTS
from experiments.cli import main
from experiments.facts import as_markdown, findings, verdict
from splitbench.leaderboard import Evidence, boards
from tests.unit.records import SETTINGS, Setting, bits, cells, noisy, of_threat, write

PLAIN = SETTINGS[0]
NAMES = {fact.find.__name__: fact for fact in FACTS}


def named(name: str, keeps: float, accuracy: float = 0.85, **changes: Any) -> Setting:
    """A system at relu1 that leaks so much."""
    made = dataclasses.replace(
        PLAIN,
        name=name,
        expression=changes.pop("expression", f"{name.title()}()"),
        keeps=(keeps,) * 6,
        accuracy=(accuracy,) * 6,
        traits={"changes_client": True, "stochastic": changes.pop("stochastic", True)},
    )
    return dataclasses.replace(made, **changes)


def evidence(*settings: Setting, model: str = "le_net5", **diagnostics: float) -> list[Evidence]:
    found = []
    for record, scores in cells(cuts=("relu1",), settings=settings, targets=48):
        cell = dataclasses.replace(record.cell, model=model)
        told = {**record.diagnostics, **diagnostics}
        found.append(Evidence(dataclasses.replace(record, cell=cell, diagnostics=told), scores))
    return found


def judged(fact: str, found: Sequence[Evidence]) -> str:
    measured = dict(findings(boards(found, resamples=100)))
    return verdict(measured[NAMES[fact]])


def short(name: str, keeps: float, accuracy: float) -> list[Evidence]:
    stopped = dataclasses.replace(PLAIN, keeps=(keeps,) * 6, accuracy=(accuracy,) * 6)
    return evidence(stopped, model=name)


def sparse(value_bits: int, keeps: float) -> Setting:
    codec = f"TopK(fraction=0.1, value_bits={value_bits}, entropy=False, max_bytes=268435456)"
    return dataclasses.replace(PLAIN, codec=codec, keeps=(keeps,) * 6, traits={})


def shredded(accuracy: float, snr_db: float = 1.5, **changes: Any) -> list[Evidence]:
    made = named("shredder", 0.8, accuracy, expression="Shredder(finetune_epochs=0)", **changes)
    return evidence(made, snr_db=snr_db)


def laplace(accuracy: float, snr_db: float, epochs: int = 0) -> list[Evidence]:
    expression = f"LaplaceNoise(noise_std={snr_db}, finetune_epochs={epochs})"
    return evidence(named("laplace_noise", 0.8, accuracy, expression=expression), snr_db=snr_db)


def hidden(naive: float, adaptive: float, accuracy: float = 0.86) -> list[Evidence]:
    """Noise, attacked by who does not expect it and by who does."""
    keeps = (noisy(0.5, "hidden"), naive), (noisy(0.5), adaptive)
    return evidence(
        *(
            dataclasses.replace(setting, keeps=(leak,) * 6, accuracy=(accuracy,) * 6)
            for setting, leak in keeps
        )
    )


def no_peek(naive: float, retrained: float, correlation: float = 0.3) -> list[Evidence]:
    """Beside an undefended L of 0.98 and a distance correlation of 0.8."""
    attacked = named("no_peek", naive, threat="hidden"), named("no_peek", retrained)
    return evidence(PLAIN, distance_correlation=0.8) + evidence(
        *attacked, distance_correlation=correlation
    )


def rotated(known: float, secret: float | None = None) -> list[Evidence]:
    found = evidence(PLAIN, named("secret_rotation", known))
    if secret is None:
        return found
    return found + of_threat(evidence(named("secret_rotation", secret)), key="secret")


CASES = {
    "hides_from_the_naive": (hidden(0.3, 0.8), hidden(0.7, 0.5)),
    "retraining_recovers_part": (no_peek(0.2, 0.8), no_peek(0.8, 0.2)),
    "known_key_hides_nothing": (rotated(0.984, 0.1), rotated(0.9, 0.1)),
    "learnt_noise_costs_less": (
        shredded(0.82) + laplace(0.9, 6.0) + laplace(0.7, 0.0) + laplace(0.5, -6.0),
        shredded(0.75) + laplace(0.9, 6.0) + laplace(0.7, 0.0),
    ),
    "eight_bits_hide_nothing": (
        evidence(PLAIN, bits(8, (0.984,) * 6, (0.88,) * 6)),
        evidence(PLAIN, bits(8, (0.7,) * 6, (0.88,) * 6)),
    ),
    "training_privacy_is_another": (
        short("le_net5, DP-SGD epsilon=8", 0.93, 0.73)
        + short("le_net5, stopped early", 0.94, 0.75),
        short("le_net5, DP-SGD epsilon=8", 0.6, 0.73) + short("le_net5, stopped early", 0.94, 0.75),
    ),
    "places_tell_nearly_all": (
        evidence(sparse(32, 0.9), sparse(1, 0.85)),
        evidence(sparse(32, 0.9), sparse(1, 0.3)),
    ),
}


@pytest.mark.parametrize("fact", NAMES)
def test_a_fact_holds_where_the_records_say_so(fact: str) -> None:
    assert judged(fact, CASES[fact][0]) == "holds"


@pytest.mark.parametrize("fact", NAMES)
def test_a_fact_that_does_not_hold_is_reported_as_such(fact: str) -> None:
    assert judged(fact, CASES[fact][1]) == "does not hold"


@pytest.mark.parametrize("fact", NAMES)
def test_a_fact_that_was_not_looked_for_is_not_claimed(fact: str) -> None:
    assert judged(fact, evidence(PLAIN)) == "not run"


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (shredded(0.95, stochastic=False) + laplace(0.9, 6.0) + laplace(0.7, 0.0), "does not hold"),
        (shredded(0.77) + laplace(0.9, 6.0) + laplace(0.7, 0.0), "does not hold"),
        (shredded(0.95, snr_db=7.0) + laplace(0.9, 6.0) + laplace(0.7, 0.0), "not run"),
        (shredded(0.95) + laplace(0.9, 6.0, 3) + laplace(0.7, 0.0, 3), "not run"),
    ],
    ids=["the same noise", "within the interval", "beyond the settings", "a server that learnt"],
)
def test_noise_is_compared_where_it_is_as_strong_and_fresh(
    found: list[Evidence], told: str
) -> None:
    """Laplace noise at 1.5 dB, a quarter of the way: an accuracy of 75 %."""
    assert judged("learnt_noise_costs_less", found) == told


@pytest.mark.parametrize(
    "found",
    [hidden(0.6, 0.9), hidden(0.3, 0.35), hidden(0.3, 0.8, accuracy=0.8)],
    ids=["the naive attack sees enough", "the other sees no more", "the task is lost"],
)
def test_a_defense_hides_from_the_naive_where_it_hides_and_costs_little(
    found: list[Evidence],
) -> None:
    assert judged("hides_from_the_naive", found) == "does not hold"


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (no_peek(0.8, 0.8), "does not hold"),
        (no_peek(0.2, 0.984), "does not hold"),
        (no_peek(0.2, 0.8, correlation=0.85), "does not hold"),
        (evidence(PLAIN, named("no_peek", 0.8), distance_correlation=0.8), "not run"),
    ],
    ids=["nothing recovered", "all recovered", "no less correlated", "nobody naive"],
)
def test_retraining_recovers_part_of_what_fell(found: list[Evidence], told: str) -> None:
    assert judged("retraining_recovers_part", found) == told


@pytest.mark.parametrize(
    ("found", "without"),
    [(rotated(0.984, 0.1), "without the key 0.100"), (rotated(0.984), "without the key not mea")],
    ids=["attacked", "not attacked"],
)
def test_what_is_found_without_the_key_stands_beside_what_is_found_with_it(
    found: list[Evidence], without: str
) -> None:
    assert judged("known_key_hides_nothing", found) == "holds"
    assert without in as_markdown(boards(found, resamples=100))


def test_a_system_is_compared_with_the_undefended_one_of_its_own_model() -> None:
    other = evidence(named("secret_rotation", 0.984), model="another")
    assert judged("known_key_hides_nothing", evidence(PLAIN) + other) == "not run"


def test_models_of_different_accuracy_are_not_compared() -> None:
    found = short("le_net5, DP-SGD epsilon=8", 0.93, 0.6) + short(
        "le_net5, stopped early", 0.94, 0.8
    )
    assert judged("training_privacy_is_another", found) == "does not hold"
    assert "nothing follows" in as_markdown(boards(found, resamples=100))


def test_the_command_prints_and_writes_all_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, cells(cuts=("relu1",), targets=24))
    assert main(["facts", str(tmp_path), "--out", str(tmp_path / "facts.md")]) == 0
    assert "8-bit quantisation is no privacy" in capsys.readouterr().out
    written = (tmp_path / "facts.md").read_text("utf-8")
    assert written.count("\n| ") == len(FACTS) + 2  # heading and rule
    assert "not run" in written


def test_a_folder_without_records_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["facts", str(tmp_path)]) == 2
    assert "there are no records" in capsys.readouterr().err
