"""What rows are called."""

import dataclasses

from splitbench.leaderboard import Evidence, boards
from splitbench.leaderboard.naming import settings
from tests.unit.records import SETTINGS, Setting, cells


def chain(std: float) -> Setting:
    members = f"{{'few': Bottleneck(channels=4, stride=2), 'noise': Noise(std={std})}}"
    return dataclasses.replace(
        SETTINGS[-2], name="chain", expression=f"Chain(members={members})", traits={}
    )


def names(*found: Setting) -> list[str]:
    made = [Evidence(*pair) for pair in cells(cuts=("relu1",), settings=found, targets=24)]
    return sorted(row.label for row in boards(made, resamples=100)[0].rows)


def test_members_are_told_apart_by_what_differs() -> None:
    assert names(chain(0.5), chain(1.0)) == [
        "chain few.channels=4 noise.std=0.5",
        "chain few.channels=4 noise.std=1.0",
    ]


def test_codecs_of_one_kind_are_told_apart_by_what_differs() -> None:
    sparse = [
        dataclasses.replace(SETTINGS[0], codec=f"TopK(fraction=0.1, value_bits={n})", traits={})
        for n in (1, 32)
    ]
    assert names(*sparse) == [
        "undefended as TopK fraction=0.1 value_bits=1",
        "undefended as TopK fraction=0.1 value_bits=32",
    ]


def test_keywords_within_keywords_have_a_path() -> None:
    found = settings("Chain(members={'a': Outer(inner=Inner(x=1), y=(2, 3)), 'b': Plain()}, z='w')")
    assert found == {"a.inner.x": 1, "a.y": (2, 3), "z": "w"}


def test_what_is_no_expression_has_no_settings() -> None:
    assert settings("not an expression") == {}
