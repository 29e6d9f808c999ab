"""The report of a plan: complete, true to the plan, safe, and silent towards the network."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest

from experiments.divided import Divided
from experiments.errors import UserError
from experiments.options import Evidence
from experiments.plan_page import (
    answer,
    checks,
    depth,
    fronts,
    knee,
    phases,
    rates,
    reasons,
    regions,
    words,
)
from experiments.plan_page.render import SHOWN, render
from experiments.plan_page.report import Report
from experiments.plan_page.sources import constants, heading, prices_of, remarks
from experiments.planning import Question
from offloading.constraints import Constraints
from offloading.mincut import Division
from offloading.planner import OBJECTIVES, Planner
from offloading.pricing import Function
from offloading.sensitivity import changes
from tests.unit.offloading_world import (
    ACCURACY,
    cloud,
    edge,
    function,
    option,
    options,
    phone,
    profile,
    scenario,
)
from tests.unit.test_page import HOSTILE, read, visible
from tests.unit.test_plan_page_adapted import document as adapted_document

PRICE = {
    "name": "AWS us-east-1, 2026",
    "date": "2026-06",
    "source": "imagined",
    "machine": {"usd_per_hour": 0.0816},
    "egress_usd_per_gb": 1,
}
LIMITS = Constraints(leakage=0.5)


def asked(
    limits=LIMITS, *, known=None, model="a chain", name="imagined", tiers=None, records="r.csv"
):
    known = known or options()
    place = scenario(*(tiers or (phone(), edge(), cloud(), function())))
    place = dataclasses.replace(place, name=name)
    timed = dataclasses.replace(profile(), model=model)
    planner = Planner(place, timed, known, accuracy=ACCURACY)
    evidence = Evidence(tuple(known), ACCURACY, model, records)
    return Question({"price": PRICE}, planner, limits, evidence, ())


def report_of(question, minimise="latency_ms"):
    outcome = question.planner.outcome(question.constraints, minimise=minimise)
    doubts = changes(question.planner, question.constraints, minimise=minimise)
    return Report(question, outcome, tuple(doubts), minimise)


def page_of(report):
    return render(report.asked, report.outcome, report.doubts, minimise=report.minimise)


@pytest.fixture(scope="module", autouse=True)
def coarse():
    """Fewer points than a reader sees: the same in seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regions, "RATES", (2.0**-5, 0.25, 1.0, 16.0))
        patch.setattr(regions, "TRIPS", (0.0, 1.0, 5.0))
        patch.setattr(rates, "RATES", tuple(np.logspace(-3, 2, 16).tolist()))
        yield


@pytest.fixture(scope="module")
def report(coarse):
    return report_of(asked())


@pytest.fixture(scope="module")
def page(report):
    return page_of(report)


def plain(text):
    return text.replace("\N{NO-BREAK SPACE}", " ")


def told(page):
    """What can be read, with each mark behind its number."""
    return re.sub(r" ([•~?])", r"\1", visible(page))


def test_has_every_section_and_every_figure_has_data(page):
    reader = read(page)
    sections = {"answer", "phases", "fronts", "regions", "depth", "rates", "why", "provenance"}
    assert sections <= {*reader.ids}
    drawn = {a["data-figure"] for a in reader.all("figure")}
    wanted = {"phases", "front-leakage", "front-usd", "regions", "depth", "rates"}
    assert drawn == {f"figure-{name}" for name in wanted} <= {*reader.ids}
    for name in drawn:
        text = re.search(rf'id="{name}">(.*?)</script>', page, re.DOTALL)[1]
        figure = json.loads(text)
        assert any(len(trace.get("x", trace.get("z", ()))) for trace in figure["data"])


def test_asks_nothing_of_the_network(page):
    reader = read(page)
    for _, attributes in reader.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (name, value[:60])
    (policy,) = [a for a in reader.all("meta") if "http-equiv" in a]
    assert policy["content"].startswith("default-src 'none'")


def test_the_same_question_gives_the_same_page(page):
    assert page_of(report_of(asked())) == page


def test_numbers_on_the_page_are_those_of_the_plan_with_their_marks(report, page):
    text, plan = told(page), report.outcome.recommended
    assert plan.placement.option.name == "noise"
    for name in ("latency_ms", "latency_p95_ms", "leakage", "usd_per_million", "accuracy"):
        assert plain(words.marked(name, plan.figures[name])) in text
    for judged in report.outcome.baselines.values():
        assert plain(words.marked("latency_ms", judged.plan.figures["latency_ms"])) in text
    assert "Cut after second, and send the features to the" in text


def test_bars_are_as_long_as_their_requests(report):
    for _, judged in report.bars:
        total = sum(phases.parts(judged).values())
        assert total == pytest.approx(judged.plan.figures["latency_ms"].value)
    named = [name for name, _ in report.bars]
    assert named[-3:] == ["first", "second", "third"]
    second = dict(report.bars)["second"]
    assert not second.exceeded
    assert second.plan.placement.option.name == "noise"
    assert dict(report.bars)["first"].exceeded == ("leakage",)


def test_what_comes_from_records_cannot_leave_its_place():
    known = tuple(dataclasses.replace(o, name=o.name + HOSTILE) for o in options())
    question = asked(known=known, model=HOSTILE, name=HOSTILE, records=HOSTILE)
    page = page_of(report_of(question))
    scripts = {a.get("type") for a in read(page).all("script")}
    assert scripts == {None, "application/json"}
    assert not [a for tag, a in read(page).tags if tag == "img"]
    assert "<script>alert" not in page
    assert "<img" not in page
    figures = re.findall(r'application/json" id="[^"]*">(.*?)</script>', page, re.DOTALL)
    for text in figures:
        for value in _strings(json.loads(text)):
            assert "<script" not in value
            assert "<img" not in value


def _strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def test_the_map_agrees_with_the_planner(report):
    found = regions.best_map(report)
    column, row = found.here
    assert found.best[row][column] == report.outcome.recommended.placement
    up, rtt = regions.first_hop(report.planner.scenario)
    assert (found.up_mbps[column], found.rtt_ms[row]) == (up, rtt)
    other = regions.with_link(
        report.planner.scenario, rate=found.up_mbps[0] / up, further_ms=found.rtt_ms[-1] - rtt
    )
    again = Planner(other, profile(), options(), accuracy=ACCURACY)
    assert found.best[-1][0] == again.outcome(LIMITS).recommended.placement
    assert found.best[-1][0].stays  # far away and slow: nothing is sent
    assert len({p for line in found.best for p in line}) > 1


def test_the_map_says_where_nothing_keeps_the_limits():
    question = asked(Constraints(leakage=0.5, deadline_ms=35, percentile=50))
    found = regions.best_map(report_of(question))
    assert any(p is None for line in found.best for p in line)
    assert regions.NOTHING in page_of(report_of(question))


def test_the_envelope_never_rises_with_depth_and_covers_what_was_measured():
    weak = (option("first", 0.4), option("second", 0.6), option("third", 0.2))
    question = asked(known=(option("input", 1.0), *weak))
    assert depth.envelope(question.planner) == [1.0, 0.6, 0.6, 0.2, 0.0]


def test_the_front_within_the_limits_is_ringed_and_listed_where_there_are_limits(report, page):
    kept = [judged.plan for judged in report.outcome.front_within]
    assert {p.placement for p in kept} != {j.plan.placement for j in report.outcome.front}
    for drawing in fronts.drawings(report):
        (rings,) = [t for t in drawing.figure.data if t.name == "front within the limits"]
        assert list(rings.x) == [plan.figures["latency_ms"].value for plan in kept]
        assert max(plan.figures["leakage"].value for plan in kept) <= LIMITS.leakage
        assert "on the front within the limits" in [key.label for key in drawing.keys]
    (table,) = re.findall(r"<caption>The front within the limits.*?</table>", page, re.DOTALL)
    assert table.count('scope="row"') == min(len(kept), SHOWN)
    free = report_of(asked(Constraints()))
    assert "The front within the limits" not in page_of(free)
    names = [t.name for drawing in fronts.drawings(free) for t in drawing.figure.data]
    assert "front within the limits" not in names


def test_an_interval_of_leakage_stands_beside_it_where_records_have_one(page):
    sure = dataclasses.replace(options()[-1].leakage, low=0.25, high=0.375)
    known = (*options()[:-1], dataclasses.replace(options()[-1], leakage=sure))
    shown = page_of(report_of(asked(known=known)))
    assert "0.25 to 0.38" in visible(shown)
    assert "95 % interval" in shown
    assert "0.25 to 0.38" not in visible(page)


def test_the_knee_is_on_the_front_and_its_worst_objective_is_least(report):
    points = np.array([[j.plan.figures[n].value for n in OBJECTIVES] for j in report.outcome.front])
    span = np.ptp(points, axis=0)
    scaled = (points - points.min(axis=0)) / np.where(span > 0, span, 1)
    place = report.planner.front.index(knee.knee(report))
    assert scaled[place].max() == pytest.approx(scaled.max(axis=1).min())


def test_the_hypervolume_is_that_of_boxes_worked_out_by_hand():
    only = asked(known=(option("input", 1.0, name="raw image"),), tiers=(phone(), cloud()))
    report = report_of(only)
    found = knee.volume(report)
    stays, sent = (j.plan.figures for j in report.outcome.baselines.values())
    assert stays["latency_ms"].value > sent["latency_ms"].value
    low = sent["latency_ms"].value / stays["latency_ms"].value / 1.1
    # two boxes: nothing leaks and costs but it is slow; it is fast, but leaks and costs
    slow, tenth = 1 / 1.1, 1 - 1 / 1.1
    assert found.share == pytest.approx((1 - slow) + (1 - low) * tenth**2 - tenth**3)
    assert found.reference["leakage"] == pytest.approx(1.1)


def test_without_a_cloud_the_hypervolume_is_measured_from_the_farthest_tier():
    raw = option("input", 1.0, name="raw image")
    report = report_of(asked(known=(raw, *options()[1:]), tiers=(phone(), edge())))
    corners = ("all on the device", "send raw image to the edge")
    assert knee.volume(report).corners == corners
    assert "“send raw image to the edge”" in visible(page_of(report))
    assert knee.volume(report_of(asked(tiers=(phone(),)))) is None


def test_says_how_many_changes_of_constants_count_and_what_becomes_of_the_ranking(report, page):
    text, kept = told(page), sum(change.same for change in report.doubts)
    assert f"Of {len(report.doubts)} changes of one constant by 30% that move what" in text
    assert any(f"asked for, {kept} leave it as it is." in said for said in answer.reasons(report))
    worst = min(report.doubts, key=lambda change: change.tau)
    assert worst.tau < 1
    assert f"changes most with {worst.constant}: {words.ranking(worst)}." in text


def test_a_division_that_is_no_cut_is_shown_with_what_it_gains(report):
    fast = Division(frozenset({"image", "right"}), ("image", "right"), 5.0)
    cut = Division(frozenset({"image"}), ("image",), 103.0)
    found = Divided(("phone", "edge"), 4, fast, cut)
    assert found.gain == pytest.approx(98 / 103)
    said = "5.0 ms (2 of 4 nodes on phone, the others on edge), 95.1% faster than the best single"
    page = render(report.asked, report.outcome, report.doubts, division=found)
    assert said in visible(page)
    assert "minimum cut" not in visible(page_of(report))
    alone = Divided(("phone", "edge"), 4, dataclasses.replace(cut, sent=()), cut)
    assert str(alone) == "103.0 ms (all on phone), as fast as the best single cut"


def test_an_impossible_placement_says_what_is_in_the_way():
    tiers = (phone(), function(most_message_bytes=500.0), cloud(memory_bytes=1500.0))
    report = report_of(asked(tiers=tiers))
    find = report.planner.find
    why = {
        "the longest message that a tier accepts": find(
            tiers=["phone", "function"], ends=["second"], option="undefended"
        ),
        "what memory holds": find(tiers=["phone", "cloud"], ends=["first"], option="undefended"),
    }
    for text, index in why.items():
        assert text in reasons.why_not(report, index)


def test_at_the_break_even_a_machine_costs_what_a_function_costs():
    price = Function(usd_per_gb_second=1e-2, usd_per_request=2e-7, memory_mb=1769)
    tiers = (phone(), edge(), cloud(), function(pricing=price))
    report = report_of(asked(tiers=tiers))
    pairs = rates.break_evens(rates.curves(report))
    assert {machine.tier.name for machine, _, _ in pairs} == {"edge", "cloud"}
    for machine, called, rate in pairs:
        assert machine.at(rate) == pytest.approx(called.at(rate), rel=1e-6)
        assert machine.at(rate / 2) > called.at(rate / 2)


def test_a_curve_has_the_price_of_the_plan_at_the_rate_of_the_scenario(report):
    placement = report.outcome.recommended.placement
    (curve,) = [c for c in rates.curves(report) if c.tier.name == placement.tiers[1]]
    planned = report.outcome.recommended.figures["usd_per_million"].value
    assert curve.at(1.0) == pytest.approx(planned, rel=1e-3)


def test_sentences_say_why_not(report):
    planner = report.planner
    why = {
        words.short(planner.placement(index)): reasons.why_not(report, index)
        for index in reasons.alternatives(report)
    }
    assert 4 < len(why) <= reasons.MOST
    assert all(why.values())
    raw = next(text for name, text in why.items() if name.startswith("image"))
    assert raw == "exceeds leakage: 1.00, limit 0.50"
    stays = planner.plan((0, 0)).figures["latency_ms"].value
    more = stays - report.outcome.recommended.figures["latency_ms"].value
    assert f"slower by {words.value('latency_ms', more)}" in why["all on the device"]
    assert reasons.why_not(report, report.chosen) == "it is the recommended one"


def test_what_is_dominated_is_said_to_be_by_whom(report):
    planner = report.planner
    index = planner.find(tiers=["phone", "edge", "cloud"], ends=["second", "third"], option="noise")
    other = planner.dominating(index, LIMITS)
    assert other is not None
    said = reasons.why_not(report, index)
    assert said.startswith("dominated by")
    assert "instead of" in said


def test_what_differs_by_less_than_is_shown_is_said_to_by_how_much():
    known = (option("input", 1.0), option("first", 0.9997), option("second", 0.4))
    report = report_of(asked(Constraints(), known=known))
    planner = report.planner
    later = planner.find(tiers=["phone", "function"], ends=["first"], option=known[1].name)
    assert "leakage L 1.00, lower by 0.0003" in reasons.why_not(report, later)


def test_says_what_would_be_needed_where_nothing_keeps_the_limits():
    report = report_of(asked(Constraints(leakage=0.5, deadline_ms=0.5)))
    text = visible(page_of(report))
    assert "No placement keeps all limits." in text
    least = report.outcome.nearest["deadline_ms"]
    assert f"Of the deadline: at least {plain(words.value('latency_p95_ms', least))}" in text


def test_a_device_that_does_not_keep_up_is_no_number():
    slow = phone(slowdown=400.0)  # four seconds of work every second
    report = report_of(asked(tiers=(slow, cloud())))
    page = page_of(report)
    assert math.isinf(
        report.outcome.baselines["all on the device"].plan.figures["latency_ms"].value
    )
    assert "overloaded" in visible(page)
    assert not re.search(r"\b(inf|nan|NaN|Infinity)\b", visible(page))


def test_a_device_alone_has_a_page_too():
    report = report_of(asked(tiers=(phone(),)))
    reader = read(page_of(report))
    assert "Keep the whole model on the phone." in reader.text
    assert not {"regions", "rates"} & {*reader.ids}
    shown = [t.marker.showscale for d in fronts.drawings(report) for t in d.figure.data]
    assert True not in shown  # one placement has one colour


def test_colours_that_differ_have_a_scale(report):
    for drawing in fronts.drawings(report):
        assert [t.marker.showscale for t in drawing.figure.data].count(True) == 1


def test_many_placements_are_thinned_out(report, monkeypatch):
    monkeypatch.setattr(fronts, "MOST_DOTS", 5)
    dots = fronts.drawings(report)[0].figure.data[0]
    assert len(dots.x) == 5


def test_sources_are_the_remarks_of_the_files():
    text = "# A price\n# list.\nname: x\na:\n  b: 1 # here\n  c: 2\nd: 3 # there\n"
    assert heading(text) == "A price list."
    assert remarks(text) == {"a.b": "here", "d": "there"}


def test_a_constant_that_was_changed_is_not_given_the_source_of_the_file(report):
    found = {item.name: item for item in constants(report) if item.where == PRICE["name"]}
    assert "m7g.large" in found["machine.usd_per_hour"].source
    assert found["egress_usd_per_gb"].source == "set for this plan; the file says 0.09"
    assert {*found} == {"machine.usd_per_hour", "egress_usd_per_gb"}
    (own,) = prices_of({**PRICE, "name": "mine", "machine": {}})
    assert own.source == "imagined, 2026-06"


def measured_of(report, name=None):
    plan = report.outcome.recommended
    told = plan.figures["latency_ms"].value
    one = {
        "name": str(plan.placement) if name is None else name,
        "end_to_end_ms": {"p50": 2 * told, "p95": 3 * told},
        "p50_interval_ms": [1.9 * told, 2.1 * told],
        "predicted": {"total_ms": told},
    }
    return {"schema": 1, "plans": [one], "requests": 50, "backend": "formula", "same_ms": -0.25}


def simulated_of(report):
    placement = str(report.outcome.recommended.placement)
    tail = {"latency_ms": [10.0, 50.0, 80.0], "share_above": [1.0, 0.04, 0.001]}
    about = {"schema": 1, "placement": placement, "workload": "Poisson", "requests": 9}
    return {**about, "tail": tail}


def test_what_was_measured_and_simulated_since_stands_beside_what_was_predicted(report, tmp_path):
    placement = str(report.outcome.recommended.placement)
    (tmp_path / "measured.json").write_text(json.dumps(measured_of(report)))
    (tmp_path / "simulated.json").write_text(json.dumps(simulated_of(report)))
    found = checks.read_checks(tmp_path, {placement})
    assert found.measured[0].error == pytest.approx(-0.5)
    page = render(report.asked, report.outcome, report.doubts, checks=found)
    assert {"checks", "figure-measured", "figure-tail"} <= {*read(page).ids}
    text = visible(page)
    assert "The prediction is off by 50.0%" in text
    assert "One request in twenty takes longer than 50 ms" in text


def test_a_network_that_was_played_again_has_a_section_and_only_then(report, page, tmp_path):
    raw = adapted_document(deadline_ms=90.0)
    (tmp_path / "adapted.json").write_text(json.dumps(raw))
    found = checks.read_checks(tmp_path, ())
    text = render(report.asked, report.outcome, report.doubts, checks=found)
    assert {"adapted", "figure-adapted"} <= {*read(text).ids}
    assert {a["href"] for a in read(text).all("a")} >= {"#adapted"}
    assert "#adapted" not in {a["href"] for a in read(page).all("a")}
    assert not {"adapted", "figure-adapted"} & {*read(page).ids}
    said = told(text)
    assert "Later than 90 ms" in said
    for policy in raw["policies"]:
        for ms in (np.mean(policy["latency_ms"]), policy["mean_regret_ms"]):
            assert f"{plain(words.value('latency_ms', ms))}?" in said
        assert f"{policy['violations']:.1%}" in said
        assert f"{policy['changes_per_minute']:.1f}" in said


def test_what_was_played_again_cannot_leave_its_place(report, tmp_path):
    raw = adapted_document()
    raw["trace"] += HOSTILE
    for each in (*raw["plans"], *raw["policies"]):
        key = "name" if "name" in each else "policy"
        each[key] += HOSTILE if each[key] != "clairvoyant" else ""
    (tmp_path / "adapted.json").write_text(json.dumps(raw))
    found = checks.read_checks(tmp_path, ())
    page = render(report.asked, report.outcome, report.doubts, checks=found)
    assert "<script>alert" not in page
    assert not [a for tag, a in read(page).tags if tag == "img"]
    text = re.search(r'id="figure-adapted">(.*?)</script>', page, re.DOTALL)[1]
    strings = [*_strings(json.loads(text))]
    assert any("alert(1)" in value for value in strings)
    assert not any("<script" in value or "<img" in value for value in strings)


def test_what_makes_a_measurement_doubtful_is_said_with_it(report, tmp_path):
    raw = measured_of(report)
    raw["calibrations"] = {"phone>edge": {"worst_error": 0.02}, "phone>far": {"worst_error": -0.57}}
    raw["host"] = {"load": "9.4", "cores": "2"}
    (tmp_path / "measured.json").write_text(json.dumps(raw))
    said = checks.read_checks(tmp_path, ()).conditions
    assert "imitated badly, in time by phone>far -57%" in said
    assert "load 9.4 on 2 cores" in said
    assert "phone>edge" not in said
    raw["host"]["load"], raw["calibrations"]["phone>far"]["worst_error"] = "1.5", 0.0
    (tmp_path / "measured.json").write_text(json.dumps(raw))
    assert checks.read_checks(tmp_path, ()).conditions.endswith("differed by 0.25 ms")


def test_numbers_of_neighbours_stand_on_two_sides_of_the_line(report, tmp_path):
    raw = measured_of(report)
    one = raw["plans"][0]
    raw["plans"] = [
        {**one, "name": f"{i}", "predicted": {"total_ms": ms}} for i, ms in enumerate([9, 5, 7])
    ]
    (tmp_path / "measured.json").write_text(json.dumps(raw))
    found = checks.read_checks(tmp_path, {"0", "1", "2"})
    (drawing,) = checks.drawings(found, deadline_ms=math.inf, percentile=95)
    assert drawing.figure.data[1].textposition == ("top left", "top left", "bottom right")


def test_what_was_measured_of_another_plan_is_left_out(report, tmp_path):
    (tmp_path / "measured.json").write_text(json.dumps(measured_of(report, "another")))
    (tmp_path / "simulated.json").write_text(json.dumps(simulated_of(report)))
    found = checks.read_checks(tmp_path, {"something else"})
    assert (found.measured, found.tail) == ((), None)
    assert checks.read_checks(tmp_path / "nowhere", ()) == checks.Checks()


@pytest.mark.parametrize(
    "text", ["no json", "[]", '{"schema": 2}', '{"schema": 1}', '{"schema": NaN}']
)
def test_a_broken_measurement_is_refused(text, tmp_path):
    (tmp_path / "measured.json").write_text(text)
    with pytest.raises(UserError):
        checks.read_checks(tmp_path, ())
