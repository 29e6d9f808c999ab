"""From a leaderboard to a plan, by the command that users type."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from experiments.cli import main
from experiments.options import evidence
from offloading.plan import Plan
from offloading.profile import Profile

RESULTS = Path(__file__).parents[2] / "results" / "adversaries.csv"


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return profiled(tmp_path_factory.mktemp("profile") / "profile.json", "carrying=false")


def profiled(path, *more):
    words = ["image_shape=[1,28,28]", "classes=10", "runs=3", "warmup=1", f"out={path}", *more]
    assert main(["profile", "model=le_net5", *words]) == 0
    return path


def plan(profile, tmp_path, *words):
    told = [f"profile={profile}", f"records={RESULTS}", f"out={tmp_path}", "model=le_net5"]
    return main(["plan", *told, *words])


def test_writes_a_plan_that_can_be_read_and_a_front(profile, tmp_path, capsys):
    # A slow camera, or the whole model on it beats all else; asked rarely enough to keep up.
    slow = "scenario.tiers.camera.slowdown=3000"
    seldom = "workload.arrivals.rate_per_s=0.01"
    limits = ["limits.leakage=0.95", "limits.accuracy_drop=0.02"]
    assert plan(profile, tmp_path, "scenario=camera_lte", slow, seldom, *limits) == 0
    told = capsys.readouterr().out
    found = json.loads((tmp_path / "plan.json").read_text())
    plans = [Plan.from_dict(raw) for raw in found["plans"]]
    chosen = plans[found["recommended"]]
    assert chosen.figures["leakage"].value <= 0.95
    assert chosen.figures["accuracy_drop"].value <= 0.02
    assert {"all on the device", "send raw image to the cloud"} <= {*found["baselines"]}
    assert any("JPEG" in name for name in found["baselines"])
    assert "camera_lte, L <= 0.95, accuracy drop <= 2.0%" in told
    # LeNet-5 is a chain: no division of it is faster than its best cut.
    (divided,) = [line for line in told.splitlines() if "fastest division of the graph" in line]
    assert divided.endswith("as fast as the best single cut")
    assert "on camera, the others on" in divided
    page = (tmp_path / "report.html").read_text()
    assert divided.partition(": ")[2] in page
    lines = pd.read_csv(tmp_path / "front.csv")
    listed = lines[lines["kind"].isin(["front", "within limits"])]
    assert (lines["kind"] == "front").sum() == len(found["front"]) > 0
    assert [*listed["placement"]] == [str(plan.placement) for plan in plans]
    assert [*listed.index[listed["exceeds"].isna()]] == sorted(found["front_within"])
    assert found["recommended"] in found["front_within"]
    measured = [plan for plan in plans if plan.figures["leakage"].low is not None]
    assert measured
    for plan_ in measured:
        leak = plan_.figures["leakage"]
        assert leak == plan_.placement.option.leakage
        assert 0 <= leak.low <= leak.value <= leak.high
    for place in found["front_within"]:
        assert plans[place].figures["leakage"].value <= 0.95
    assert found["run"] == ["model=le_net5"]
    assert Profile.from_json(json.dumps(found["profile"])) == Profile.read(profile)


def test_what_the_runtime_takes_is_measured_and_counted(tmp_path, capsys):
    made = profiled(tmp_path / "profile.json")
    carrying = Profile.read(made).carrying
    assert carrying.up_ms > 0
    assert "the runtime takes" in " ".join(capsys.readouterr().out.split())
    assert plan(made, tmp_path, "scenario=laptop_fiber") == 0
    found = json.loads((tmp_path / "plan.json").read_text())
    phases = Plan.from_dict(found["baselines"]["send raw image to the cloud"]).phases
    assert [p.where for p in phases if p.kind == "carry"] == ["laptop>cloud", "cloud>laptop"]


def test_energy_is_asked_for_only_where_power_is_known(profile, tmp_path, capsys):
    words = ["scenario=phone_lte", "only=[phone,edge]"]
    for asking in ("minimise=device_joules", "limits.device_joules=0.5"):
        assert plan(profile, tmp_path, *words, asking) == 2
        assert "set scenario.hops.phone.edge.radio_watts in watts" in capsys.readouterr().err
    words.append("scenario.hops.phone.edge.radio_watts=1.0")
    assert plan(profile, tmp_path, *words, "minimise=device_joules") == 0
    found = json.loads((tmp_path / "plan.json").read_text())
    assert all(raw["figures"]["device_joules"]["value"] >= 0 for raw in found["plans"])


def test_leakage_and_payload_are_those_of_the_records(profile, tmp_path, capsys):
    words = ["only=[phone,cloud]", "limits.at_least=relu2", "minimise=leakage"]
    assert plan(profile, tmp_path, *words) == 0
    found = json.loads((tmp_path / "plan.json").read_text())
    table = pd.read_csv(RESULTS)
    seen = {
        p["placement"]["option"]["name"]: p
        for p in found["plans"]
        if p["placement"]["option"] and p["placement"]["option"]["cut"] == "relu3"
    }
    for name, raw in seen.items():
        rows = table[(table["cut"] == "relu3") & (table["defense"] == name)]
        rows = rows[(rows["threat_client"] == "weights") & (rows["threat_observations"] == 1)]
        rows = rows[rows["threat_defense"] == "known"]
        assert raw["figures"]["leakage"]["value"] in [max(v, 0.0) for v in rows["leakage"]]
        assert raw["figures"]["leakage"]["basis"] == "measured"


def test_a_price_list_of_ones_own_is_what_a_plan_costs_and_is_named(profile, tmp_path, capsys):
    (tmp_path / "own" / "price").mkdir(parents=True)
    (tmp_path / "own" / "price" / "mine.yaml").write_text(
        "name: mine\ndate: 2026-10\nsource: an invoice\n"
        "defaults: [aws_us_east_1_2026, _self_]\nmachine: { usd_per_hour: 8.16 }\n"
    )
    words = ["only=[phone,cloud]", f"--config-dir={tmp_path}/own"]
    cost = {}
    for name in ("aws_us_east_1_2026", "mine"):
        assert plan(profile, tmp_path / name, *words, f"price={name}") == 0
        raw = json.loads((tmp_path / name / "plan.json").read_text())
        figures = raw["baselines"]["send raw image to the cloud"]["figures"]
        cost[name] = figures["usd_per_million"]["value"]
        assert {"date", "source"} <= {*raw["config"]["price"]}
    assert cost["mine"] > 50 * cost["aws_us_east_1_2026"]
    assert "prices of mine, read 2026-10 (an invoice)" in capsys.readouterr().out
    assert "an invoice, 2026-10" in (tmp_path / "mine" / "report.html").read_text()


def test_a_plan_of_a_model_of_ones_own_is_explained_from_the_same_folder(profile, tmp_path, capsys):
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "mine.yaml").write_text("defaults: [le_net5, _self_]\n")
    folder = f"--config-dir={tmp_path}/own"
    assert plan(profile, tmp_path, folder, "model=mine", "model_name=le_net5") == 0
    capsys.readouterr()
    assert main(["explain", f"{tmp_path}/plan.json"]) == 2
    assert "there is no model 'mine'" in capsys.readouterr().err
    assert main(["explain", f"{tmp_path}/plan.json", folder]) == 0


def test_a_deadline_for_a_percentile_that_the_profile_does_not_know_is_one_sentence(
    profile, tmp_path, capsys
):
    words = ["limits.deadline_ms=1000", "limits.percentile=99"]
    assert plan(profile, tmp_path, *words) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: a profile of 3 runs does not know the 99th percentile")
    assert "runs=200" in said


def test_a_deadline_for_the_90th_percentile_is_planned_for_and_shown(profile, tmp_path, capsys):
    raw = json.loads(profile.read_text())
    raw["whole_ms"]["n"] = 20
    enough = tmp_path / "enough.json"
    enough.write_text(json.dumps(raw))
    words = ["limits.deadline_ms=1000", "limits.percentile=90"]
    assert plan(enough, tmp_path, *words) == 0
    assert "p90 <= 1000 ms" in capsys.readouterr().out
    found = json.loads((tmp_path / "plan.json").read_text())
    figures = found["plans"][found["recommended"]]["figures"]
    assert figures["latency_ms"]["value"] <= figures["latency_p90_ms"]["value"] <= 1000
    assert "latency_p99_ms" not in figures
    assert "90th percentile" in (tmp_path / "report.html").read_text()


def test_says_what_nothing_keeps(profile, tmp_path, capsys):
    words = ["limits.deadline_ms=0.001", "limits.percentile=50", "limits.leakage=0.3"]
    assert plan(profile, tmp_path, *words) == 0
    told = capsys.readouterr().out
    assert "No placement keeps all limits" in told
    assert "deadline_ms: least possible" in told
    assert json.loads((tmp_path / "plan.json").read_text())["recommended"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=resnet18"], "is of LeNet5 1x28x28, not of resnet18"),
        (["data=orl_faces"], "has no rows of le_net5 on orl_faces"),
        (["records=nowhere.csv"], "cannot read nowhere.csv"),
        (["minimise=beauty"], "choose from"),
        (["limits.at_least=elsewhere"], "'elsewhere' was not profiled"),
        (["scenario=moon"], "there is no scenario 'moon'"),
        (["limits.speed=1"], "speed"),
        (["only=[cloud]"], "the device"),
    ],
)
def test_mistakes_end_in_one_sentence(profile, tmp_path, capsys, words, said):
    assert plan(profile, tmp_path, *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert "Traceback" not in error


@pytest.mark.parametrize("command", ["profile", "plan"])
def test_help_says_what_there_is(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"usage: splitbench {command}" in capsys.readouterr().out


def test_rows_that_are_not_ranked_are_no_options(profile, tmp_path):
    table = pd.read_csv(RESULTS)
    noisy = table["defense"] == "gaussian noise noise_std=0.25"
    table.loc[noisy, "flags"] = "capacity_not_saturated incomplete"
    table.to_csv(tmp_path / "some.csv", index=False)
    for source, there in ((RESULTS, True), (tmp_path / "some.csv", False)):
        known = evidence(
            source,
            Profile.read(profile),
            model="le_net5",
            data="fashion_mnist_sample",
            images=lambda: torch.rand(2, 1, 28, 28),
        )
        assert ("gaussian noise noise_std=0.25" in {o.name for o in known.options}) == there


def test_what_a_defense_adds_to_a_part_follows_its_operations_not_the_clock(profile, tmp_path):
    table = pd.read_csv(RESULTS).copy()  # in one piece: columns are added
    noisy = (table["defense"] == "gaussian noise noise_std=0.25") & (table["cut"] == "relu2")
    table["client_flops"] = table["server_flops"] = 1000.0
    table.loc[noisy, "client_flops"] = 1500.0
    early = (table["defense"] == "gaussian noise noise_std=0.25") & (table["cut"] == "relu3")
    table["client_flops_mean"] = float("nan")
    table.loc[early, "client_flops_mean"] = 400.0  # as if its device stopped early, in the mean
    table.loc[noisy, "client_ms"] = 0.001  # somebody else was not at work then
    table.to_csv(tmp_path / "some.csv", index=False)
    made = Profile.read(profile)
    known = evidence(
        tmp_path / "some.csv",
        made,
        model="le_net5",
        data="fashion_mnist_sample",
        images=lambda: torch.rand(2, 1, 28, 28),
    )
    extra = {(o.cut, o.name): o.client_extra_ms for o in known.options}
    assert extra["relu2", "gaussian noise noise_std=0.25"] == pytest.approx(
        0.5 * made.at("relu2").head_ms.p50
    )
    assert extra["relu3", "gaussian noise noise_std=0.25"] == pytest.approx(
        -0.6 * made.at("relu3").head_ms.p50
    )
    assert extra["relu2", "undefended"] == 0
