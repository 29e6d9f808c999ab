"""``splitbench simulate``: what it reads, prints, writes and refuses."""

import json

import pytest

from experiments.plan_file import SCHEMA
from experiments.planned import planned
from experiments.planning import composed
from experiments.simulate import main
from offloading.figure import Figure
from offloading.option import Option
from offloading.plan import Phase, Placement, Plan, Segment
from offloading.workload import Poisson

ONE = Figure(1.0, "measured")
FAST = ["requests=300"]


def plan(far):
    phases = [
        ("compute", "phone", 4.0),
        ("network", f"phone>{far}", 30.0),
        ("compute", far, 2.0),
        ("network", f"{far}>phone", 20.0),
    ]
    option = Option(
        cut="first", name="plain", payload_bytes=9.0, leakage=ONE, accuracy=ONE, accuracy_drop=ONE
    )
    return Plan(
        placement=Placement(
            segments=(
                Segment(tier="phone", start="input", end="first"),
                Segment(tier=far, start="first", end="output", weight_bytes=1e6),
            ),
            option=option,
        ),
        scenario="phone_5g",
        model="model",
        figures={"latency_ms": Figure(56.0, "predicted"), "usd_per_million": ONE},
        phases=tuple(Phase(kind=k, where=w, ms=Figure(ms, "measured")) for k, w, ms in phases),
    )


@pytest.fixture(scope="module")
def configured():
    return composed("plan", [])[0]


@pytest.fixture
def document(configured):
    return {
        "schema": SCHEMA,
        "config": json.loads(json.dumps(configured)),
        "recommended": 0,
        "plans": [plan("cloud").to_dict(), plan("function").to_dict()],
        "baselines": {"nearest": plan("edge").to_dict()},
    }


@pytest.fixture
def written(document, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document))
    return path


def test_it_prints_percentiles_and_tiers_and_writes_them_beside_the_plan(written, capsys):
    assert main([str(written), *FAST, "plan=1"]) == 0
    shown = capsys.readouterr().out
    for word in ("p99", "95 % interval", "56.0", "function", "cold starts", "simulated.json"):
        assert word in shown
    found = json.loads((written.parent / "simulated.json").read_text())
    assert found["basis"] == "predicted"
    assert found["latency_ms"]["p50"]["value"] == pytest.approx(56, abs=3)
    assert found["tiers"][1]["cold_share"] is not None
    assert Plan.from_dict(found["plan"]) == plan("function")


def test_where_the_plan_cannot_be_made_again_its_report_stays_and_one_line_says_why(
    written, capsys
):
    report = written.parent / "report.html"
    report.write_text("as it was")
    assert main([str(written), *FAST]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "report.html" in line]
    assert line == f"{report} was not written again: the plan cannot be made again: 'run'"
    assert report.read_text() == "as it was"


def test_what_lies_elsewhere_is_in_no_report(written, tmp_path, capsys):
    assert main([str(written), *FAST, f"out={tmp_path}/elsewhere/simulated.json"]) == 0
    assert main([str(written), *FAST, f"out={tmp_path}/of_another_name.json"]) == 0
    assert "report" not in capsys.readouterr().out


def test_a_folder_stands_for_its_plan_and_the_recommended_one_is_taken(written, tmp_path):
    out = tmp_path / "deep" / "out.json"
    assert main([str(written.parent), *FAST, f"out={out}"]) == 0
    assert json.loads(out.read_text())["tiers"][1]["tier"] == "cloud"
    assert not (written.parent / "simulated.json").exists()


def test_a_baseline_is_taken_by_its_name_and_scaled(written, capsys):
    words = ["plan=nearest", "autoscaling.edge.boot_s=1", "autoscaling.edge.most=2"]
    assert main([str(written), *FAST, *words]) == 0
    assert "edge" in capsys.readouterr().out


def test_the_workload_is_the_plans_own_unless_another_is_named(written, document):
    own = planned(written, None, [])
    assert own.scenario.workload.arrivals.rate_per_s == 1
    assert own.plan == Plan.from_dict(document["plans"][0])
    more = planned(written, None, ["workload.devices=7", "workload.arrivals.rate_per_s=3"])
    assert (more.scenario.workload.devices, more.scenario.workload.rate_per_s) == (7, 21)
    other = planned(written, None, ["workload=bursts", "workload.devices=3"]).scenario.workload
    assert not isinstance(other.arrivals, Poisson)
    assert other.devices == 3


def test_a_workload_of_ones_own_is_found_in_the_folder_that_is_named(written, tmp_path):
    own = tmp_path / "own"
    (own / "workload").mkdir(parents=True)
    (own / "workload" / "mine.yaml").write_text(
        "defaults: [one_user, _self_]\ndevices: 11\n",
    )
    out = tmp_path / "found.json"
    words = ["--config-dir", str(own), "workload=mine", f"out={out}"]
    assert main([str(written), *FAST, *words]) == 0
    assert "devices=11" in json.loads(out.read_text())["workload"]


def test_what_a_tier_costs_and_how_long_it_stays_warm_can_be_changed(written):
    words = [
        "scenario.tiers.cloud.pricing.usd_per_hour=9",
        "scenario.tiers.function.cold_start.keep_alive_s=5",
        "+scenario.hops.phone.edge.link.jitter_ms=4",
    ]
    scenario = planned(written, None, words).scenario
    tiers = {tier.name: tier for tier in scenario.tiers}
    assert tiers["cloud"].pricing.usd_per_hour == 9
    assert tiers["function"].cold_start.keep_alive_s == 5
    assert scenario.hop(tiers["phone"], tiers["edge"]).link.jitter_ms == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan=9"], "there is no plan 9; take plan=0 to plan=1, or plan='nearest'"),
        (["plan=farthest"], "there is no plan farthest"),
        (["scenario.tiers.phone.slowdown=3"], "make another plan"),
        (["scenario=phone_lte"], "make another plan"),
        (["workload.devicez=3"], "did you mean 'devices'"),
        (["workload=nope"], "choose from"),
        (["workload.devices=0"], "at least 1"),
        (["requests=5"], "at least 200"),
        (["requests=many"], "requests=many"),
        (["sed=3"], "did you mean 'seed'"),
        (["autoscaling.cloud.boots=3"], "boots"),
        (["autoscaling.moon.boot_s=3"], "moon"),
        (["workload=recorded", "workload.arrivals.path=nowhere.csv"], "nowhere.csv"),
        (["another.json"], "name one plan.json"),
    ],
)
def test_a_mistake_is_one_sentence(written, capsys, words, said):
    assert main([str(written), *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("error: ")
    assert said in line


def test_nothing_recommended_asks_for_a_choice(document, written, capsys):
    written.write_text(json.dumps({**document, "recommended": None}))
    assert main([str(written)]) == 2
    assert "nothing was recommended; take plan=0" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 9}', '{"schema": 1}', "\x00"])
def test_a_file_that_is_no_plan_is_refused(written, capsys, text):
    written.write_text(text)
    assert main([str(written)]) == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "target",
    ["os.system", "subprocess.Popen", "offloading.plan.json.loads", "offloading.plan.Path", 3],
)
def test_a_file_cannot_name_what_is_to_be_run(document, written, capsys, target):
    document["config"]["workload"] = {"_target_": target}
    written.write_text(json.dumps(document))
    assert main([str(written), *FAST]) == 2
    assert "error: " in capsys.readouterr().err


def test_help_says_what_can_be_changed(capsys):
    assert main(["--help"]) == 0
    assert "autoscaling.cloud.boot_s=60" in capsys.readouterr().out
