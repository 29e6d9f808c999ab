"""Records and the scores beside them."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from splitbench.record import Cell, Interval, Record, SchemaError, Scores

CELL = Cell(
    data="digits",
    model="le_net5",
    cut="relu1",
    cut_index=2,
    defense="NoDefense()",
    defense_name="none",
    codec="Float32(entropy=False)",
    attack="Ridge(ridge=0.01)",
    attack_name="ridge",
    floor=False,
    threat={"client": "weights", "query_budget": None},
    seed=0,
)
RECORD = Record(
    protocol="lite-1",
    cell_id="c0",
    job_id="j0",
    status="ok",
    cell=CELL,
    targets=24,
    utility={"accuracy": Interval(mean=0.8, low=0.7, high=0.9, n=24)},
    leakage={"L": Interval(mean=1 / 3, low=-0.1, high=0.6, n=24)},
    floors={"mean_image/mse": 0.06},
    flags=("few_examples",),
    claimed={"psnr_db": 20.1},
)


def edited(**changes):
    return json.dumps(json.loads(RECORD.to_json()) | changes)


def test_a_record_survives_its_json():
    again = Record.from_json(RECORD.to_json())
    assert again == RECORD
    assert again.to_json() == RECORD.to_json()


def test_a_failed_record_survives_its_json():
    failed = replace(RECORD, status="failed", error="ValueError: diverged", leakage={}, targets=0)
    assert Record.from_json(failed.to_json()) == failed


def test_json_does_not_depend_on_the_order_of_insertion():
    floors = {"b": 1.0, "a": 2.0}
    backwards = dict(reversed(floors.items()))
    assert replace(RECORD, floors=floors).to_json() == replace(RECORD, floors=backwards).to_json()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="JSON compliant"):
        replace(RECORD, floors={"x": bad}).to_json()
    with pytest.raises(ValueError, match="JSON compliant"):
        replace(RECORD, leakage={"L": Interval(mean=bad, low=0, high=1, n=1)}).to_json()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not a JSON document"),
        ("{", "not a JSON document"),
        ("[]", "schema 'list'"),
        ("{}", "schema None"),
        (edited(schema=0), "schema 0"),
        (edited(surprise=1), r"has unknown \['surprise'\]"),
        (edited(cell={}), "cell"),
        (edited(cell=dict(vars(CELL), extra=1)), "cell"),
        (edited(leakage={"L": {"mean": 1.0}}), "leakage"),
        (edited(leakage=[]), "leakage"),
        (edited(status="fine"), "status"),
        (edited(floors={"x": float("nan")}), "holds NaN"),
        (edited(floors={"x": float("-inf")}), "holds -Infinity"),
    ],
)
def test_what_is_not_a_record_of_this_version_is_a_schema_error(text, complaint):
    with pytest.raises(SchemaError, match=complaint):
        Record.from_json(text)


def test_a_missing_key_is_named():
    raw = json.loads(RECORD.to_json())
    del raw["flags"], raw["cell_id"]
    with pytest.raises(SchemaError, match=r"lacks \['cell_id', 'flags'\]"):
        Record.from_json(json.dumps(raw))


@pytest.fixture
def kept(tmp_path):
    """Scores on disk: path, checksum, and what was written."""
    scores = Scores(
        metrics={"mse": np.array([0.1, 0.2]), "psnr_db": np.array([10.0, 7.0])},
        floors={"mean_image/mse": np.array([0.3, 0.4])},
        guesses=np.zeros((1, 1, 2, 2), dtype=np.uint8),
        truths=np.full((1, 1, 2, 2), 255, dtype=np.uint8),
    )
    content = save(scores.arrays())
    path = tmp_path / "c0.safetensors"
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest(), scores


def test_scores_survive_their_file(kept):
    path, checksum, scores = kept
    for again in (Scores.load(path, checksum), Scores.load(path)):
        assert again.arrays().keys() == scores.arrays().keys()
        for name, array in scores.arrays().items():
            np.testing.assert_array_equal(again.arrays()[name], array)


def test_metrics_and_floors_keep_their_names(kept):
    again = Scores.load(kept[0])
    assert set(again.metrics) == {"mse", "psnr_db"}
    assert set(again.floors) == {"mean_image/mse"}


def test_scores_of_another_checksum_are_named_with_a_remedy(kept):
    path, checksum, _ = kept
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(SchemaError, match=r"c0\.safetensors is damaged.*delete its cell"):
        Scores.load(path, checksum)


def test_missing_scores_are_named(tmp_path):
    with pytest.raises(SchemaError, match=r"cannot read the scores .*none"):
        Scores.load(tmp_path / "none")


def test_a_file_that_holds_no_scores_is_a_schema_error(tmp_path):
    path = tmp_path / "c.safetensors"
    for content in (b"", b"garbage", save({"other": np.zeros(2)})):
        path.write_bytes(content)
        with pytest.raises(SchemaError):
            Scores.load(path)


def test_a_record_from_before_there_were_other_secrets_is_about_the_image():
    raw = json.loads(RECORD.to_json())
    del raw["cell"]["secret"]
    assert Record.from_json(json.dumps(raw)) == RECORD
    assert RECORD.cell.secret == "image"


def test_a_record_about_another_secret_survives_its_json():
    other = replace(RECORD, cell=replace(CELL, secret="attribute fine"))
    assert Record.from_json(other.to_json()) == other
