"""From plans to what changing between them is worth, by the commands that users type."""

import json
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.console import Reporter
from experiments.plan_page import rates, regions
from experiments.plan_report import refreshed

RESULTS = Path(__file__).parents[2] / "results" / "adversaries.csv"


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """Of a slow phone, on a slow link and on a fast one."""
    root = tmp_path_factory.mktemp("plans")
    told = ["image_shape=[1,28,28]", "classes=10", "runs=3", "warmup=1", "carrying=false"]
    assert main(["profile", "model=le_net5", *told, f"out={root}/profile.json"]) == 0
    timed_by_operations(root / "profile.json")
    files = []
    for name, mbps in (("slow", 0.2), ("fast", 50.0)):
        words = [
            *("model=le_net5", f"records={RESULTS}", f"profile={root}/profile.json"),
            *("scenario=phone_lte", "only=[phone,edge]", "scenario.tiers.phone.slowdown=180"),
            *(f"scenario.hops.phone.edge.link.up_mbps={mbps}", f"out={root}/{name}"),
        ]
        assert main(["plan", *words]) == 0
        files.append(str(root / name / "plan.json"))
    return files


def timed_by_operations(path):
    """A third of a millisecond for the whole model, whatever this machine is doing."""
    found = json.loads(path.read_text())
    total = found["cuts"][-1]["head_flops"]
    for cut in found["cuts"]:
        for side in ("head", "tail"):
            ms = cut[f"{side}_flops"] / total / 3
            cut[f"{side}_ms"] |= dict.fromkeys(("p50", "p90", "p95", "p99", "mean"), ms)
    for name in ("whole_ms", "again_ms"):
        found[name] |= dict.fromkeys(("p50", "p90", "p95", "p99", "mean"), 1 / 3)
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
    assert found["refused"]
    assert all(plan["leakage"] <= 0.5 for plan in found["plans"])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["trace=nowhere.csv"], "cannot read the trace"),
        (["leakage=-1"], "no plan leaks at most -1"),
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
