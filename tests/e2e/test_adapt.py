"""From plans to what changing between them is worth, by the commands that users type."""

import json
from pathlib import Path

import pytest

from experiments.cli import main

RESULTS = Path(__file__).parents[2] / "results" / "adversaries.csv"


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    """Of a slow phone, on a slow link and on a fast one."""
    root = tmp_path_factory.mktemp("plans")
    told = ["image_shape=[1,28,28]", "classes=10", "runs=3", "warmup=1"]
    assert main(["profile", "model=le_net5", *told, f"out={root}/profile.json"]) == 0
    raw = json.loads((root / "profile.json").read_text())
    last = len(raw["cuts"]) - 1
    for place, cut in enumerate(raw["cuts"]):  # times of this machine would decide the test
        cut["head_ms"], cut["tail_ms"] = fixed(0.2 * place / last), fixed(0.2 * (1 - place / last))
    raw["whole_ms"] = raw["again_ms"] = fixed(0.2)
    (root / "profile.json").write_text(json.dumps(raw))
    files = []
    for name, mbps in (("slow", 0.2), ("fast", 50.0)):
        words = [
            *("model=le_net5", f"records={RESULTS}", f"profile={root}/profile.json"),
            *("scenario=phone_lte", "only=[phone,edge]", "scenario.tiers.phone.slowdown=900"),
            *(f"scenario.hops.phone.edge.link.up_mbps={mbps}", f"out={root}/{name}"),
        ]
        assert main(["plan", *words]) == 0
        files.append(str(root / name / "plan.json"))
    return files


def fixed(ms):
    return {**dict.fromkeys(("p50", "p90", "p95", "p99", "mean"), ms), "n": 3}


def adapted(plans, tmp_path, *words):
    code = main(["adapt", *plans, f"out={tmp_path}/adapted.json", *words])
    return code, json.loads((tmp_path / "adapted.json").read_text()) if code == 0 else None


def test_plays_a_trace_with_every_policy_and_writes_what_came_of_it(plans, tmp_path, capsys):
    trace = tmp_path / "trace.csv"
    trace.write_text(
        "seconds,mbps\n" + "".join(f"{t},{50 if t % 40 < 20 else 0.2}\n" for t in range(80))
    )
    code, found = adapted(plans, tmp_path, f"trace={trace}", "deadline_ms=300", "leakage=0.9")
    assert code == 0
    policies = {each["policy"]: each for each in found["policies"]}
    assert policies["clairvoyant"]["mean_regret_ms"] == 0
    assert policies["table"]["mean_regret_ms"] > 0
    assert any(name.startswith("always ") for name in policies)
    requests = {len(each["chosen"]) for each in found["policies"]}
    assert requests == {160}
    assert "trace.csv" in capsys.readouterr().out


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
