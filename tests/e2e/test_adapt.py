"""From plans to what changing between them is worth, by the commands that users type."""

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest

from experiments import adapt
from experiments.cli import main
from experiments.console import Reporter
from experiments.plan_page import rates, regions
from experiments.plan_report import refreshed
from offloading.adaptation.policy import Table
from offloading.plan import Plan

RESULTS = Path(__file__).parents[2] / "results" / "adversaries.csv"


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    path = tmp_path_factory.mktemp("profile") / "profile.json"
    told = ["image_shape=[1,28,28]", "classes=10", "runs=3", "warmup=1", "carrying=false"]
    assert main(["profile", "model=le_net5", *told, f"out={path}"]) == 0
    timed_by_operations(path)
    return path


@pytest.fixture(scope="module")
def plans(profile, tmp_path_factory):
    """Of a slow phone, on a slow link and on a fast one."""
    root = tmp_path_factory.mktemp("plans")
    return [planned(profile, root / name, mbps) for name, mbps in (("slow", 0.2), ("fast", 50.0))]


def as_fast_as_undefended(folder):
    """Published rows whose defenses take no time, or none would be worth it on so slow a phone."""
    table = pd.read_csv(RESULTS)
    folder.mkdir(parents=True)
    path = folder / "records.csv"
    took = [c for c in table if "flops" in c or c in ("encode_ms", "decode_ms")]
    table.drop(columns=took).to_csv(path, index=False)
    return path


def planned(profile, folder, mbps, *limits):
    words = [
        *("model=le_net5", f"records={as_fast_as_undefended(folder)}", f"profile={profile}"),
        *("scenario=phone_lte", "only=[phone,edge]", "scenario.tiers.phone.slowdown=180"),
        *(f"scenario.hops.phone.edge.link.up_mbps={mbps}", f"out={folder}"),
    ]
    assert main(["plan", *words, *limits]) == 0
    return str(folder / "plan.json")


def timed_by_operations(path):
    """A third of a millisecond for the whole model, whatever this machine is doing."""
    found = json.loads(path.read_text())
    total = found["cuts"][-1]["head_flops"]
    for cut in found["cuts"]:
        for side in ("head", "tail"):
            ms = cut[f"{side}_flops"] / total / 3
            cut[f"{side}_ms"] |= dict.fromkeys(("p50", "p90", "p95", "p99", "mean"), ms)
    for name in ("whole_ms", "again_ms"):
        found[name] |= {**dict.fromkeys(("p50", "p90", "p95", "p99", "mean"), 1 / 3), "n": 40}
    path.write_text(json.dumps(found))


def adapted(plans, tmp_path, *words):
    code = main(["adapt", *plans, f"out={tmp_path}/adapted.json", *words])
    return code, json.loads((tmp_path / "adapted.json").read_text()) if code == 0 else None


def test_plays_a_trace_with_every_policy_and_writes_what_came_of_it(plans, tmp_path, capsys):
    trace = tmp_path / "trace.csv"
    trace.write_text(
        "seconds,mbps\n" + "".join(f"{t},{50 if t % 40 < 20 else 0.2}\n" for t in range(80))
    )
    code, found = adapted(plans, tmp_path, f"trace={trace}", "deadline_ms=300", "leakage=1")
    assert code == 0
    policies = {each["policy"]: each for each in found["policies"]}
    assert policies["clairvoyant"]["mean_regret_ms"] == 0
    static = next(each for name, each in policies.items() if name.startswith("always"))
    assert 0 <= policies["table"]["mean_regret_ms"] < static["mean_regret_ms"]
    requests = {len(each["chosen"]) for each in found["policies"]}
    assert requests == {160}
    assert "trace.csv" in capsys.readouterr().out


@pytest.fixture
def coarse(monkeypatch):
    """A map of few points: the same in seconds."""
    monkeypatch.setattr(regions, "RATES", (0.25, 1.0, 16.0))
    monkeypatch.setattr(regions, "TRIPS", (0.0, 1.0))
    monkeypatch.setattr(rates, "RATES", (0.01, 1.0, 100.0))


def test_writes_beside_the_first_plan_whose_report_then_shows_it(plans, coarse, capsys):
    folder = Path(plans[0]).parent
    assert 'id="adapted"' not in (folder / "report.html").read_text()
    assert main(["adapt", *plans, "leakage=1", "duration_s=60"]) == 0
    assert json.loads((folder / "adapted.json").read_text())["invented"]
    assert not (Path(plans[1]).parent / "adapted.json").exists()
    assert f"report: {folder / 'report.html'}" in capsys.readouterr().out
    assert 'id="adapted"' in (folder / "report.html").read_text()


def test_the_report_stays_as_it_is_where_the_records_give_other_plans(plans, tmp_path):
    raw = json.loads(Path(plans[0]).read_text())
    raw["plans"].pop()
    (tmp_path / "plan.json").write_text(json.dumps(raw))
    said = refreshed(tmp_path / "plan.json", tmp_path / "adapted.json", Reporter("test"))
    assert "was not written again" in said
    assert "another front" in said
    assert not (tmp_path / "report.html").exists()


def test_keeps_to_the_leakage_limit_on_every_request(plans, tmp_path):
    code, found = adapted(plans, tmp_path, "leakage=0.5", "duration_s=60")
    assert code == 0
    assert {*map(tuple, found["refused"].values())} == {("leakage",)}
    assert all(plan["leakage"] <= 0.5 for plan in found["plans"])


@pytest.mark.parametrize("cut", ["relu1", "relu2"])
def test_what_must_stay_on_the_device_stays_there(profile, tmp_path, capsys, cut):
    made = planned(profile, tmp_path / "deep", 50.0, f"limits.at_least={cut}")
    code, found = adapted([made], tmp_path, "duration_s=60", "mean_mbps=50")
    assert code == 0
    cuts = [cut["name"] for cut in json.loads(profile.read_text())["cuts"]]
    ends = {
        name_of(plan): cuts.index(plan["placement"]["segments"][0]["end"])
        for plan in json.loads(Path(made).read_text())["plans"]
    }
    shallow = {name for name, end in ends.items() if end < cuts.index(cut)}
    assert shallow, "the test needs plans that end before"
    assert {plan["name"] for plan in found["plans"]} == {*ends} - shallow
    assert found["refused"] == {name: ["at_least"] for name in shallow}
    said = " ".join(capsys.readouterr().out.split())
    assert f"(up to {cut} on the device)" in said


def test_what_only_those_beat_that_exceed_a_limit_is_on_the_menu(profile, tmp_path):
    made = planned(profile, tmp_path / "strict", 50.0, "limits.at_least=normalize")
    raw = json.loads(Path(made).read_text())
    names = [name_of(plan) for plan in raw["plans"]]
    hidden = {names[place] for place in {*raw["front_within"]} - {*raw["front"]}}
    assert hidden, "the test needs such plans"
    code, found = adapted([made], tmp_path, "duration_s=20")
    assert code == 0
    assert {plan["name"] for plan in found["plans"]} == {names[i] for i in raw["front_within"]}


@pytest.mark.parametrize("limit", ["accuracy_drop=0", "usd_per_million=0", "device_joules=0.02"])
def test_nothing_that_exceeds_another_limit_is_on_the_menu(profile, tmp_path, limit):
    radio = "scenario.hops.phone.edge.radio_watts=1.0"  # what nobody knows exceeds every limit
    made = planned(profile, tmp_path / "limited", 50.0, f"limits.{limit}", radio)
    code, found = adapted([made], tmp_path, "duration_s=60")
    assert code == 0
    name, _, most = limit.partition("=")
    plans = json.loads(Path(made).read_text())["plans"]
    within = {name_of(p) for p in plans if p["figures"][name]["value"] <= float(most)}
    assert 0 < len(within) < len(plans), "the test needs plans of both kinds"
    assert {plan["name"] for plan in found["plans"]} == within


def test_a_plan_that_is_late_may_be_on_the_menu(profile, tmp_path):
    made = planned(profile, tmp_path / "late", 50.0, "limits.deadline_ms=40")
    code, found = adapted([made], tmp_path, "duration_s=60")
    assert code == 0
    late = [p for p in json.loads(Path(made).read_text())["plans"] if p95_ms(p) > 40]
    assert late, "the test needs plans that are late"
    assert {name_of(plan) for plan in late} <= {plan["name"] for plan in found["plans"]}
    assert not found["refused"]
    assert {policy["deadline_ms"] for policy in found["policies"]} == {40}


def test_over_several_files_the_strictest_limit_counts(profile, tmp_path):
    files = [
        planned(profile, tmp_path / f"most{most}", mbps, f"limits.leakage={most}")
        for most, mbps in ((0.9, 50.0), (0.5, 0.2))
    ]
    for named, words in ((files, []), (files[::-1], []), (files, ["leakage=0.8"])):
        code, found = adapted(named, tmp_path, "duration_s=20", *words)
        assert code == 0
        assert max(plan["leakage"] for plan in found["plans"]) <= 0.5
        assert {"leakage"} == {limit for limits in found["refused"].values() for limit in limits}
        assert found["limits"] == "L <= 0.5"


def name_of(plan):
    return str(Plan.from_dict(plan).placement)


def p95_ms(plan):
    return plan["figures"]["latency_p95_ms"]["value"]


class Unheeding(Table):
    """The same table, deaf to what the server says of its load."""

    def learn(self, now_s, outcome):
        super().learn(now_s, dataclasses.replace(outcome, load=None))


def test_who_hears_of_a_burst_at_the_server_regrets_less(plans, tmp_path, monkeypatch):
    burst = tmp_path / "burst.csv"
    burst.write_text("seconds,requests waiting\n0,0\n60,2000\n180,0\n")
    words = [f"load={burst}", "leakage=1", "mean_mbps=50", "spread=0.1"]
    code, heard = adapted(plans, tmp_path, *words)
    assert code == 0
    monkeypatch.setattr(adapt, "TablePolicy", Unheeding)
    _, unheard = adapted(plans, tmp_path, *words)
    told, deaf = (
        next(each for each in found["policies"] if each["policy"] == "table")
        for found in (heard, unheard)
    )
    assert told["waiting"] == [2000 if 60 <= s < 180 else 0 for s in told["seconds"]]
    assert told["best_ms"] == deaf["best_ms"]
    assert told["mean_regret_ms"] < deaf["mean_regret_ms"] / 2
    clairvoyant = next(each for each in heard["policies"] if each["policy"] == "clairvoyant")
    assert clairvoyant["mean_regret_ms"] == 0
    assert heard["load"] == "0 to 2000 requests of others waiting at the server (burst.csv)"


def test_a_load_may_be_one_number(plans, tmp_path):
    _, idle = adapted(plans, tmp_path, "duration_s=20")
    code, busy = adapted(plans, tmp_path, "duration_s=20", "load=30")
    assert code == 0
    assert {*busy["policies"][0]["waiting"]} == {30}
    assert {*idle["policies"][0]["waiting"]} == {0}
    means = [sum(found["policies"][0]["best_ms"]) for found in (idle, busy)]
    assert means[0] < means[1]


def test_plans_of_different_models_are_on_no_menu(plans, tmp_path, capsys):
    other = json.loads(Path(plans[0]).read_text())
    other["profile"]["cuts"].pop(1)
    (tmp_path / "plan.json").write_text(json.dumps(other))
    assert adapted([*plans, str(tmp_path / "plan.json")], tmp_path)[0] == 2
    assert "different models" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["trace=nowhere.csv"], "cannot read the trace"),
        (["leakage=-1"], "leakage=-1.0: must not be negative"),
        (["load=nowhere.csv"], "cannot read the load"),
        (["load=-1"], "must be numbers >= 0"),
        (["requests_per_s=0.001"], "ends before the second request"),
    ],
)
def test_says_in_one_sentence_what_is_wrong(plans, tmp_path, capsys, words, reason):
    assert adapted(plans, tmp_path, *words)[0] == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert reason in said


def test_wants_a_file(capsys):
    assert main(["adapt", "leakage=1"]) == 2
    assert "name a file" in capsys.readouterr().err
    assert main(["adapt", "--help"]) == 0
