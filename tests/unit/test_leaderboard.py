"""Records to rows: what is averaged, what is raised, what is ranked, what is left out."""

import dataclasses
import random

import numpy as np
import pytest

from splitbench.leaderboard import Evidence, LeaderboardError, boards
from splitbench.leakage import leakage
from splitbench.link import Link
from splitbench.record import Interval
from splitbench.statistics import Resampler
from tests.unit.records import ATTACKS, FLOORS, SETTINGS, Setting, cells

UNDEFENDED, NOISE, MORE_NOISE, BITS8, BITS2, DISTILLED, NAIVE = SETTINGS
RESAMPLES = 200


def made(settings=SETTINGS, cuts=("relu3", "relu4"), **options):
    return [Evidence(*pair) for pair in cells(settings=settings, cuts=cuts, **options)]


def only_board(evidence, **options):
    (board,) = boards(evidence, resamples=RESAMPLES, **options)
    return board


def row_of(board, cut, setting, **threat):
    wanted = {"client": "weights", "defense": setting.threat, **threat}
    (row,) = [
        r
        for r in board.rows
        if r.cut == cut
        and r.message.defense == setting.expression
        and wanted.items() <= r.message.threat.items()
    ]
    return row


def changed(evidence, condition, **fields):
    """Evidence with fields of some records replaced."""
    return [
        Evidence(dataclasses.replace(e.record, **fields), e.scores)
        if condition(e.record.cell)
        else e
        for e in evidence
    ]


@pytest.fixture(scope="module")
def board():
    return only_board(made())


def test_every_cut_defense_and_adversary_is_one_row(board):
    assert len(board.rows) == 2 * len(SETTINGS)
    assert board.cuts == ("relu3", "relu4")


def test_keys_of_the_configuration_are_no_part_of_the_adversary(board):
    evidence = [
        changed([e], lambda cell: True, cell=cell_with(e, _target_="splitbench.threat.ThreatModel"))
        for e in made()
    ]
    assert only_board([e for part in evidence for e in part]) == board


def cell_with(evidence, **threat):
    cell = evidence.record.cell
    return dataclasses.replace(cell, threat={**cell.threat, **threat})


def test_rows_do_not_depend_on_the_order_of_the_records(board):
    evidence = made()
    random.Random(3).shuffle(evidence)
    assert only_board(evidence) == board


def test_the_leakage_of_a_row_is_that_of_its_best_single_attack(board):
    row = row_of(board, "relu4", DISTILLED)
    each = {e.name: e.leakage.mean for e in row.attacks if not e.floor and e.leakage}
    assert row.best == max(each, key=each.get) == "inverse_network"
    assert row.raw.mean == pytest.approx(each["inverse_network"], abs=1e-12)


def test_floors_are_entries_but_never_the_best_attack():
    silent = dataclasses.replace(NOISE, keeps=(-0.5,) * 6)
    board = only_board(made((silent,), ("relu3",)))
    (row,) = board.rows
    assert [e.name for e in row.attacks if e.floor] == sorted(FLOORS)
    assert row.best in ATTACKS
    assert row.raw.mean < 0


def test_the_interval_agrees_with_that_of_the_leakage_protocol():
    evidence = made((UNDEFENDED,), ("relu3",), attacks=("inverse_network", "ridge"))
    (row,) = only_board(evidence).rows
    mse = np.stack([e.scores.metrics["mse"] for e in evidence], axis=1)
    floors = evidence[0].scores.floors
    blind = np.stack([floors["constant_color/mse"], floors["mean_image/mse"]], axis=1)
    expected = leakage(mse, blind, resampler=Resampler(resamples=RESAMPLES))
    assert row.raw.mean == pytest.approx(expected.mean)
    assert (row.raw.low, row.raw.high) == pytest.approx((expected.low, expected.high))


def few(scores, count):
    """What an attack on the first few targets keeps."""
    first = {name: {k: v[:count] for k, v in getattr(scores, name).items()} for name in
             ("metrics", "floors", "null")}  # fmt: skip
    return dataclasses.replace(scores, **first)


def test_an_attack_on_few_targets_is_measured_against_the_best_thorough_one_on_the_same_targets():
    search, ridge = (
        made((UNDEFENDED,), ("relu3",), attacks=(name,))[0]
        for name in ("likelihood_maximization", "ridge")
    )
    errors, others = search.scores.metrics["mse"], ridge.scores.metrics["mse"]
    floor = ridge.scores.floors["mean_image/mse"].mean()
    ratio = errors.mean() / others[: len(errors)].mean()
    (row,) = only_board([search, ridge]).rows
    assert row.targets == 96
    (entry,) = (e for e in row.attacks if e.name == "likelihood_maximization")
    assert entry.leakage.mean == pytest.approx(1 - ratio * others.mean() / floor)


def test_easy_targets_do_not_favour_an_attack_that_took_on_only_those():
    search, ridge = (
        made((UNDEFENDED,), ("relu3",), attacks=(name,))[0]
        for name in ("likelihood_maximization", "ridge")
    )
    same = dataclasses.replace(search, scores=few(ridge.scores, 16))
    own = ridge.scores.floors["mean_image/mse"]
    assert own[:16].mean() != pytest.approx(own.mean())
    (row,) = only_board([same, ridge]).rows
    assert [e.leakage.mean for e in row.attacks] == pytest.approx([row.raw.mean] * 2)


def test_an_attack_on_few_targets_without_a_thorough_one_is_scored_on_its_own_targets():
    search = made((UNDEFENDED,), ("relu3",), attacks=("likelihood_maximization",))
    (row,) = only_board(search).rows
    assert row.targets == 16
    assert row.raw.mean == pytest.approx(0.52 * 0.8)


def test_an_undefended_row_is_raised_by_what_can_be_computed_from_it(board):
    row = row_of(board, "relu3", UNDEFENDED)
    assert row.raw.mean == pytest.approx(0.52)
    assert row.closed.mean == pytest.approx(0.56)
    assert row.closed_by == "quantization bits=8 at relu3"
    assert "closure_raised" in row.flags


def test_a_row_that_leads_anyway_is_not_raised(board):
    row = row_of(board, "relu4", UNDEFENDED)
    assert row.closed.mean == pytest.approx(row.raw.mean)
    assert row.closed_by is None
    assert "closure_raised" not in row.flags


def test_a_deeper_undefended_cut_raises_a_shallower_one_but_never_the_other_way():
    odd = dataclasses.replace(UNDEFENDED, keeps=(0.9, 0.9, 0.9, 0.4, 0.4, 0.7))
    board = only_board(made((odd,), ("relu2", "relu3", "relu4")))
    closed = {r.cut: round(r.closed.mean, 6) for r in board.rows}
    assert closed == {"relu2": 0.9, "relu3": 0.7, "relu4": 0.7}
    assert row_of(board, "relu3", odd).closed_by == "undefended at relu4"


def test_less_noise_is_raised_by_more_noise_but_not_by_another_cut():
    odd = dataclasses.replace(MORE_NOISE, keeps=(0.5, 0.5, 0.5, 0.5, 0.5, 0.9))
    board = only_board(made((NOISE, odd)))
    assert row_of(board, "relu3", NOISE).closed.mean == pytest.approx(0.5)
    assert row_of(board, "relu4", NOISE).closed.mean == pytest.approx(0.9)
    assert row_of(board, "relu3", odd).closed.mean == pytest.approx(0.5)


def test_a_separately_trained_client_raises_nothing():
    odd = dataclasses.replace(DISTILLED, keeps=(0.99,) * 6)
    board = only_board(made((UNDEFENDED, odd)))
    assert row_of(board, "relu3", UNDEFENDED).closed.mean == pytest.approx(0.52)


def test_a_row_with_a_broken_evaluation_raises_nothing():
    bits8 = lambda cell: cell.defense == BITS8.expression  # noqa: E731
    evidence = changed(made((UNDEFENDED, BITS8)), bits8, flags=("above_one",))
    board = only_board(evidence)
    assert row_of(board, "relu3", UNDEFENDED).closed_by is None
    assert row_of(board, "relu3", BITS8).rank is None


def test_records_without_traits_are_not_assumed_to_follow_from_anything():
    evidence = changed(made((UNDEFENDED, BITS8)), lambda cell: True, traits={})
    board = only_board(evidence)
    assert row_of(board, "relu3", UNDEFENDED).closed_by is None


def test_protocols_data_and_models_are_never_mixed():
    evidence = [
        *made((NOISE,), ("relu3",), protocol="standard-1"),
        *made((NOISE,), ("relu3",), protocol="lite-1"),
        *made((NOISE,), ("relu3",), data="faces"),
        *made((NOISE,), ("relu3",), targets=48),
    ]
    found = boards(evidence, resamples=RESAMPLES)
    keys = [(b.protocol, b.data, b.rows[0].targets) for b in found]
    assert len(found) == 4
    assert len(set(keys)) == 4


def test_places_follow_closed_leakage_and_overlapping_intervals_share_them(board):
    ranked = [r for r in board.rows if r.cut == "relu3" and r.rank is not None]
    assert [r.closed.mean for r in ranked] == sorted(r.closed.mean for r in ranked)
    assert ranked[0].rank == (1, 1)
    for row in ranked:
        ahead = sum(o.closed.high < row.closed.low for o in ranked)
        behind = sum(o.closed.low > row.closed.high for o in ranked)
        assert row.rank == (1 + ahead, len(ranked) - behind)
    assert any(first < last for first, last in (r.rank for r in ranked))


def test_reference_and_naive_rows_are_never_ranked(board):
    assert all(r.rank is None for r in board.rows if r.undefended or r.naive)


def test_a_failed_cell_is_an_entry_with_its_error_and_keeps_its_row_from_being_ranked(board):
    row = row_of(board, "relu4", DISTILLED)
    (failed,) = [e for e in row.attacks if e.failed]
    assert failed.name == "ridge"
    assert failed.leakage is None
    assert "singular" in failed.note
    assert "incomplete" in row.flags
    assert row.rank is None
    assert row.raw is not None


def test_a_row_without_any_success_is_still_a_row_and_says_why():
    evidence = [
        Evidence(dataclasses.replace(e.record, status="failed", error="RuntimeError: no memory"))
        for e in made((NOISE,), ("relu3",))
    ]
    (row,) = only_board(evidence).rows
    assert row.raw is None
    assert row.closed is None
    assert row.missing["closed"] == "RuntimeError: no memory"
    assert row.accuracy is not None
    assert row.rank is None


def test_attacks_that_the_threat_model_rules_out_do_not_make_a_row_incomplete():
    evidence = [
        Evidence(dataclasses.replace(e.record, status="not_applicable", error="needs weights"))
        if e.record.cell.attack_name == "likelihood_maximization"
        else e
        for e in made((NOISE,), ("relu3",))
    ]
    (row,) = only_board(evidence).rows
    assert "incomplete" not in row.flags
    assert row.rank == (1, 1)
    assert [e.note for e in row.attacks if e.note] == ["needs weights"]


def test_unavailable_metrics_have_a_reason_and_available_ones_a_value(board):
    row = row_of(board, "relu3", NOISE)
    assert "lpips" not in row.quality
    assert "AlexNet" in row.missing["lpips"]
    assert {"psnr_db", "ssim", "top1"} == {*row.quality}


def test_the_loss_of_accuracy_is_against_the_undefended_model(board):
    row = row_of(board, "relu3", MORE_NOISE)
    assert row.accuracy_drop.mean == pytest.approx(0.882 - 0.76)
    assert row.accuracy_drop.low < row.accuracy_drop.mean < row.accuracy_drop.high
    reference = row_of(board, "relu3", UNDEFENDED)
    assert reference.accuracy_drop is None
    assert "undefended" in reference.missing["accuracy_drop"]


def test_payload_is_set_against_the_raw_image_and_varying_lengths_are_flagged(board):
    row = row_of(board, "relu3", BITS2)
    assert row.payload_bytes_max == 152
    assert row.payload_ratio == pytest.approx(row.payload_bytes_mean / (28 * 28))
    assert "payload_varies" in row.flags
    assert "payload_varies" not in row_of(board, "relu3", BITS8).flags


def test_end_to_end_time_adds_the_link_and_is_absent_without_one(board):
    link = Link(name="slow", up_mbps=1.0, down_mbps=1.0, rtt_ms=10.0)
    row = row_of(only_board(made((NOISE,), ("relu3",)), link=link), "relu3", NOISE)
    assert row.client_ms == pytest.approx(1.6 + 0.1)  # the client, and its encoder
    assert row.server_ms == pytest.approx(0.1 + 1.0)  # the decoder, and the server
    compute = row.client_ms + row.server_ms
    transfer = link.transfer_ms(row.payload_bytes_mean)
    assert row.end_to_end_ms == pytest.approx(compute + transfer)
    without = row_of(board, "relu3", NOISE)
    assert without.end_to_end_ms is None
    assert without.missing["end_to_end_ms"] == "no link was named"


def test_tails_are_those_of_the_best_attack(board):
    row = row_of(board, "relu3", NOISE)
    assert row.raw.mean < row.p95.mean <= row.p99.mean < 1
    assert row.raw.mean < row.p95.mean <= row.cvar5.mean < 1
    assert 0 < row.share_above_half.mean < 1


def test_tails_have_intervals_which_more_targets_narrow(board):
    row = row_of(board, "relu3", NOISE)
    for tail in (row.p95, row.p99, row.cvar5, row.share_above_half):
        assert tail.low < tail.mean < tail.high
    many = row_of(only_board(made((NOISE,), ("relu3",), targets=1000)), "relu3", NOISE)
    assert many.p95.high - many.p95.low < row.p95.high - row.p95.low


def test_several_seeds_widen_the_interval_and_are_counted():
    one = only_board(made((NOISE,), ("relu3",))).rows[0]
    evidence = made((NOISE,), ("relu3",), seeds=3)
    shaken = []
    for e in evidence:
        factor = 1 + 0.08 * (e.record.cell.seed - 1)
        metrics = {**e.scores.metrics, "mse": e.scores.metrics["mse"] * factor}
        shaken.append(Evidence(e.record, dataclasses.replace(e.scores, metrics=metrics)))
    many = only_board(shaken).rows[0]
    assert (one.seeds, many.seeds) == (1, 3)
    assert many.raw.high - many.raw.low > one.raw.high - one.raw.low


@pytest.mark.parametrize(
    ("keeps", "flagged"),
    [((0.4, 0.5), True), ((0.4, 0.43, 0.46), True), ((0.4, 0.44), False), ((0.4,), False)],
    ids=["far apart", "the ends apart", "near", "a single seed"],
)
def test_seeds_that_disagree_are_flagged_and_others_are_not(keeps, flagged):
    evidence = []
    for seed, kept in enumerate(keeps):
        setting = dataclasses.replace(NOISE, keeps=(kept,) * 6)
        found = made((setting,), ("relu3",), seeds=len(keeps))
        evidence += [e for e in found if e.record.cell.seed == seed]
    (row,) = only_board(evidence).rows
    assert ("seeds_spread" in row.flags) == flagged


def test_a_seed_at_which_an_attack_failed_counts_for_no_attack():
    evidence = [
        Evidence(dataclasses.replace(e.record, status="failed", error="boom"))
        if (e.record.cell.seed, e.record.cell.attack_name) == (1, "ridge")
        else e
        for e in made((NOISE,), ("relu3",), seeds=3)
    ]
    (row,) = only_board(evidence).rows
    assert row.seeds == 2
    assert "incomplete" in row.flags


def test_a_record_that_is_not_of_its_own_scores_is_flagged():
    wrong = {"L": Interval(mean=0.9, low=0.8, high=0.95, n=96)}
    evidence = changed(made((NOISE,), ("relu3",)), lambda c: not c.floor, leakage=wrong)
    (row,) = only_board(evidence).rows
    assert "inconsistent" in row.flags
    assert row.rank is None


def test_flags_of_the_best_attack_and_blind_leaks_reach_the_row_others_do_not():
    evidence = made((NOISE,), ("relu3",))
    for name, flag in (
        ("inverse_network", "few_targets"),
        ("ridge", "at_floor"),
        ("shuffled_pairs", "blind_leaks"),
    ):
        evidence = changed(evidence, lambda c, n=name: c.attack_name == n, flags=(flag,))
    (row,) = only_board(evidence).rows
    assert row.flags == ("blind_leaks", "few_targets")


def test_equal_cells_from_other_code_are_replaced_and_it_is_said():
    newer = made((NOISE, UNDEFENDED), ("relu3",))
    older = [
        Evidence(
            dataclasses.replace(
                e.record, cell_id=f"old{e.record.cell_id}", environment={"code": "older"}
            ),
            e.scores,
        )
        for e in made((NOISE,), ("relu3",))
    ]
    board = only_board([*older, *newer])
    assert board.rows == only_board(newer).rows
    assert any("8 records were left out" in note for note in board.notes)


def test_equal_cells_from_the_same_code_are_refused_by_name():
    evidence = made((NOISE,), ("relu3",), attacks=("ridge",))
    twin = dataclasses.replace(evidence[0].record, cell_id="ffff")
    with pytest.raises(LeaderboardError, match="ffff"):
        boards([*evidence, Evidence(twin, evidence[0].scores)])


def test_a_success_without_scores_is_refused_by_name():
    evidence = made((NOISE,), ("relu3",), attacks=("ridge",))
    with pytest.raises(LeaderboardError, match=evidence[0].record.cell_id):
        boards([Evidence(evidence[0].record)])


def test_labels_show_the_knob_and_what_else_tells_rows_apart():
    def setting(name, expression, codec):
        return Setting(name, expression, codec, (0.5,) * 6, (0.8,) * 6, (100,) * 6)

    settings = (
        setting("noise", "Noise(std=0.5, per='tensor', epochs=0)", "Float32()"),
        setting("noise", "Noise(std=0.5, per='channel', epochs=0)", "Float32()"),
        setting("none", "NoDefense()", "Float32()"),
        setting("none", "NoDefense()", "Uniform(bits=4, clip=None)"),
    )
    labels = {r.label for r in only_board(made(settings, ("relu3",), attacks=("ridge",))).rows}
    assert labels == {
        "noise std=0.5 per=tensor",
        "noise std=0.5 per=channel",
        "undefended as Float32",
        "undefended as Uniform bits=4",
    }


def test_a_row_that_has_not_met_an_attack_of_others_is_incomplete_and_unranked():
    evidence = made()
    full = only_board(evidence)
    before = {(r.cut, r.label) for r in full.rows if "incomplete" in r.flags}
    stopped = row_of(full, "relu3", NOISE)
    assert (stopped.cut, stopped.label) not in before
    last = stopped.attacks[-1]

    def lost(cell):
        told = (cell.cut, cell.defense, cell.threat, cell.attack_name)
        return told == ("relu3", NOISE.expression, stopped.message.threat, last.name)

    left = [item for item in evidence if not lost(item.record.cell)]
    row = row_of(only_board(left), "relu3", NOISE)
    assert "incomplete" in row.flags
    assert row.rank is None
    assert row.missing["attacks"] == f"not tried on this row: {last.name}"
    after = {(r.cut, r.label) for r in only_board(left).rows if "incomplete" in r.flags}
    assert after - before == {(row.cut, row.label)}
