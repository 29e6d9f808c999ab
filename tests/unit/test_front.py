"""The settings of a defense that no other beats, and what they dominate together."""

import dataclasses

import numpy as np
import pytest

from experiments.front import REFERENCE, fronts, main
from splitbench.leaderboard import Evidence, boards
from splitbench.record import Interval
from tests.unit.records import SETTINGS, cells, write

BYTES = 28 * 28


@pytest.fixture(scope="module")
def row():
    """A ranked row, of which others are made."""
    found = cells(settings=SETTINGS[1:2], cuts=("relu2",), targets=30, attacks=("ridge",))
    ((only,),) = (board.rows for board in boards(Evidence(*pair) for pair in found))
    return only


def setting(row, leak, accuracy, ratio, **more):
    def known(value):
        return Interval(mean=value, low=value - 0.01, high=value + 0.01, n=30)

    return dataclasses.replace(
        row,
        setting=f"noise_std={leak}",
        closed=known(leak),
        accuracy=known(accuracy),
        payload_ratio=ratio,
        payload_bytes_mean=ratio * BYTES,
        **more,
    )


def front(*rows, **more):
    (found,) = fronts((("board", one) for one in rows), **more)
    return found


def beaten(one, others):
    """By definition: another is no worse in all three, and better in one."""
    return any(
        o[0] <= one[0] and o[1] >= one[1] and o[2] <= one[2] and tuple(o) != tuple(one)
        for o in others
    )


def test_the_front_is_what_no_other_setting_beats(row):
    generator = np.random.default_rng(3)
    drawn = generator.integers(1, 9, (40, 3)) / 10
    found = front(*(setting(row, *map(float, values)) for values in drawn))
    values = [point.values for point in found.points]
    assert sorted(values) == values
    assert list(found.best) == [not beaten(one, values) for one in values]
    assert 1 < sum(found.best) < len(values)


def test_one_point_dominates_the_box_between_it_and_the_plain_image(row):
    assert REFERENCE == (1.0, 0.0, 1.0)
    found = front(setting(row, 0.2, 0.75, 0.1))
    assert found.hypervolume == pytest.approx((1 - 0.2) * 0.75 * (1 - 0.1))


def test_two_points_dominate_their_union(row):
    found = front(setting(row, 0.2, 0.5, 0.5), setting(row, 0.6, 0.8, 0.5))
    assert found.hypervolume == pytest.approx(0.5 * (0.8 * 0.5 + 0.4 * 0.8 - 0.4 * 0.5))


def test_what_is_longer_than_the_image_adds_nothing(row):
    short, long = setting(row, 0.5, 0.5, 0.5), setting(row, 0.1, 0.9, 1.2)
    assert front(short, long).hypervolume == front(short).hypervolume
    assert front(long).hypervolume == 0


def test_equal_settings_all_stay(row):
    assert front(*(setting(row, 0.3, 0.7, 0.2) for _ in range(2))).best == (True, True)


@pytest.mark.parametrize("doubt", [{"flags": ("utility_collapsed",)}, {"flags": ("incomplete",)}])
def test_what_is_not_ranked_is_counted_as_tried_but_is_no_point(row, doubt):
    found = front(setting(row, 0.3, 0.7, 0.2), setting(row, 0.0, 0.9, 0.1, **doubt))
    assert found.tried == 2
    assert [point.leakage.mean for point in found.points] == [0.3]


def test_a_setting_of_which_the_attacks_are_not_all_there_yet_does_not_look_private(row):
    floors = tuple(entry for entry in row.attacks if entry.name != "ridge")
    extra = (*floors, dataclasses.replace(row.attacks[-1], name="another"))
    whole = setting(row, 0.3, 0.7, 0.2, attacks=(*row.attacks, *extra))
    found = front(whole, setting(row, 0.1, 0.7, 0.2))
    assert found.tried == 2
    assert [point.leakage.mean for point in found.points] == [0.3]


def test_a_front_of_nothing_but_doubts_is_empty(row):
    found = front(setting(row, 0.0, 0.9, 0.1, flags=("above_one",)))
    assert (found.points, found.best, found.hypervolume) == ((), (), 0)


def test_kinds_cuts_and_adversaries_have_fronts_of_their_own(row):
    other = dataclasses.replace(row, kind="dropout", defense_name="dropout")
    deep = dataclasses.replace(row, message=dataclasses.replace(row.message, cut="relu3"))
    threat = {**row.message.threat, "observations": 16}
    again = dataclasses.replace(row, message=dataclasses.replace(row.message, threat=threat))
    plain = dataclasses.replace(row, defense_name="none")
    found = fronts(("board", one) for one in (row, other, deep, again, plain))
    assert len({one.title for one in found}) == len(found) == 4
    assert all(one.tried == 1 for one in found)
    (only,) = fronts((("board", one) for one in (row, other)), defense="dropout")
    assert only.title.startswith("dropout at relu2")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    few = cells(settings=SETTINGS[:3], cuts=("relu2",), targets=30, attacks=("mean_image", "ridge"))
    return write(tmp_path_factory.mktemp("front") / "runs", few)


def test_the_command_prints_the_settings_and_draws_them(runs, tmp_path, capsys):
    file = tmp_path / "front.svg"
    assert main([str(runs), "--out", str(file)]) == 0
    out = capsys.readouterr().out
    assert "gaussian noise at relu2" in out
    assert "2 settings, 2 in full" in out
    assert "hypervolume" in out
    assert "noise_std=2.0" in out
    assert str(REFERENCE) in out
    assert file.read_text().startswith("<?xml")


def test_a_defense_that_was_not_run_and_an_empty_folder_are_one_sentence(runs, tmp_path, capsys):
    for words in ([str(runs), "--defense", "chain"], [str(tmp_path)]):
        assert main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
