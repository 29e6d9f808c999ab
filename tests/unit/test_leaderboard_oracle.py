"""The envelope over attacks: inflated by choice alone, and put right by the null channel."""

import dataclasses

import numpy as np
import pytest
import torch

from splitbench.leaderboard import Evidence, boards
from splitbench.null_channel import other_targets
from splitbench.record import Interval, Scores
from tests.unit.records import SETTINGS, cells

NOISE = SETTINGS[1]
TARGETS, SIDE, FEW = 300, 3, 40
((TEMPLATE, _),) = cells(settings=(NOISE,), cuts=("relu3",), attacks=("ridge",))
IMAGES = np.random.default_rng(0).uniform(0, 1, (TARGETS, SIDE, SIDE))
OTHER = other_targets(TARGETS).numpy()


def mse(guess, truth):
    return ((guess - truth) ** 2).mean((1, 2))


def blind(images):
    return {
        "constant_color/mse": mse(np.full_like(images, 0.5), images),
        "mean_image/mse": mse(np.broadcast_to(IMAGES.mean(0), images.shape), images),
    }


def evidence(name, guess, seed=0, null=True):
    """The record of an attack that made these guesses for the first targets."""
    n = len(guess)
    errors, floors = mse(guess, IMAGES[:n]), blind(IMAGES[:n])
    there = {"mse": mse(guess, IMAGES[OTHER[:n]]), **blind(IMAGES[OTHER[:n]])}
    leak = 1 - errors.mean() / min(v.mean() for v in floors.values())
    record = dataclasses.replace(
        TEMPLATE,
        cell_id=f"{name}-{seed}",
        targets=n,
        cell=dataclasses.replace(TEMPLATE.cell, attack=name, attack_name=name, seed=seed),
        leakage={"L": Interval(mean=leak, low=leak, high=leak, n=n)},
    )
    pixels = np.zeros((1, 1, SIDE, SIDE), np.uint8)
    scores = Scores({"mse": errors}, floors, pixels, pixels, there if null else {})
    return Evidence(record, scores)


def ignorant(count, seed=0):
    """Attacks that know nothing: the mean image mixed with a random image of their own."""
    rng = np.random.default_rng(seed + 1)
    draws = rng.uniform(0, 1, (count, TARGETS, SIDE, SIDE))
    return [
        evidence(f"ignorant{k}", 0.6 * IMAGES.mean(0) + 0.4 * draw, seed)
        for k, draw in enumerate(draws)
    ]


def informed(share, count=TARGETS):
    return evidence("informed", IMAGES.mean(0) + share * (IMAGES[:count] - IMAGES.mean(0)))


def row_of(found):
    ((row,),) = [board.rows for board in boards(found, resamples=200)]
    return row


def test_without_a_leak_the_envelope_grows_with_the_attacks_and_the_corrected_one_does_not():
    rows = [row_of(ignorant(16)[:count]) for count in (1, 4, 16)]
    raw = [row.oracle_max.mean for row in rows]
    assert raw == sorted(raw)
    assert raw[-1] > 0.15 > 2 * raw[0]
    assert all(row.best_single.mean < 0 for row in rows)
    for row in rows:
        assert row.oracle_null.mean == pytest.approx(row.oracle_max.mean, abs=0.03)
        assert row.oracle_corrected.low < 0 < row.oracle_corrected.high
        assert abs(row.oracle_corrected.mean) < 0.03


def test_a_leak_stays_when_the_envelope_is_corrected():
    row = row_of([informed(0.5), *ignorant(4)])
    assert row.oracle_corrected.low > 0.5
    assert row.oracle_null.mean > 0
    assert row.best_single.mean <= row.oracle_max.mean < 1
    assert row.oracle_corrected.mean < row.oracle_max.mean


def test_an_exact_recovery_stays_1_when_the_envelope_is_corrected():
    row = row_of([informed(1.0), *ignorant(4)])
    assert row.oracle_null.mean > 0.05
    assert (row.oracle_max.mean, row.oracle_corrected.mean) == pytest.approx((1, 1))


def test_the_corrected_envelope_is_that_of_its_definition():
    row = row_of([informed(0.3), *ignorant(3)])
    gained, chance = row.oracle_max.mean, row.oracle_null.mean
    assert row.oracle_corrected.mean == pytest.approx((gained - chance) / (1 - chance))


def test_the_envelope_is_the_mean_of_the_least_errors_and_is_not_ranked_by():
    found = [informed(0.5), *ignorant(2)]
    row = row_of(found)
    errors = [e.scores.metrics["mse"] for e in found]
    floors = found[0].scores.floors.values()
    least = np.min([*errors, *floors], axis=0).mean()
    assert row.oracle_max.mean == pytest.approx(1 - least / min(f.mean() for f in floors))
    assert row.closed == row.raw == row.best_single


def test_an_attack_on_few_targets_takes_part_in_the_choice_for_these_alone():
    alone, both = row_of(ignorant(1)), row_of([*ignorant(1), informed(1.0, count=FEW)])
    (guess,) = ignorant(1)
    floors = guess.scores.floors.values()
    least = np.min([guess.scores.metrics["mse"], *floors], axis=0)
    least[:FEW] = 0
    floor = min(f.mean() for f in floors)
    assert both.oracle_max.mean == pytest.approx(1 - least.mean() / floor)
    assert both.oracle_max.mean > alone.oracle_max.mean


def test_every_seed_has_an_envelope_of_its_own():
    first, second = ignorant(4, seed=0), ignorant(4, seed=1)
    both = row_of([*first, *second]).oracle_max.mean
    assert both == pytest.approx(
        np.mean([row_of(part).oracle_max.mean for part in (first, second)])
    )


def test_records_without_a_null_channel_have_no_envelope_and_say_so():
    row = row_of([evidence("old", IMAGES, null=False), *ignorant(1)])
    assert row.oracle_max is None
    assert row.oracle_corrected is None
    assert "null channel" in row.missing["oracle_max"]


@pytest.mark.parametrize("count", [2, 3, 100])
def test_the_null_channel_is_one_cycle_through_all_targets(count):
    other = other_targets(count)
    assert torch.equal(other.sort().values, torch.arange(count))
    at, visited = 0, set()
    for _ in range(count):
        at = int(other[at])
        visited.add(at)
    assert len(visited) == count
    assert torch.equal(other, other_targets(count))


def test_a_single_target_has_no_null_channel():
    with pytest.raises(ValueError, match="count=1"):
        other_targets(1)
