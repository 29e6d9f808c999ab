"""Random streams."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from splitbench.rng import isolated, normal_like, stream, uniform_like


def draws(*arguments):
    return torch.rand(8, generator=stream(*arguments))


def test_equal_names_give_equal_streams():
    assert torch.equal(draws(3, "attack", "relu1"), draws(3, "attack", "relu1"))


@given(
    st.tuples(st.integers(0, 2**40), st.lists(st.text(max_size=4), max_size=3)),
    st.tuples(st.integers(0, 2**40), st.lists(st.text(max_size=4), max_size=3)),
)
def test_streams_differ_whenever_seed_or_names_differ(one, other):
    same = torch.equal(draws(one[0], *one[1]), draws(other[0], *other[1]))
    assert same == (one == other)


def test_names_are_not_merely_joined():
    assert not torch.equal(draws(0, "ab", "c"), draws(0, "a", "bc"))


def test_streams_are_uncorrelated():
    table = torch.stack([torch.randn(20_000, generator=stream(0, "s", str(i))) for i in range(6)])
    off_diagonal = torch.corrcoef(table) - torch.eye(6)
    assert off_diagonal.abs().max() < 5 / 20_000**0.5


def test_drawing_from_one_stream_moves_no_other():
    other = stream(0, "other")
    torch.rand(100, generator=stream(0, "one"))
    assert torch.equal(torch.rand(8, generator=other), draws(0, "other"))


def test_isolated_restores_the_global_generator():
    before = torch.get_rng_state()
    with isolated(stream(0, "x")):
        torch.rand(5)
    assert torch.equal(torch.get_rng_state(), before)


def test_isolated_restores_after_an_error():
    before = torch.get_rng_state()
    try:
        with isolated(stream(0, "x")):
            torch.rand(5)
            raise KeyError
    except KeyError:
        pass
    assert torch.equal(torch.get_rng_state(), before)


def test_isolated_modules_depend_on_the_generator_only():
    def weights(*names):
        with isolated(stream(0, *names)):
            return torch.nn.Linear(3, 3).weight

    first = weights("a")
    torch.rand(7)
    assert torch.equal(weights("a"), first)
    assert not torch.equal(weights("b"), first)


def test_noise_has_the_shape_and_type_of_what_it_is_for():
    for kind in (normal_like, uniform_like):
        noise = kind(torch.zeros(2, 3, dtype=torch.float64), stream(0, "noise"))
        assert noise.shape == (2, 3)
        assert noise.dtype == torch.float64
    uniform = uniform_like(torch.zeros(1000), stream(0, "noise"))
    assert uniform.min() >= 0
    assert uniform.max() < 1
