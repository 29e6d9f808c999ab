"""Limits of plans that were written, against those of the planner that made them."""

import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offloading.constraints import Constraints, strictest
from offloading.plan import Plan, PlanError
from offloading.planner import Planner
from offloading.profile import ProfileError
from tests.unit.offloading_world import (
    ACCURACY,
    NAMES,
    cloud,
    edge,
    options,
    phone,
    profile,
    scenario,
)

PLANNERS = [
    Planner(scenario(phone(watts=watts), edge(), cloud()), profile(), options(), accuracy=ACCURACY)
    for watts in (2.0, None)
]
limits_of_any_kind = st.builds(
    Constraints,
    deadline_ms=st.floats(10, 60),
    percentile=st.sampled_from([50, 90, 95, 99]),
    leakage=st.floats(0, 1),
    usd_per_million=st.floats(0, 1500),
    accuracy_drop=st.sampled_from([0.0, 0.01, 0.02, math.inf]),
    device_joules=st.one_of(st.just(math.inf), st.floats(0, 0.1)),
    at_least=st.sampled_from([None, *NAMES]),
)


@given(limits_of_any_kind, st.sampled_from(PLANNERS))
@settings(max_examples=60, deadline=None)
def test_a_plan_that_was_written_exceeds_what_the_planner_says(limits, planner):
    outcome = planner.outcome(limits)
    for judged in (*outcome.front, *outcome.baselines.values()):
        if "possible" in judged.exceeded:
            continue
        read = Plan.from_dict(json.loads(judged.plan.to_json()))
        assert limits.exceeded(read, planner.profile) == judged.exceeded


@given(st.lists(limits_of_any_kind, min_size=1, max_size=3))
@settings(max_examples=30, deadline=None)
def test_the_strictest_limits_are_kept_by_who_keeps_all(several):
    several = [dataclasses.replace(limits, percentile=95) for limits in several]
    (planner, _), kept = PLANNERS, strictest(several, PLANNERS[0].profile)
    for each in planner.outcome().front:
        exceeded = [limits.exceeded(each.plan, planner.profile) for limits in several]
        together = {name for names in exceeded for name in names}
        assert {*kept.exceeded(each.plan, planner.profile)} == together


def test_a_cut_that_nobody_profiled_and_a_plan_without_its_leakage_are_refused():
    plan = PLANNERS[0].outcome().front[0].plan
    with pytest.raises(ProfileError, match="'elsewhere' was not profiled"):
        Constraints(at_least="elsewhere").exceeded(plan, profile())
    with pytest.raises(ProfileError, match="'elsewhere' was not profiled"):
        strictest([Constraints(at_least="elsewhere"), Constraints(at_least="first")], profile())
    figures = {name: figure for name, figure in plan.figures.items() if name != "leakage"}
    with pytest.raises(PlanError, match="lacks leakage"):
        Constraints().exceeded(dataclasses.replace(plan, figures=figures), profile())
