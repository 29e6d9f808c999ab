"""Figures, spreads, profiles, scenarios and plans refuse what makes no sense and survive a file."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from offloading.constraints import Constraints
from offloading.figure import Figure, weakest
from offloading.plan import Placement, Plan, PlanError, Segment
from offloading.planner import Planner
from offloading.pricing import Function, Hourly, Owned, Use
from offloading.profile import Profile, ProfileError, same_model
from offloading.profiling import measure_profile
from offloading.scenario import ScenarioError
from offloading.sensitivity import World, changes, variations
from offloading.spread import Spread
from offloading.tier import ColdStart
from splitbench.split import Cuttable
from tests.unit.offloading_world import (
    ACCURACY,
    NAMES,
    cloud,
    edge,
    function,
    options,
    phone,
    profile,
    scenario,
)


class TestFigure:
    def test_of_a_sum_is_never_measured(self):
        assert weakest(["measured"]) == "measured"
        assert weakest(["measured", "measured"]) == "predicted"
        assert weakest(["measured", "assumed"]) == "assumed"


class TestSpread:
    def test_has_the_percentiles_of_what_was_timed(self):
        found = Spread.of([float(i) for i in range(101)])
        assert (found.p50, found.p90, found.p95, found.p99, found.mean) == (50, 90, 95, 99, 50)
        assert found.scaled(2.0).p95 == 190

    def test_refuses_nothing_and_disorder(self):
        with pytest.raises(ValueError, match="no times"):
            Spread.of([])
        with pytest.raises(ValueError, match="p50 <= p90"):
            Spread(p50=2.0, p90=1.0, p95=3.0, p99=4.0, mean=2.0, n=1)


class TestProfile:
    def test_survives_a_file(self, tmp_path):
        made = profile(late=1.5)
        path = tmp_path / "profile.json"
        path.write_text(made.to_json())
        assert Profile.read(path) == made

    def test_measures_ends_and_predicts_what_lies_between(self):
        times = profile().segments_ms
        assert times[0].tolist() == [0.0, 2.0, 5.0, 9.0, 10.0]
        assert times[:, -1].tolist() == [10.0, 8.0, 5.0, 1.0, 0.0]
        assert times[1, 3] == 7.0
        assert not times[3, 1]

    @pytest.mark.parametrize("text", ["", "[]", '{"schema": 99}', '{"schema": 1}', "nonsense"])
    def test_refuses_what_is_none(self, text):
        with pytest.raises(ProfileError):
            Profile.from_json(text)

    def test_refuses_cuts_that_do_not_go_from_the_image_to_the_output(self):
        raw = json.loads(profile().to_json())
        raw["cuts"] = raw["cuts"][1:]
        with pytest.raises(ProfileError, match="from 'input' to 'output'"):
            Profile.from_json(json.dumps(raw))

    def test_names_what_was_profiled_when_asked_for_something_else(self):
        with pytest.raises(ProfileError, match="profiled are input, first"):
            profile().at("elsewhere")

    def test_of_another_model_does_not_mix(self):
        raw = json.loads(profile().to_json())
        raw["cuts"][1]["shapes"] = [[3]]
        with pytest.raises(ProfileError, match="different models"):
            same_model([profile(), Profile.from_json(json.dumps(raw))])

    def test_is_made_of_every_cut_of_a_real_model(self):
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
        image, seen = torch.rand(1, 8), []
        shaped = nn.Sequential(nn.Flatten(), model)
        cuts = Cuttable(shaped, image.reshape(1, 1, 2, 4)).cuts("tensor")
        made = measure_profile(
            shaped,
            image.reshape(1, 1, 2, 4),
            cuts,
            name="small",
            machine={},
            runs=3,
            warmup=1,
            on_run=lambda done, total: seen.append((done, total)),
        )
        assert [cut.name for cut in made.cuts] == [cut.name for cut in cuts]
        assert made.cuts[0].head_ms.p50 == 0
        assert made.cuts[-1].tail_ms.p50 == 0
        assert all(cut.head_ms.p50 > 0 for cut in made.cuts[1:])
        assert made.whole_ms.n == 3
        assert seen == [(i, 4) for i in range(1, 5)]
        last = made.cuts[-1]
        assert last.head_memory_bytes >= 4 * last.head_params == 4 * (8 * 16 + 16 + 16 * 4 + 4)


class TestTiers:
    def test_a_cold_start_reads_its_weights_and_is_rare_where_requests_are_not(self):
        start = ColdStart(fixed_ms=1000.0, load_mb_per_s=50.0, keep_alive_s=600.0)
        assert start.start_ms(100e6) == 3000.0
        assert start.share(1 / 600) == pytest.approx(math.exp(-1))

    def test_little_memory_of_a_function_makes_it_slow(self):
        half = Function(usd_per_gb_second=1e-5, usd_per_request=0.0, memory_mb=1769 // 2)
        assert function(pricing=half).factor == pytest.approx(2.0, rel=1e-3)
        double = Function(usd_per_gb_second=1e-5, usd_per_request=0.0, memory_mb=2 * 1769)
        assert function(pricing=double).factor == 1.0

    def test_with_a_profile_of_its_own_is_not_slowed_down(self):
        assert cloud(slowdown=7.0).factor == 7.0
        assert cloud(slowdown=7.0, profile=profile()).factor == 1.0

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            (lambda: phone(slowdown=0.0), "slowdown"),
            (lambda: dataclasses.replace(cloud(), kind="moon"), "choose from"),
            (lambda: dataclasses.replace(phone(), trusted=False), "always trusted"),
            (lambda: Hourly(usd_per_hour=-1.0), "want a price"),
            (lambda: Owned(parallel=0), "at least 1"),
            (lambda: ColdStart(fixed_ms=-1.0, load_mb_per_s=1.0, keep_alive_s=1.0), "fixed_ms"),
        ],
    )
    def test_refuse_what_makes_no_sense(self, wrong, said):
        with pytest.raises(ValueError, match=said):
            wrong()

    def test_rents_as_many_machines_as_stay_below_their_share(self):
        rent = Hourly(usd_per_hour=3.6, parallel=2, busy=0.5)
        busy, rate = np.array([500.0, 500.0]), np.array([2.0, 2.1])
        use = Use(busy_ms=busy, waiting_ms=0 * busy, rate_per_s=rate, start_ms=0 * busy)
        assert rent.machines(use).tolist() == [1, 2]
        assert rent.usd(use) == pytest.approx([0.001 / 2, 0.002 / 2.1])


class TestScenario:
    def test_has_every_route_over_its_hops(self):
        names = [[t.name for t in r] for r in scenario(phone(), edge(), cloud()).routes()]
        assert names == [
            ["phone"],
            ["phone", "edge"],
            ["phone", "cloud"],
            ["phone", "edge", "cloud"],
        ]

    def test_refuses_a_device_that_is_not_first_and_hops_backwards(self):
        with pytest.raises(ScenarioError, match="must be the device"):
            scenario(cloud(), phone())
        with pytest.raises(ScenarioError, match="same name"):
            scenario(phone(), cloud(), cloud())


class TestPlan:
    def made(self):
        planner = Planner(scenario(phone(), cloud()), profile(), options(), accuracy=ACCURACY)
        return planner.plan(planner.find(tiers=["phone", "cloud"], ends=["second"], option="noise"))

    def test_survives_a_file(self, tmp_path):
        path = tmp_path / "plan.json"
        path.write_text(self.made().to_json())
        assert Plan.read(path) == self.made()

    def test_survives_a_file_where_nobody_keeps_up(self):
        asked = scenario(phone(), cloud(), rate=1000.0)
        planner = Planner(asked, profile(), options(), accuracy=ACCURACY)
        plan = planner.plan((0, 0))
        assert math.isinf(plan.figures["latency_ms"].value)
        assert Plan.from_dict(json.loads(plan.to_json())) == plan

    @pytest.mark.parametrize("raw", [None, {}, {"schema": 2}, {"schema": 1, "placement": {}}])
    def test_refuses_what_is_none(self, raw):
        with pytest.raises(PlanError):
            Plan.from_dict(raw)

    def test_has_parts_that_follow_one_another(self):
        one, two = Segment(tier="a", start="input", end="x"), Segment(tier="b", start="y", end="z")
        with pytest.raises(ValueError, match="a ends at x, b begins at y"):
            Placement(segments=(one, two), option=options()[1])
        with pytest.raises(ValueError, match="needs an option"):
            Placement(segments=(one,), option=options()[1])


class TestSensitivity:
    def test_changes_each_constant_in_both_directions(self):
        place = scenario(phone(watts=None), cloud())
        made = dict(variations(World(scenario=place, profile=profile(), options=options())))
        assert len(made) == 2 * (2 + 1 + 3 + 1)  # slow-downs, rent, rates and round trip, requests
        slower = made["phone slow-down +30%"].scenario.tiers[0]
        assert slower.slowdown == pytest.approx(5.2)
        rented = made["cloud price -30%"].scenario.tiers[1].pricing
        assert rented.usd_per_hour == pytest.approx(2.52)
        assert made["request rate +30%"].scenario.workload.rate_per_s == pytest.approx(1.3)

    def test_says_what_would_be_taken_instead_and_what_that_saves(self):
        # All on the phone takes 40 ms; sending 4000 bytes 10 + 4, both parts 25.
        planner = Planner(scenario(phone(), cloud()), profile(), options(), accuracy=ACCURACY)
        found = {c.constant: c for c in changes(planner, Constraints(leakage=0.5))}
        assert not {c.constant for c in found.values() if c.loss_ms and c.loss_ms < -1e-9}
        assert any(c.same for c in found.values())
        for change in found.values():
            assert change.recommended is not None
            assert change.same == (change.loss_ms == pytest.approx(0.0))

    def test_is_empty_where_nothing_is_recommended(self):
        planner = Planner(scenario(phone(), cloud()), profile(), options(), accuracy=ACCURACY)
        assert changes(planner, Constraints(deadline_ms=0.0)) == []


def test_the_world_is_what_the_tests_say():
    assert [cut.name for cut in profile().cuts] == [*NAMES]
    assert Figure(1.0, "measured").source == ""
