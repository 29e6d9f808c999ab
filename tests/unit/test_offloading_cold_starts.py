"""Cold starts: measured in fresh interpreters, and used where they were measured."""

import dataclasses
import json

import pytest
from runtime_world import deployment, exported, images, lenet

from experiments.cli import main
from experiments.planning import with_starts
from offloading.cold_starts import ColdStarts
from offloading.measuring.cold import measure_cold_starts
from offloading.planner import Planner
from offloading.pricing import Function
from offloading.profile import Profile, ProfileError
from offloading.sensitivity import World, variations
from offloading.tier import ColdStart
from tests.unit.offloading_world import (
    ACCURACY,
    function,
    options,
    phone,
    profile,
    scenario,
    spread,
)

COLD = ColdStarts(
    ready_ms=spread(800.0),
    import_ms=spread(700.0),
    load_ms=spread(90.0),
    first_ms=spread(30.0),
    warm_ms=spread(10.0),
)


def measured(**changed):
    own = dataclasses.replace(profile(), cold=COLD)
    return function(**changed).with_profile(own, "profile own.json")


def test_every_start_is_a_fresh_interpreter_whose_parts_make_up_the_whole(tmp_path):
    plan = exported(tmp_path, deployment(lenet(), "input"))
    told = []
    found = measure_cold_starts(plan, images(1)[0], starts=1, on_start=lambda *n: told.append(n))
    assert told == [(1, 1)]
    assert found.import_ms.p50 > 0
    assert found.load_ms.p50 > 0
    assert found.ready_ms.p50 > found.import_ms.p50 + found.load_ms.p50
    assert found.start_ms >= found.ready_ms.p50
    assert {spread.n for spread in vars(found).values()} == {1}


def test_a_profile_has_them_where_they_are_asked_for(tmp_path, capsys):
    out = tmp_path / "profile.json"
    words = ["image_shape=[1,28,28]", "classes=10", "runs=1", "warmup=0", "carrying=false"]
    assert main(["profile", "model=le_net5", *words, "cold=1", f"out={out}"]) == 0
    assert "1 cold starts" in " ".join(capsys.readouterr().out.split())
    found = Profile.read(out)
    assert found.cold is not None
    assert Profile.from_json(found.to_json()) == found
    assert main(["profile", "model=le_net5", *words, "cold=some", f"out={out}"]) == 2
    assert "cold='some': want a whole number" in capsys.readouterr().err


def test_a_profile_without_them_is_read_and_a_broken_one_is_refused():
    raw = json.loads(dataclasses.replace(profile(), cold=COLD).to_json())
    assert Profile.from_json(json.dumps(raw)).cold == COLD
    assert Profile.from_json(json.dumps({k: v for k, v in raw.items() if k != "cold"})).cold is None
    for broken in ([1], {"ready_ms": 3}, {"ready_ms": raw["cold"]["ready_ms"]}):
        with pytest.raises(ProfileError):
            Profile.from_json(json.dumps({**raw, "cold": broken}))


def test_they_take_the_place_of_what_was_assumed_of_the_tier_on_which_they_were_measured():
    start = measured().cold_start
    assert start.fixed_ms == 800.0 + 30.0 - 10.0
    assert start.start_ms(1e9) == start.fixed_ms
    assert (start.basis, start.keep_alive_s) == ("measured", function().cold_start.keep_alive_s)
    half = Function(usd_per_gb_second=1e-5, usd_per_request=2e-7, memory_mb=1769 / 2)
    slow = measured(pricing=half).cold_start
    assert (slow.fixed_ms, slow.basis) == (pytest.approx(2 * start.fixed_ms), "predicted")
    assert phone().with_profile(dataclasses.replace(profile(), cold=COLD), "").cold_start is None
    kept = function().with_profile(profile(), "")
    assert kept.cold_start == function().cold_start


def test_a_plan_counts_them_and_says_where_they_are_from():
    starts = []
    for tier in (function(), measured()):
        place = scenario(phone(), tier, rate=1e-6)
        made = Planner(place, profile(), options(), accuracy=ACCURACY)
        index = made.find(tiers=["phone", "function"], ends=["second"], option="undefended")
        (start,) = [p for p in made.plan(index).phases if p.kind == "start"]
        assert start.ms.basis == "assumed"  # so is how long an instance is kept
        starts.append(start.ms)
    assert starts[1].value == pytest.approx(820.0, rel=1e-3)
    assert starts[0].value == pytest.approx(999.4, rel=1e-3)
    assert "fresh interpreters" in starts[1].source


def test_what_was_measured_is_not_varied():
    def varied(tier):
        world = World(scenario=scenario(phone(), tier), profile=profile(), options=options())
        return {name.rpartition(" ")[0] for name, _ in variations(world) if "cold start" in name}

    names = {
        f"function cold start {name}" for name in ("fixed_ms", "load_mb_per_s", "keep_alive_s")
    }
    assert varied(function()) == names
    assert varied(measured()) == {"function cold start keep_alive_s"}


def test_a_plan_file_keeps_them_for_who_has_no_profile():
    place = scenario(phone(), measured())
    nodes = {"phone": {"kind": "device"}, "function": {"kind": "function", "cold_start": None}}
    found = with_starts({"scenario": {"name": "x", "tiers": nodes}, "only": None}, place)
    node = found["scenario"]["tiers"]["function"]["cold_start"]
    assert json.loads(json.dumps(node)) == node
    assert node.pop("_target_") == "offloading.tier.ColdStart"
    assert ColdStart(**node) == measured().cold_start
    assert found["scenario"]["tiers"]["phone"] == nodes["phone"]
    assert nodes["function"]["cold_start"] is None
