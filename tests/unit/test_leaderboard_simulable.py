"""Which release can be computed from which other."""

import pytest

from splitbench.leaderboard.simulable import Message, follows, knows_more, parse

WHITE = {
    "client": "weights",
    "defense": "known",
    "auxiliary": "same",
    "query_budget": None,
    "observations": 1,
}
FROZEN = {"changes_client": False, "lossless": True}


def plain(index, **threat):
    traits = {**FROZEN, "exact": True}
    return message(index, "NoDefense()", "Float32()", traits, **threat)


def noise(index, std, per="tensor", codec="Float32()", lossless=True, **threat):
    traits = {
        "changes_client": False,
        "lossless": lossless,
        "knob": "std",
        "protects": "up",
        "nested": "all",
    }
    return message(index, f"Noise(std={std}, per={per!r})", codec, traits, **threat)


def private(index, epsilon, clip=None):
    traits = {**FROZEN, "knob": "epsilon", "protects": "down", "nested": "all"}
    expression = f"LocalDpGaussian(epsilon={epsilon}, delta=1e-05, clip={clip})"
    return message(index, expression, "Float32()", traits)


def half(index, std):
    return noise(index, std, codec="Float16()", lossless=False)


def bits(index, count, entropy=False, **threat):
    traits = {"changes_client": False, "knob": "bits", "protects": "down", "nested": "multiples"}
    codec = f"Uniform(bits={count}, entropy={entropy})"
    return message(index, f"Quantization(bits={count})", codec, traits, **threat)


def message(index, expression, codec, traits, **threat):
    return Message(
        cut=f"cut{index}",
        cut_index=index,
        defense=expression,
        codec=codec,
        threat={**WHITE, **threat},
        traits=traits,
    )


TRAINED = message(2, "Bottleneck(channels=4)", "Float32()", {"changes_client": True})
UNKNOWN = message(2, "Theirs(x=1)", "Float32()", {})


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (plain(1), plain(2)),
        (plain(1), noise(2, 0.5)),
        (plain(1), noise(1, 0.5)),
        (plain(1), bits(3, 2)),
        (noise(1, 0.5), noise(1, 2.0)),
        (noise(1, 1), noise(1, 2)),
        (noise(1, 0.5, client="query"), noise(1, 2.0, client="query")),
        (noise(1, 1, client="query", query_budget=9), noise(1, 2, client="query", query_budget=9)),
        (noise(1, 0.5, auxiliary="none"), noise(1, 2.0, auxiliary="none")),
        (bits(1, 8, client="query"), bits(1, 2, client="query")),
        (private(1, 64.0), private(1, 8.0)),
        (plain(1), private(1, 8.0)),
        (bits(1, 8), bits(1, 2)),
        (bits(1, 8), bits(1, 4)),
        (plain(1, observations=16), plain(1)),
        (noise(1, 0.5), noise(1, 0.5, client="query")),
        (noise(1, 0.5), noise(1, 0.5, defense="hidden")),
        (noise(1, 0.5), noise(1, 0.5, defense="hidden", client="query")),
        (noise(1, 1, client="none"), noise(1, 1, client="none", defense="hidden")),
        (noise(1, 0.5), noise(1, 0.5, key="secret")),
        (noise(1, 0.5, key="known"), noise(1, 0.5, key="secret")),
    ],
)
def test_the_second_follows_from_the_first_but_never_the_first_from_the_second(first, second):
    assert follows(first, second)
    assert not follows(second, first)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (plain(1), TRAINED),
        (plain(1), UNKNOWN),
        (noise(1, 0.5), noise(2, 2.0)),
        (noise(1, 0.5), noise(1, 2.0, per="channel")),
        (half(1, 0.5), half(1, 2.0)),
        (noise(1, 0.5), noise(1, 2.0, codec="Float16()")),
        (noise(1, 0), noise(1, 2.0)),
        (noise(1, 0.5, client="architecture"), noise(1, 2.0, client="architecture")),
        (noise(1, 0.5, client="none"), noise(1, 2.0, client="none")),
        (bits(1, 8, client="architecture"), bits(1, 2, client="architecture")),
        (noise(1, 1, client="query", query_budget=9), noise(1, 2, client="query", query_budget=5)),
        (noise(1, 1, client="query"), noise(1, 1, client="query", defense="hidden")),
        (private(1, 64.0, clip=1.0), private(1, 8.0, clip=2.0)),
        (bits(1, 8), bits(1, 3)),
        (bits(1, 8), bits(1, 2, entropy=True)),
        (bits(1, 8), noise(1, 2.0)),
        (plain(1, client="query"), plain(2, client="query")),
        (plain(1, defense="hidden"), plain(2, defense="hidden")),
        (plain(1), noise(2, 0.5, observations=16)),
        (plain(1, client="query", observations=16), plain(1)),
        (plain(1), plain(1)),
    ],
)
def test_neither_follows_from_the_other(first, second):
    assert not follows(first, second)
    assert not follows(second, first)


def test_knowledge_is_a_partial_order():
    budget = {**WHITE, "client": "query", "query_budget": 500}
    more = {**budget, "query_budget": 5000}
    assert knows_more(more, budget)
    assert knows_more(WHITE, more)
    assert not knows_more(budget, {**WHITE, "auxiliary": "none"})
    assert not knows_more({**WHITE, "auxiliary": "none"}, budget)
    assert not knows_more(WHITE, WHITE)
    assert not knows_more({**WHITE, "key": "known"}, WHITE)
    assert not knows_more({**budget, "key": "known"}, {**WHITE, "key": "secret"})


def test_to_know_what_a_client_looks_like_and_to_ask_it_are_different_things():
    looks, asks, nothing = (
        {**WHITE, "client": client} for client in ("architecture", "query", "none")
    )
    assert knows_more(WHITE, looks)
    assert knows_more(looks, nothing)
    assert knows_more(asks, nothing)
    assert not knows_more(looks, asks)
    assert not knows_more(asks, looks)


def test_a_budget_counts_for_those_alone_who_may_ask():
    few = {**WHITE, "client": "query", "query_budget": 5}
    assert knows_more(few, {**WHITE, "client": "none"})
    assert not knows_more({**WHITE, "client": "none"}, {**few, "client": "none"})
    assert not knows_more(few, {**WHITE, "client": "query"})


def test_expressions_are_read_and_never_run():
    assert parse("A.B(x=1, y=(0.0, 6.0), z='t', w=None)") == (
        "A.B",
        {"x": 1, "y": (0.0, 6.0), "z": "t", "w": None},
    )
    name, keywords = parse("A(x=__import__('os').system('false'))")
    assert (name, keywords["x"]) == ("A", "__import__('os').system('false')")
    assert parse("not an expression (") == ("not an expression (", {})
    assert parse("5") == ("5", {})
