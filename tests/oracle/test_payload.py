"""Closed forms of quantisation, payload and rate."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from splitbench.codecs.channel_subset import ChannelSubset
from splitbench.codecs.container import overhead
from splitbench.codecs.float16 import Float16
from splitbench.codecs.float32 import Float32
from splitbench.codecs.raw_image import RawImage
from splitbench.codecs.top_k import TopK
from splitbench.codecs.uniform import Uniform
from splitbench.release import TensorSpec
from splitbench.rng import stream

WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 16)
SIZES = (0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 100, 1001)
# Clip and Bayes-optimal error of a standard normal value behind it, by adaptive quadrature of
# (x - E[x | cell])^2 over 2^bits equal cells, to five digits.
GAUSSIAN = {
    1: (1.6, 0.36338),
    2: (2.0, 0.11755),
    3: (2.34, 0.035978),
    4: (2.68, 0.010921),
    8: (3.9, 8.2700e-5),
}


def payload(codec, *shapes):
    generator = stream(0, "payload")
    return len(codec.encode([torch.randn(shape, generator=generator) for shape in shapes]))


def specs(*shapes):
    return [TensorSpec(str(i), shape) for i, shape in enumerate(shapes)]


def header(*shapes):
    """Magic and counts, type and axes of each tensor, length of the body, checksum."""
    return 8 + sum(2 + 4 * len(shape) for shape in shapes) + 4 + 4


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("count", SIZES)
def test_k_bits_per_value_cost_exactly_that_and_the_declared_header(bits, count):
    codec = Uniform(bits=bits, clip=(-3, 3))
    assert payload(codec, (count,)) == header((count,)) + math.ceil(count * bits / 8)
    assert payload(codec, (count,)) == codec.payload_bound(specs((count,)))


@pytest.mark.parametrize("bits", WIDTHS)
def test_each_range_costs_eight_bytes(bits):
    shapes = ((3, 5, 7), (11,), (6, 1))
    header = overhead(specs(*shapes))
    codes = sum(math.ceil(math.prod(shape) * bits / 8) for shape in shapes)
    assert payload(Uniform(bits=bits), *shapes) == header + 3 * 8 + codes
    assert payload(Uniform(bits=bits, per="channel"), *shapes) == header + (3 + 1 + 6) * 8 + codes


@pytest.mark.parametrize(("codec", "width"), [(Float32(), 4), (Float16(), 2)])
def test_floats_cost_their_width(codec, width):
    shapes = ((3, 5, 7), (), (0, 4))
    assert payload(codec, *shapes) == overhead(specs(*shapes)) + width * 106
    assert payload(codec, *shapes) == codec.payload_bound(specs(*shapes))


@pytest.mark.parametrize("value_bits", [16, 32])
@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.1, 0.125, 0.3, 1])
@pytest.mark.parametrize("count", SIZES)
def test_top_k_costs_its_values_and_the_shorter_index(fraction, value_bits, count):
    kept = math.ceil(round(fraction * count, 9))
    listed = kept * math.ceil(math.log2(count)) if count else 0
    body = math.ceil(min(count, listed) / 8) + kept * value_bits // 8
    codec = TopK(fraction=fraction, value_bits=value_bits)
    assert payload(codec, (count,)) == overhead(specs((count,))) + body
    assert payload(codec, (count,)) == codec.payload_bound(specs((count,)))


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.1, 0.125, 0.3, 1])
@pytest.mark.parametrize("count", SIZES)
def test_top_k_of_signs_costs_the_index_a_bit_for_each_and_one_scale(fraction, count):
    kept = math.ceil(round(fraction * count, 9))
    listed = kept * math.ceil(math.log2(count)) if count else 0
    signs = math.ceil(kept / 8) + 4 if kept else 0
    codec = TopK(fraction=fraction, value_bits=1)
    expected = header((count,)) + math.ceil(min(count, listed) / 8) + signs
    assert payload(codec, (count,)) == codec.payload_bound(specs((count,))) == expected


@pytest.mark.parametrize("percent", [0, 7, 10, 25, 33, 50, 70, 90, 99])
@pytest.mark.parametrize("channels", [1, 3, 7, 8, 9, 17])
def test_a_subset_of_channels_costs_a_bit_for_each_and_all_of_those_kept(channels, percent):
    kept = channels - percent * channels // 100
    codec = ChannelSubset(dropped=percent / 100)
    shapes = {(channels, 5, 3): 15, (5, channels): 5, (channels,): 1}
    bodies = [math.ceil(channels / 8) + 4 * kept * values for values in shapes.values()]
    for shape, body in zip(shapes, bodies, strict=True):
        assert payload(codec, shape) == codec.payload_bound(specs(shape)) == header(shape) + body
    together = header(*shapes) + sum(bodies)
    assert payload(codec, *shapes) == codec.payload_bound(specs(*shapes)) == together


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (17, 31), (33, 9), (28, 28)])
def test_a_raw_image_costs_a_byte_for_each_value(channels, size):
    shape = (channels, *size)
    image = torch.rand(shape, generator=stream(0, "payload"))
    expected = header(shape) + math.prod(shape)
    assert len(RawImage().encode([image])) == RawImage().payload_bound(specs(shape)) == expected


@pytest.mark.parametrize("bits", WIDTHS[:-1])
@pytest.mark.parametrize("clip", [None, (-1.5, 2.5)])
def test_a_uniform_source_has_error_delta_squared_over_12(bits, clip):
    low, high, steps = -1.5, 2.5, 2**bits - (clip is None)
    delta = (high - low) / steps
    # Midpoints of m equal parts per half cell: their error is the integral's times 1 - 1/(2m)^2.
    parts = 64
    n = 2 * steps * parts
    source = (low + (np.arange(n) + 0.5) / n * (high - low)).astype(np.float32)
    if clip is None:
        source = np.concatenate([source, np.float32([low, high])])
    batch = torch.from_numpy(source)[None]
    error = (Uniform(bits=bits, clip=clip).transform((batch,))[0] - batch).double()[0, :n]
    assert float(error.abs().max()) <= delta / 2 * (1 + 1e-5)
    expected = delta**2 / 12 * (1 - 1 / (2 * parts) ** 2)
    assert float(error.square().mean()) == pytest.approx(expected, rel=1e-4)


def cells(bits, clip):
    """Ends of all cells of the real codec, as it reports them; each ends where the next begins."""
    codec = Uniform(bits=bits, clip=(-clip, clip))
    sweep = torch.linspace(-clip, clip, 64 * 2**bits)[None]
    levels = codec.transform((sweep,))[0].unique()
    (low,), (high,) = codec.interval((levels[None],))
    assert len(levels) == 2**bits
    assert torch.equal(torch.nextafter(high[0, :-1], torch.tensor(torch.inf)), low[0, 1:])
    edges = np.append(low[0].double().numpy(), np.inf)
    return edges[:-1], edges[1:]


def gaussian_error_and_rate(bits):
    """Error of the decoder E[x | cell] for a standard normal, and the entropy of the cells."""
    low, high = cells(bits, GAUSSIAN[bits][0])
    mass = norm.cdf(high) - norm.cdf(low)
    mean = (norm.pdf(low) - norm.pdf(high)) / mass
    return 1 - float((mass * mean**2).sum()), -float((mass * np.log2(mass)).sum())


@pytest.mark.parametrize("bits", GAUSSIAN)
def test_a_gaussian_source_has_the_known_bayes_error(bits):
    error, _ = gaussian_error_and_rate(bits)
    assert error == pytest.approx(GAUSSIAN[bits][1], rel=1e-4)


def test_one_bit_of_a_gaussian_leaves_one_minus_two_over_pi():
    assert gaussian_error_and_rate(1)[0] == pytest.approx(1 - 2 / math.pi, abs=1e-6)


@pytest.mark.parametrize(("bits", "bound"), [(2, 0.0717), (4, 0.0068)])
def test_no_decoder_beats_shannon(bits, bound):
    error, rate = gaussian_error_and_rate(bits)
    assert 2 ** (-2 * rate) == pytest.approx(bound, abs=5e-5)
    assert 2 ** (-2 * rate) <= error


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("rectified", [False, True])
def test_entropy_coding_loses_nothing(bits, rectified):
    features = torch.randn(3, 8, 9, generator=stream(bits, "entropy"))
    features = features.relu() if rectified else features
    plain, coded = Uniform(bits=bits), Uniform(bits=bits, entropy=True)
    message = coded.encode([features])
    assert torch.equal(coded.decode(message)[0], plain.decode(plain.encode([features]))[0])
    assert len(message) <= plain.payload_bound(specs((3, 8, 9)))


# Measured excess over the entropy is at most 0.13 bit per symbol for Gaussian and 0.75 for
# rectified Gaussian symbols; zstandard codes bytes, so whole symbols must fill one.
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize(("rectified", "excess"), [(False, 0.2), (True, 0.9)])
def test_independent_symbols_take_their_entropy_and_little_more(bits, rectified, excess):
    count, clip = 2**16, GAUSSIAN[bits][0]
    source = torch.randn(count, generator=stream(bits, "symbols"))
    source = source.relu() if rectified else source
    low, high = cells(bits, clip)
    mass = norm.cdf(high) - norm.cdf(low)
    if rectified:  # everything below zero moves into the cell of zero
        centre = int(np.searchsorted(low, 0, side="right")) - 1
        mass = np.where(np.arange(len(mass)) < centre, 0, mass)
        mass[centre] = 1 - mass[centre + 1 :].sum()
    entropy = -float((mass[mass > 0] * np.log2(mass[mass > 0])).sum())
    message = Uniform(bits=bits, clip=(-clip, clip), entropy=True).encode([source])
    mean_length = 8 * len(message) / count
    assert entropy - 0.01 <= mean_length <= min(entropy + excess, bits + 0.01)
