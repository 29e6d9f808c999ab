"""Uniform quantisation: ranges, cells, packing, odd inputs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from splitbench.codecs.bitpack import pack, packed_bytes, unpack
from splitbench.codecs.uniform import Uniform
from splitbench.rng import stream

WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 16)
reproducible = settings(derandomize=True, database=None, deadline=None, max_examples=60)
# Half of the largest float32 on: their range is a float64 number, every value stays finite.
values = st.floats(-(2.0**127), 2.0**127, width=32)
batches = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=4, max_side=5).map(lambda shape: (2, *shape[1:])),
    elements=values | st.floats(-3, 3, width=32) | st.sampled_from([0.0, -0.0, 1.0, 1e-45]),
).map(torch.from_numpy)
codecs = st.builds(
    Uniform, bits=st.sampled_from(WIDTHS), per=st.sampled_from(["tensor", "channel"])
) | st.builds(
    Uniform, bits=st.sampled_from(WIDTHS), clip=st.sampled_from([(0, 1), (-2.34, 2.34), (-1e-3, 7)])
)


def same_bits(a, b):
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


def round_trip(codec, batch):
    return torch.stack([codec.decode(codec.encode([x]))[0] for x in batch])


@given(count=st.integers(0, 70), width=st.integers(0, 32), data=st.data())
@reproducible
def test_packing_is_dense_and_bijective(count, width, data):
    codes = data.draw(arrays(np.uint32, count, elements=st.integers(0, 2**width - 1)))
    packed = pack(codes, width)
    assert len(packed) == packed_bytes(count, width) == -(-count * width // 8)
    assert np.array_equal(unpack(packed, count, width), codes)


@pytest.mark.parametrize("width", [1, 3, 16])
def test_packing_of_more_than_one_chunk_is_bijective(width):
    codes = np.arange(2**16 + 11) % 2**width
    assert np.array_equal(unpack(pack(codes, width), len(codes), width), codes)


@given(codec=codecs, batch=batches)
@reproducible
def test_transform_is_the_round_trip_bit_for_bit(codec, batch):
    assert same_bits(codec.transform((batch,))[0], round_trip(codec, batch))


@given(codec=codecs, batch=batches)
@reproducible
def test_encoding_again_changes_nothing(codec, batch):
    once = codec.transform((batch,))[0]
    assert same_bits(codec.transform((once,))[0], once)


@given(codec=codecs, batch=batches)
@reproducible
def test_what_was_sent_lies_in_its_cell_and_so_does_its_level(codec, batch):
    decoded = codec.transform((batch,))
    (low,), (high,) = codec.interval(decoded)
    assert bool(((low <= batch) & (batch <= high)).all())
    assert bool(((low <= decoded[0]) & (decoded[0] <= high)).all())


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("clip", [None, (-2.34, 2.34)])
def test_cell_ends_are_exact_to_the_last_bit(bits, clip):
    codec = Uniform(bits=bits, clip=clip)
    batch = torch.randn(1, 500, generator=stream(0, "cells"))
    decoded = codec.transform((batch,))
    (low,), (high,) = codec.interval(decoded)
    inner = torch.ones(500, dtype=torch.bool)
    if clip is None:  # moving an extreme value would move the range
        inner[batch[0].argmin()] = inner[batch[0].argmax()] = False
    beyond = {"low": torch.tensor(-torch.inf), "high": torch.tensor(torch.inf)}
    for side, end in (("low", low), ("high", high)):
        reachable = inner & torch.isfinite(end[0])
        if clip is None:  # beyond the outer cells there is nothing
            extreme = batch.min() if side == "low" else batch.max()
            reachable = reachable & (end[0] != extreme)
        at = torch.where(reachable, end[0], batch[0])[None]
        past = torch.where(reachable, torch.nextafter(end[0], beyond[side]), batch[0])[None]
        assert same_bits(codec.transform((at,))[0], decoded[0])
        assert bool((codec.transform((past,))[0] != decoded[0])[0][reachable].all()) or bits == 16
        assert reachable.any()


def test_a_fixed_clip_has_unbounded_outer_cells():
    codec = Uniform(bits=1, clip=(-1, 1))
    decoded = codec.transform((torch.tensor([[-9.0, 9.0]]),))
    assert decoded[0].tolist() == [[-0.5, 0.5]]
    (low,), (high,) = codec.interval(decoded)
    assert low.tolist() == [[-torch.inf, 0.0]]
    assert high[0, 0] < 0
    assert high[0, 1] == torch.inf


def test_the_range_of_an_example_is_hit_exactly_and_zeros_stay_zero():
    batch = torch.randn(3, 4, 6, 6, generator=stream(0, "relu")).relu()
    decoded = Uniform(bits=2).transform((batch,))[0]
    assert torch.equal(decoded.flatten(1).amax(1), batch.flatten(1).amax(1))
    assert bool((decoded[batch == 0] == 0).all())
    assert len(decoded[0].unique()) == 4


def test_negative_zero_is_zero():
    positive, negative = torch.tensor([[0.0, 1.0]]), torch.tensor([[-0.0, 1.0]])
    assert Uniform().encode([negative[0]]) == Uniform().encode([positive[0]])
    assert same_bits(Uniform().transform((-positive,))[0], -positive + 0.0)


def test_a_channel_is_an_entry_of_axis_0_and_short_tensors_have_one_range():
    codec = Uniform(bits=1, per="channel")
    batch = torch.tensor([[[0.0, 1.0], [10.0, 30.0]]])
    assert torch.equal(codec.transform((batch,))[0], batch)
    flat = torch.tensor([[0.0, 1.0, 10.0, 30.0]])
    assert codec.transform((flat,))[0].tolist() == [[0.0, 0.0, 0.0, 30.0]]
    assert codec.body_bytes((2, 2)) == 2 * 8 + 1
    assert codec.body_bytes((4,)) == 8 + 1


@pytest.mark.parametrize("codec", [Uniform(bits=3), Uniform(bits=16, per="channel")], ids=repr)
def test_constant_tensors_are_exact(codec):
    batch = torch.full((2, 3, 4), 0.1)
    assert torch.equal(codec.transform((batch,))[0], batch)
    assert torch.equal(round_trip(codec, batch), batch)
    (low,), (high,) = codec.interval((batch,))
    assert torch.equal(low, batch)
    assert torch.equal(high, batch)


@pytest.mark.parametrize("codec", [Uniform(bits=3), Uniform(bits=3, clip=(0, 1))], ids=repr)
@pytest.mark.parametrize("shape", [(2, 0), (2, 0, 3), (2, 3, 0), (2,)])
def test_empty_tensors_and_scalars_are_carried(codec, shape):
    batch = torch.ones(shape) / 16
    assert codec.transform((batch,))[0].shape == batch.shape
    assert round_trip(codec, batch).shape == batch.shape
    assert codec.distance((batch,), (batch,)).tolist() == [0, 0]


def test_an_empty_batch_is_transformed():
    assert Uniform().transform((torch.zeros(0, 3, 4),))[0].shape == (0, 3, 4)


def test_transform_passes_no_gradient_and_distance_does():
    codec = Uniform(bits=2)
    features = torch.linspace(0, 1, 9)[None].requires_grad_()
    decoded = codec.transform((features,))
    assert not decoded[0].requires_grad
    codec.distance(decoded, (features + 0.4,)).sum().backward()
    assert bool((features.grad >= 0).all())
    assert bool((features.grad > 0).any())


def test_distance_is_the_squared_distance_to_the_cell():
    codec = Uniform(bits=1, clip=(-1, 1))
    decoded = (torch.tensor([[-0.5, 0.5], [0.5, 0.5]]),)
    features = (torch.tensor([[-3.0, -2.0], [0.1, 5.0]]),)
    assert codec.distance(decoded, features).tolist() == [4.0, 0.0]


@pytest.mark.parametrize(
    "arguments",
    [
        {"bits": 0},
        {"bits": 9},
        {"per": "image"},
        {"clip": (1, 1)},
        {"clip": (0, float("nan"))},
        {"clip": (0, float("inf"))},
        {"clip": (1e6, 1e6 + 1), "bits": 16},
        {"clip": (0, 1), "per": "channel"},
        {"max_bytes": 0},
        {"max_bytes": 2**32},
    ],
    ids=repr,
)
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Uniform(**arguments)


def test_a_list_from_yaml_is_as_good_as_a_tuple():
    assert Uniform(clip=[0, 1]) == Uniform(clip=(0.0, 1.0))
    assert repr(Uniform(clip=[0, 1])).startswith("Uniform(bits=8, per='tensor', clip=(0.0, 1.0)")
