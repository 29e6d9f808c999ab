"""What is computed from a release leaks no more than it (O21), and choosing by the truth (O25)."""

import pytest
import torch
from evidence import judged
from laws import SIZES, Law, wiener
from worlds import Outcome, Static, build, gaussian_matrix, linear, smooth_covariance, wiener_risk

from attacks.inverse_network import InverseNetwork
from attacks.learned_retrieval import LearnedRetrieval
from attacks.nearest_neighbor import NearestNeighbor
from attacks.ridge import Ridge
from attacks.transformer_decoder import TransformerDecoder
from attacks.transposed_network import TransposedNetwork
from defenses.gaussian_noise import GaussianNoise
from defenses.no_defense import NoDefense
from splitbench.leaderboard import boards
from splitbench.rng import stream

FIRST = gaussian_matrix(12)
SECOND = gaussian_matrix(8, 12) @ FIRST
DECODER = {"width": 16, "blocks": 1, "heads": 0, "patch": 1, "steps": 600, "batch_size": 64}
ATTACKS = {"ridge": Ridge, "inverse_network": lambda: InverseNetwork(**DECODER)}
STDS = (0.3, 0.6)


def layer(matrix):
    """Some sums of smooth images, as they are."""
    covariance = smooth_covariance()
    world = build(linear(matrix), defense=NoDefense(), covariance=covariance, **SIZES)
    return wiener(world, matrix, covariance, 0.0, 1)


def noisy(std):
    """Those of the first layer under noise."""
    covariance = smooth_covariance()
    defense = GaussianNoise(noise_std=std)
    world = build(linear(FIRST), defense=defense, covariance=covariance, **SIZES)
    return wiener(world, FIRST, covariance, world.noise, 1)


@pytest.fixture(scope="module")
def layers() -> list[Law]:
    return [layer(FIRST), layer(SECOND)]


@pytest.fixture(scope="module")
def guesses(layers):
    """Of all attacks at both layers: name to one guess for each."""
    return {name: [law.guess(attack()) for law in layers] for name, attack in ATTACKS.items()}


def rows_of(evidence):
    ((*rows,),) = [board.rows for board in boards(evidence, resamples=200)]
    return sorted(rows, key=lambda row: (row.message.cut_index, row.message.defense))


def test_no_sums_of_a_release_say_more_than_it_does():
    generator, covariance = stream(0, "products"), smooth_covariance()
    for rows in range(1, 12):
        first = torch.randn(12, 16, generator=generator, dtype=torch.float64)
        second = torch.randn(rows, 12, generator=generator, dtype=torch.float64)
        before, after = (wiener_risk(m, 0.0, covariance) for m in (first, second @ first))
        assert before < after < 1


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_errs_more_at_the_later_layer_by_what_the_best_estimate_does(
    layers, guesses, name
):
    first, second = (law.world.squares(g) for law, g in zip(layers, guesses[name], strict=True))
    more = Outcome.of(second - first)
    wanted = layers[1].risk - layers[0].risk
    assert wanted > 0.1
    assert abs(more.error - wanted) < 0.02 * layers[1].risk + 4 * more.uncertainty
    for law, guess in zip(layers, guesses[name], strict=True):
        assert law.excess(guess).is_excess_below(0.02)


def test_closure_leaves_a_curve_alone_that_falls(layers, guesses):
    found = [
        judged(law.world, guess, attack=name, depth=depth)
        for name, both in guesses.items()
        for depth, (law, guess) in enumerate(zip(layers, both, strict=True), 1)
    ]
    rows = rows_of(found)
    for row, law in zip(rows, layers, strict=True):
        assert row.raw.mean == pytest.approx(1 - law.risk, abs=0.01)
        assert row.closed == row.raw
        assert row.flags == ()
    assert rows[0].closed.low > rows[1].closed.high


def test_closure_undoes_what_a_weak_attack_at_the_earlier_layer_overlooked(layers, guesses):
    early, late = layers
    weak = early.guess(InverseNetwork(**{**DECODER, "steps": 3}))
    rows = rows_of(
        [
            judged(early.world, weak, attack="inverse_network", depth=1),
            judged(late.world, guesses["ridge"][1], attack="ridge", depth=2),
        ]
    )
    assert rows[0].raw.high < rows[1].raw.low
    assert rows[0].closed.mean == pytest.approx(rows[1].closed.mean)
    assert rows[0].closed.mean <= 1 - early.risk
    assert "closure_raised" in rows[0].flags


def test_closure_takes_less_noise_to_leak_no_less_than_more_of_it():
    less, more = laws = [noisy(std) for std in STDS]
    found = [judged(law.world, law.guess(Ridge()), attack="ridge") for law in laws]
    falling = rows_of(found)
    assert [row.closed for row in falling] == [row.raw for row in falling]
    assert falling[0].closed.low > falling[1].closed.high
    weak = less.guess(InverseNetwork(**{**DECODER, "steps": 3}))
    raised = rows_of([judged(less.world, weak, attack="inverse_network"), found[1]])
    assert raised[0].raw.high < raised[1].raw.low
    assert raised[0].closed.mean == pytest.approx(1 - more.risk, abs=0.01)
    assert raised[1].closed == raised[1].raw
    assert "closure_raised" in raised[0].flags


def ensemble():
    """Attacks of six kinds that are fitted to a channel in a second."""
    few = {"steps": 60, "batch_size": 64}
    return {
        "ridge": Ridge(),
        "nearest": NearestNeighbor(neighbors=1),
        "neighbours": NearestNeighbor(neighbors=8),
        "learned_retrieval": LearnedRetrieval(components=16, steps=50, draws=2),
        "inverse_network": InverseNetwork(**{**DECODER, **few}),
        "transformer_decoder": TransformerDecoder(width=16, layers=1, heads=2, patch=4, **few),
        "transposed_network": TransposedNetwork(width=16, standardise=True, **few),
    }


def envelopes(defense):
    """Rows of one, of three and of all attacks of the ensemble, behind a defense."""
    covariance = smooth_covariance()
    sizes = {"auxiliary": 2000, "targets": 2000}
    world = build(linear(FIRST), defense=defense, covariance=covariance, **sizes)
    found = [judged(world, world.guess(a), attack=name) for name, a in ensemble().items()]
    return [rows_of(found[:count])[0] for count in (1, 3, len(found))]


def test_choosing_by_the_truth_among_attacks_that_learnt_nothing_gains_and_is_put_right():
    """O25."""
    rows = envelopes(Static())
    gained = [row.oracle_max.mean for row in rows]
    assert gained == sorted(gained)
    assert gained[-1] > 0.1
    for row in rows:
        assert row.best_single.low <= 0
        assert row.best_single.mean < 0.01
        assert row.oracle_max.low > 0
        assert row.oracle_null.mean == pytest.approx(row.oracle_max.mean, abs=0.01)
        assert row.oracle_corrected.low <= 0 <= row.oracle_corrected.high
        assert abs(row.oracle_corrected.mean) < 0.01


def test_choosing_by_the_truth_among_attacks_that_learnt_something_still_shows_it():
    row = envelopes(GaussianNoise(noise_std=0.6))[-1]
    assert row.oracle_null.low > 0.1
    assert row.oracle_max.mean > row.best_single.mean + 0.02
    assert row.oracle_corrected.mean == pytest.approx(row.best_single.mean, abs=0.02)
