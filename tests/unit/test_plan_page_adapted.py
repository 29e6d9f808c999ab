"""A network played again, on the report of a plan: read with care, drawn as it was."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import adapt
from experiments.errors import UserError
from experiments.plan_page import policies, timeline
from experiments.plan_page.adapted import read_adapted
from offloading.adaptation.estimator import HarmonicMean
from offloading.adaptation.load import Load
from offloading.adaptation.menu import Menu
from offloading.adaptation.policy import Bandit, Static, Table
from offloading.adaptation.replay import Clairvoyant, replay
from offloading.constraints import Constraints
from tests.unit.test_offloading_adaptation import EVERY, STEP, TIMES, choice

LIMIT = 0.6
IDLE = Load.constant(0)


def document(
    choices=EVERY, *, trace=STEP, times=TIMES, deadline_ms=np.inf, singles=(0, 1), load=IDLE
):
    """What the command writes."""
    menu = Menu(choices, leakage_limit=LIMIT)
    every = [
        Table(menu, HarmonicMean(), mbps=20.0),
        Bandit(menu, HarmonicMean(), mbps=20.0),
        *(Static(menu, single) for single in singles),
        Clairvoyant(menu, trace, dict(zip(times.tolist(), load.at(times).tolist(), strict=True))),
    ]
    how = {"load": load.at(times), "deadline_ms": deadline_ms}
    found = [replay(policy, menu, trace, times, **how) for policy in every]
    played = adapt.Played(
        menu=menu,
        limits=Constraints(leakage=LIMIT),
        trace=trace,
        load=load,
        basis="assumed",
        invented=True,
        replays=tuple(found),
    )
    return json.loads(adapt.document(played))


def written(raw, folder):
    path = folder / "adapted.json"
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw))
    return path


def adapted_of(raw, folder):
    return read_adapted(written(raw, folder))


def lanes(drawing):
    """Begin, end and plan of each stretch, by policy."""
    names = drawing.figure.layout.yaxis2.ticktext
    found = {name: [] for name in names}
    for trace in drawing.figure.data:
        if trace.type == "bar":
            for row, base, length, told in zip(
                trace.y, trace.base, trace.x, trace.hovertext, strict=True
            ):
                plan = told.partition(": ")[2].partition("<br>")[0]
                found[names[row]].append((base, base + length, plan))
    return {name: sorted(parts) for name, parts in found.items()}


def test_the_lanes_show_which_plan_each_policy_used_and_when(tmp_path):
    raw = document()
    found = lanes(timeline.drawing(adapted_of(raw, tmp_path)))
    assert list(found) == ["table", "bandit", "clairvoyant"]
    for policy in raw["policies"]:
        if policy["policy"] not in found:
            continue
        parts = found[policy["policy"]]
        assert [end for _, end, _ in parts[:-1]] == [begin for begin, _, _ in parts[1:]]
        assert (parts[0][0], parts[-1][1]) == (0, 120)
        for second, number in zip(policy["seconds"], policy["chosen"], strict=True):
            (plan,) = [name for begin, end, name in parts if begin <= second < end]
            assert plan == raw["plans"][number]["name"]


def test_the_lines_end_at_the_regret_of_all_requests_and_begin_with_the_rate(tmp_path):
    raw = document()
    figure = timeline.drawing(adapted_of(raw, tmp_path)).figure
    rates = [t for t in figure.data if t.type == "scatter" and t.yaxis is None]
    assert rates[0].y == pytest.approx(raw["policies"][0]["mbps"])
    assert rates[1].y == pytest.approx(raw["policies"][0]["estimates_mbps"], rel=1e-4)
    regrets = [trace.y[-1] for trace in figure.data if trace.yaxis == "y3"]
    wanted = [sum(p["latency_ms"]) - sum(p["best_ms"]) for p in raw["policies"][:-1]]
    assert regrets == pytest.approx([ms / 1000 for ms in wanted], rel=1e-4)


def test_a_long_replay_is_thinned_out_without_losing_time_or_regret(tmp_path):
    times = np.arange(0, 1200, 0.25)
    adapted = adapted_of(document(times=times), tmp_path)
    drawing = timeline.drawing(adapted)
    assert len(times) > 4 * timeline.MOST
    assert "each point stands for 8 requests" in drawing.rests
    for trace in drawing.figure.data:
        assert len(trace.x) <= timeline.MOST
    for parts in lanes(drawing).values():
        assert sum(end - begin for begin, end, _ in parts) == pytest.approx(1200, rel=1e-3)
    table = next(trace for trace in drawing.figure.data if trace.yaxis == "y3")
    assert table.y[-1] == pytest.approx(adapted.replays[0].regret_ms.sum() / 1000, rel=1e-4)
    assert "each point" not in timeline.drawing(adapted_of(document(), tmp_path)).rests


def test_the_rows_have_the_numbers_of_the_document(tmp_path):
    raw = document(deadline_ms=90.0)
    found = list(policies.rows(adapted_of(raw, tmp_path)))
    assert [row.name for row in found][:2] == ["table", "bandit"]
    for row, policy in zip(found, raw["policies"], strict=True):
        assert row.mean_ms == pytest.approx(np.mean(policy["latency_ms"]))
        assert row.p95_ms == pytest.approx(np.quantile(policy["latency_ms"], 0.95))
        assert row.regret_ms == pytest.approx(policy["mean_regret_ms"], abs=1e-9)
        assert row.late == policy["violations"]
        assert row.changes == pytest.approx(policy["changes_per_minute"])
    assert all(row.late is None for row in policies.rows(adapted_of(document(), tmp_path)))


def test_a_single_plan_is_named_by_its_letter_and_the_best_one_is_said_to_be(tmp_path):
    raw = document()
    adapted = adapted_of(raw, tmp_path)
    single = [row for row in policies.rows(adapted) if row.name.startswith("always")]
    keys = {key.sign: key.label for key in timeline.drawing(adapted).keys if key.sign.isalpha()}
    for row, number in zip(single, (0, 1), strict=True):
        assert keys[row.name.removeprefix("always ")] == raw["plans"][number]["name"]
    means = [row.mean_ms for row in single]
    said = ["afterwards" in row.what for row in single]
    assert said.index(True) == means.index(min(means))
    assert sum(said) == 1


def test_the_sentence_says_what_changing_was_worth(tmp_path):
    adapted = adapted_of(document(), tmp_path)
    table = adapted.replays[0].latency_ms.mean()
    single = min(each.latency_ms.mean() for each in adapted.static)
    assert table < single
    said = policies.reading(adapted)
    assert f"{1 - table / single:.0%} less than the best single plan" in said
    assert "1 to 200 Mbit/s" in said


def test_the_sentence_says_so_where_changing_does_not_pay(tmp_path):
    raw = document()
    table, slower = raw["policies"][0], 200.0
    table["latency_ms"] = [ms + slower for ms in table["latency_ms"]]
    assert "changing does not pay" in policies.reading(adapted_of(raw, tmp_path))


def test_the_page_says_which_limits_the_menu_keeps_and_what_load_was_played(tmp_path):
    said = policies.rests(adapted_of(document(), tmp_path), 1)
    assert "3 plans within the limits (L <= 0.6); the other one exceeds them" in said
    assert "at the server" not in said
    burst = Load(seconds=(0.0, 50.0), waiting=(0.0, 30.0), source="burst.csv")
    raw = document(load=burst)
    assert raw["policies"][0]["waiting"] == [0.0] * 100 + [30.0] * 140
    said = policies.rests(adapted_of(raw, tmp_path), 1)
    assert "with 0 to 30 requests of others waiting at the server (burst.csv)" in said


def test_with_a_single_plan_there_is_nothing_to_change(tmp_path):
    raw = document([choice("only", payload_bytes=1000.0)], singles=(0,))
    said = policies.reading(adapted_of(raw, tmp_path))
    assert "only one plan" in said
    drawing = timeline.drawing(adapted_of(raw, tmp_path))
    assert {name for parts in lanes(drawing).values() for _, _, name in parts} == {"only"}


def test_more_plans_than_colours_have_one_sign_together(tmp_path):
    many = [choice(f"plan {i}", payload_bytes=1000.0 + i) for i in range(12)]
    raw = document(many, singles=(11,))
    raw["policies"][1]["chosen"] = [i % 12 for i in range(len(TIMES))]
    drawing = timeline.drawing(adapted_of(raw, tmp_path))
    signs = [key.sign for key in drawing.keys if not key.line]
    assert signs == [*"ABCDEFGH", "…"]
    assert "4 other plans" in {key.label for key in drawing.keys}
    assert "plan 11" in {key.label for key in drawing.keys}


def test_a_single_plan_that_lost_very_much_leaves_the_figure_and_the_legend_says_it(tmp_path):
    raw = document(singles=(0,))
    raw["policies"][2]["latency_ms"] = [1e5] * len(TIMES)
    drawing = timeline.drawing(adapted_of(raw, tmp_path))
    beyond = [key.label for key in drawing.keys if "beyond the figure" in key.label]
    assert len(beyond) == 1
    adaptive = [t for t in drawing.figure.data if t.yaxis == "y3" and t.line.color == "var(--ink)"]
    assert drawing.figure.layout.yaxis3.range[1] > max(trace.y[-1] for trace in adaptive)


def test_where_nothing_passes_the_line_of_the_rate_has_a_gap(tmp_path):
    still = dataclasses.replace(STEP, seconds=(0.0, 50.0, 60.0), mbps=(200.0, 0.0, 1.0))
    drawing = timeline.drawing(adapted_of(document(trace=still), tmp_path))
    rate = drawing.figure.data[0]
    assert {x for x, y in zip(rate.x, rate.y, strict=True) if y is None} == {
        *np.arange(50, 60, 0.5)
    }
    assert "nothing passes" in drawing.keys[0].label


def test_what_was_played_with_the_plans_of_another_front_is_left_out(tmp_path):
    path = written(document(), tmp_path)
    every = {each.name for each in EVERY}  # one of them leaks too much, and is named all the same
    assert read_adapted(path, every) is not None
    assert read_adapted(path, {*every, "another"}) is None
    assert read_adapted(tmp_path / "nowhere.json") is None


def spoiled(change):
    raw = document()
    change(raw)
    return json.dumps(raw)


def first(**changes):
    return lambda raw: raw["policies"][0].update(changes)


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"schema": 1}',
        '{"schema": 3}',
        '{"schema": 3, "trace": NaN}',
        spoiled(lambda raw: raw.update(policies=[])),
        spoiled(lambda raw: raw.update(plans=7)),
        spoiled(lambda raw: raw.update(basis="guessed")),
        spoiled(lambda raw: raw.pop("limits")),
        spoiled(lambda raw: raw.update(refused="some")),
        spoiled(lambda raw: raw["policies"].pop(0) and raw["policies"].pop(0)),
        spoiled(first(chosen=[9] * len(TIMES))),
        spoiled(first(chosen=[-1] * len(TIMES))),
        spoiled(first(chosen=[0])),
        spoiled(first(latency_ms=[None] * len(TIMES))),
        spoiled(first(latency_ms=[0.0] * len(TIMES))),
        spoiled(first(mbps=[-1.0] * len(TIMES))),
        spoiled(first(mbps="fast")),
        spoiled(first(waiting=[-1] * len(TIMES))),
        spoiled(first(waiting=[0])),
        spoiled(first(seconds=TIMES[::-1].tolist())),
        spoiled(first(seconds=(TIMES + 1).tolist())),
        spoiled(first(deadline_ms="soon")),
    ],
)
def test_a_damaged_file_is_refused_in_one_sentence(text, tmp_path):
    with pytest.raises(UserError) as caught:
        adapted_of(text, tmp_path)
    assert "adapted.json" in str(caught.value)
    assert "\n" not in str(caught.value)
