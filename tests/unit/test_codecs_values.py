"""Float32, Float16, TopK, and tensors that are not features."""

import struct
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from splitbench.codec import CodecError
from splitbench.codecs.float16 import Float16
from splitbench.codecs.float32 import Float32
from splitbench.codecs.top_k import TopK
from splitbench.codecs.uniform import Uniform
from splitbench.release import TensorSpec
from splitbench.rng import stream

reproducible = settings(derandomize=True, database=None, deadline=None, max_examples=80)
halves = st.floats(-65500, 65500, width=32) | st.sampled_from([0.0, -0.0, 1e-8, 65519.996])
batches = arrays(
    np.float32,
    array_shapes(min_dims=1, max_dims=4, max_side=5).map(lambda shape: (2, *shape[1:])),
    elements=halves,
).map(torch.from_numpy)
codecs = st.sampled_from([Float32(), Float16(), Float32(entropy=True), TopK()]) | st.builds(
    TopK,
    fraction=st.floats(0.01, 1),
    value_bits=st.sampled_from([1, 16, 32]),
    entropy=st.booleans(),
)


def same_bits(a, b):
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


@given(codec=codecs, batch=batches)
@reproducible
def test_transform_is_the_round_trip_bit_for_bit_and_happens_once(codec, batch):
    once = codec.transform((batch,))[0]
    decoded = [codec.decode(codec.encode([x]))[0] for x in batch]
    assert same_bits(once, torch.stack(decoded))
    assert torch.equal(codec.transform((once,))[0], once)


@given(codec=codecs, batch=batches)
@reproducible
def test_what_was_sent_explains_its_message(codec, batch):
    assert not codec.distance(codec.transform((batch,)), (batch,)).any()


@given(batch=batches)
@reproducible
def test_the_cell_of_a_half_ends_where_the_next_half_begins(batch):
    codec = Float16()
    decoded = codec.transform((batch,))
    (low,), (high,) = codec.interval(decoded)
    assert torch.equal(low.half().float(), decoded[0])
    assert torch.equal(high.half().float(), decoded[0])
    below = torch.nextafter(low, torch.tensor(-torch.inf))
    above = torch.nextafter(high, torch.tensor(torch.inf))
    assert bool((below.half().float() < decoded[0]).all())
    assert bool((above.half().float() > decoded[0]).all())


def test_every_half_comes_back():
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32)
    every = bits.to(torch.int16).view(torch.float16)
    every = every[torch.isfinite(every)].float()
    assert same_bits(Float16().decode(Float16().encode([every]))[0], every)


@pytest.mark.parametrize("codec", [Float16(), TopK(value_bits=16)], ids=repr)
def test_a_value_beyond_half_precision_is_refused(codec):
    with pytest.raises(ValueError, match="use Float32"):
        codec.encode([torch.tensor([65520.0])])
    with pytest.raises(ValueError, match="use Float32"):
        codec.transform((torch.tensor([[-1e9]]),))


def test_gradients_pass_through_float16_and_the_kept_values():
    features = torch.tensor([[3.0, -1.0, 2.0, 0.5]], requires_grad=True)
    Float16().transform((features,))[0].sum().backward()
    assert features.grad.tolist() == [[1, 1, 1, 1]]
    features.grad = None
    TopK(fraction=0.5).transform((features,))[0].sum().backward()
    assert features.grad.tolist() == [[1, 0, 1, 0]]


def test_top_k_keeps_the_largest_of_each_example_and_the_first_of_equals():
    batch = torch.tensor([[1.0, -5.0, 2.0, 0.0], [100.0, 100.0, -100.0, 100.0]])
    kept = TopK(fraction=0.5).transform((batch,))[0]
    assert kept.tolist() == [[0, -5, 2, 0], [100, 100, 0, 0]]


def test_of_many_equal_values_the_first_are_kept():
    batch = torch.arange(20_000).reshape(2, 10_000) % 7 == 0
    kept = TopK(fraction=0.05).transform((batch.float(),))[0]
    first = batch & (batch.cumsum(1) <= 500)
    assert torch.equal(kept, first.float())


@pytest.mark.parametrize("fraction", [0.01, 0.07, 0.1, 0.3, 1 / 3, 0.55, 1])
@pytest.mark.parametrize("count", [1, 3, 10, 100, 700])
def test_top_k_counts_with_the_decimal_fraction(fraction, count):
    expected = -(-Fraction(repr(fraction)) * count // 1)
    assert TopK(fraction=fraction).kept(count) == expected
    distinct = torch.arange(1.0, count + 1)
    assert int((TopK(fraction=fraction).transform((distinct[None],))[0] != 0).sum()) == expected


def test_a_dropped_value_is_at_most_the_smallest_kept_one():
    codec = TopK(fraction=0.5)
    decoded = (torch.tensor([[4.0, 0.0, -2.0, 0.0]]),)
    (low,), (high,) = codec.interval(decoded)
    assert low.tolist() == [[4, -2, -2, -2]]
    assert high.tolist() == [[4, 2, -2, 2]]
    assert codec.distance(decoded, (torch.tensor([[4.0, 2.0, -2.0, 3.0]]),)).tolist() == [1.0]


def test_if_fewer_values_than_k_are_not_zero_all_are_known():
    (low,), (high,) = TopK(fraction=0.5).interval((torch.tensor([[4.0, 0.0, 0.0, 0.0]]),))
    assert torch.equal(low, high)


@pytest.mark.parametrize("arguments", [{"fraction": 0}, {"fraction": 1.1}, {"value_bits": 8}])
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        TopK(**arguments)


def test_places_and_signs_alone_arrive_with_the_mean_magnitude():
    codec = TopK(fraction=0.5, value_bits=1)
    values = torch.tensor([[4.0, -2.0, 0.5, -0.1]])
    assert codec.transform((values,))[0].tolist() == [[3.0, -3.0, 0.0, 0.0]]
    message = codec.encode([values[0]])
    assert codec.decode(message)[0].tolist() == [3.0, -3.0, 0.0, 0.0]
    (low,), (high,) = codec.interval((torch.tensor([[3.0, -3.0, 0.0, 0.0]]),))
    assert low.flatten().tolist() == pytest.approx([0.0, -6.0, -3.0, -3.0])
    assert high.flatten().tolist() == pytest.approx([6.0, 0.0, 3.0, 3.0])


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (7, 1), (80, 8), (81, 9), (1000, 100)])
def test_places_and_signs_take_a_bit_for_each_sign_and_four_bytes(count, kept):
    signs, exact = TopK(value_bits=1), TopK(value_bits=32)
    shape = (count,)
    saved = exact.body_bytes(shape) - signs.body_bytes(shape)
    assert saved == 4 * kept - 4 - (kept + 7) // 8


def test_a_negative_magnitude_is_refused():
    codec = TopK(fraction=0.5, value_bits=1)
    body = bytearray(codec.pack(torch.tensor([4.0, -2.0, 0.5, -0.1])))
    body[1:5] = struct.pack("<f", -1.0)
    with pytest.raises(CodecError, match=r"the magnitude -1\.0 is negative"):
        codec.unpack(bytes(body), (4,))


@pytest.mark.parametrize("codec", [Float32(), Float16(), Uniform(bits=2), TopK()], ids=repr)
def test_indices_and_masks_travel_unchanged(codec):
    tensors = (
        torch.tensor([[-(2**40), 3]]),
        torch.tensor([[2**31 - 1]], dtype=torch.int32),
        torch.tensor([[-(2**15), 7, 9]], dtype=torch.int16),
        torch.tensor([[-128, 127]], dtype=torch.int8),
        torch.tensor([[0, 255]], dtype=torch.uint8),
        torch.tensor([[True, False, True] * 3]),
    )
    message = codec.encode([t[0] for t in tensors])
    for sent, decoded, simulated in zip(
        tensors, codec.decode(message), codec.transform(tensors), strict=True
    ):
        assert decoded.dtype == simulated.dtype == sent.dtype
        assert torch.equal(decoded[None], sent)
        assert torch.equal(simulated, sent)
    assert not codec.distance(tensors, tensors).any()
    specs = [TensorSpec("", tuple(t.shape[1:]), str(t.dtype)[6:]) for t in tensors]
    assert len(message) == codec.payload_bound(specs) == 16 + 6 * 6 + 16 + 4 + 6 + 2 + 2 + 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_arrive_as_float32(dtype):
    features = torch.randn(2, 5, generator=stream(0, "half")).to(dtype)
    assert same_bits(Float32().transform((features,))[0], features.float())
    message = Float32().encode([features[0]])
    assert same_bits(Float32().decode(message)[0], features[0].float())
    spec = TensorSpec("", (5,), str(dtype)[6:])
    assert Float32().payload_bound([spec]) == len(message)


def test_double_precision_is_refused_instead_of_rounded():
    with pytest.raises(ValueError, match="tensor 1 is float64"):
        Float32().encode([torch.zeros(2), torch.zeros(2, dtype=torch.float64)])


def test_views_and_transposed_tensors_are_carried():
    features = torch.arange(24.0).reshape(2, 3, 4).transpose(1, 2)
    for codec in (Float32(), Float16(), Uniform(bits=8), TopK(fraction=0.2)):
        decoded = torch.stack([codec.decode(codec.encode([x]))[0] for x in features])
        assert same_bits(decoded, codec.transform((features,))[0].contiguous())


@pytest.mark.parametrize("codec", [Float32(), Float16(), TopK(), TopK(value_bits=16)], ids=repr)
@pytest.mark.parametrize("shape", [(2, 0), (2, 3, 0), (2,), (0, 3)])
def test_empty_tensors_scalars_and_empty_batches_are_carried(codec, shape):
    batch = torch.ones(shape)
    assert codec.transform((batch,))[0].shape == batch.shape
    assert codec.distance((batch,), (batch,)).tolist() == [0] * shape[0]
    for example in batch:
        assert torch.equal(codec.decode(codec.encode([example]))[0], example)


def test_a_message_of_no_tensors_is_a_message():
    assert Float32().decode(Float32().encode([])) == ()
