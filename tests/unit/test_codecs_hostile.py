"""Nothing but CodecError escapes a decoder, and nothing is allocated on a stranger's word."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from splitbench.codec import CodecError
from splitbench.codecs import container
from splitbench.codecs.bitpack import pack
from splitbench.codecs.channel_subset import ChannelSubset
from splitbench.codecs.entropy_coded import EntropyCoded
from splitbench.codecs.float16 import Float16
from splitbench.codecs.float32 import Float32
from splitbench.codecs.jpeg import Jpeg
from splitbench.codecs.raw_image import RawImage
from splitbench.codecs.sign import Sign
from splitbench.codecs.top_k import TopK
from splitbench.codecs.uniform import Uniform
from splitbench.release import TensorSpec
from splitbench.rng import stream

MEBIBYTE = 2**20
FEATURE_CODECS = [
    Float32(max_bytes=MEBIBYTE),
    Float16(max_bytes=MEBIBYTE),
    Uniform(bits=3, max_bytes=MEBIBYTE),
    Uniform(bits=16, per="channel", max_bytes=MEBIBYTE),
    Uniform(bits=1, clip=(-1, 1), max_bytes=MEBIBYTE),
    ChannelSubset(dropped=0.5, max_bytes=MEBIBYTE),
    TopK(fraction=0.02, max_bytes=MEBIBYTE),
    TopK(fraction=0.5, value_bits=16, max_bytes=MEBIBYTE),
    Sign(per="channel", max_bytes=MEBIBYTE),
    EntropyCoded(max_bytes=MEBIBYTE),
]
IMAGE_CODECS = [RawImage(max_bytes=MEBIBYTE), Jpeg(max_bytes=MEBIBYTE)]
CODECS = FEATURE_CODECS + IMAGE_CODECS
fuzz = settings(derandomize=True, database=None, deadline=None, max_examples=120)


def example_for(codec):
    generator = stream(0, "hostile")
    image = torch.rand(3, 10, 9, generator=generator)
    if codec in IMAGE_CODECS:
        return [image]
    if isinstance(codec, EntropyCoded):
        return [3 * image - 1, torch.arange(5.0)]
    return [image, torch.arange(5), torch.tensor([True, False, True])]


def seal(codec, content):
    """The content with a checksum that fits, as a forger would send it."""
    return content + struct.pack("<I", zlib.crc32(content, codec._seal()))


def message(codec, shapes, length, stored, *, flags=0, dtype=0):
    content = struct.pack("<4sBBBB", b"SBNM", 1, codec.number, flags, len(shapes))
    for shape in shapes:
        content += struct.pack(f"<BB{len(shape)}I", dtype, len(shape), *shape)
    return seal(codec, content + struct.pack("<I", length) + stored)


def survives(codec, payload):
    """Decode: an answer or a CodecError, within a fixed amount of memory."""
    tracemalloc.start()
    try:
        return codec.decode(payload)
    except CodecError:
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # The widest intermediate is 32 bits per bit of a body of at most max_bytes.
        assert peak < 40 * MEBIBYTE


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@given(payload=st.binary(max_size=200))
@fuzz
def test_arbitrary_bytes_are_refused(codec, payload):
    assert survives(codec, payload) is None
    assert survives(codec, seal(codec, payload)) is None


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@given(data=st.data())
@fuzz
def test_a_forged_message_gives_an_answer_or_a_codec_error(codec, data):
    content = bytearray(codec.encode(example_for(codec))[:-4])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 3))
    decoded = survives(codec, seal(codec, bytes(content[: len(content) - cut])))
    assert decoded is None or all(t.isfinite().all() for t in decoded)


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@given(
    shapes=st.lists(
        st.lists(st.sampled_from([0, 1, 2, 3, 7, 2**16, 2**31, 2**32 - 1]), max_size=9), max_size=4
    ),
    length=st.sampled_from([0, 1, 8, 21, 1000, 2**28, 2**32 - 1]),
    stored=st.binary(max_size=60),
    flags=st.integers(0, 3),
    dtype=st.integers(0, 8),
)
@fuzz
def test_a_forged_header_gives_an_answer_or_a_codec_error(
    codec, shapes, length, stored, flags, dtype
):
    for claimed in (length, len(stored)):
        survives(codec, message(codec, shapes, claimed, stored, flags=flags, dtype=dtype))


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@pytest.mark.parametrize("shape", [(2**20, 2**20), (3, 2**19, 2**19), (0, 2**32 - 1, 2**32 - 1)])
def test_a_claim_of_2_to_the_40_values_is_refused_at_once(codec, shape):
    plain = message(codec, [shape], 64, bytes(64))
    coded = message(codec, [shape], 2**20, bytes(64), flags=1)
    for payload in (plain, coded):
        tracemalloc.start()
        with pytest.raises(CodecError, match="max_bytes"):
            codec.decode(payload)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20_000


def test_the_size_limit_counts_all_tensors_and_holds_on_both_sides():
    codec = Float32(max_bytes=400)
    assert len(codec.decode(codec.encode([torch.zeros(50), torch.zeros(50)]))) == 2
    with pytest.raises(ValueError, match="max_bytes=400"):
        codec.encode([torch.zeros(50), torch.zeros(51)])
    with pytest.raises(ValueError, match="max_bytes=400"):
        codec.payload_bound([TensorSpec("a", (101,))])
    payload = Float32().encode([torch.zeros(50), torch.zeros(51)])
    with pytest.raises(CodecError, match="max_bytes=400"):
        codec.decode(payload)


def test_a_body_larger_than_the_limit_is_refused_although_its_tensor_is_small():
    codec = Uniform(bits=16, per="channel", max_bytes=4000)
    with pytest.raises(ValueError, match="body"):
        codec.encode([torch.zeros(1000, 1)])


def coded(stored, length=4000):
    return message(Float32(), [(1000,)], length, stored, flags=1)


def test_a_coded_body_is_read():
    stored = zstandard.ZstdCompressor().compress(bytes(4000))
    assert torch.equal(Float32().decode(coded(stored))[0], torch.zeros(1000))


HUGE_FRAME = b"\x28\xb5\x2f\xfd" + b"\xe0" + (2**40).to_bytes(8, "little") + b"\x03\x00\x00\x00"
BOMBS = {
    "more than claimed": zstandard.ZstdCompressor().compress(bytes(2**26)),
    "a frame header that claims 2**40 bytes": HUGE_FRAME,
    "a frame without its size": zstandard.ZstdCompressor(write_content_size=False).compress(
        bytes(4000)
    ),
    "two frames": zstandard.ZstdCompressor().compress(bytes(2000)) * 2,
    "a frame and more": zstandard.ZstdCompressor().compress(bytes(4000)) + b"\0",
    "a skippable frame": b"\x50\x2a\x4d\x18" + struct.pack("<I", 8) + bytes(8),
    "not a frame": bytes(40),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_refused_before_it_unfolds(bomb):
    payload = coded(bomb)
    tracemalloc.start()
    with pytest.raises(CodecError):
        Float32().decode(payload)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_a_few_bytes_cannot_claim_to_be_coded_megabytes():
    few = zstandard.ZstdCompressor().compress(bytes(4000))
    payload = message(Float32(), [(2**26,)], 2**28, few, flags=1)
    with pytest.raises(CodecError, match="cannot be the coded form"):
        Float32().decode(payload)


def test_a_message_is_refused_by_a_codec_with_other_parameters():
    payload = Uniform(bits=8, clip=(0, 1)).encode([torch.rand(40)])
    with pytest.raises(CodecError, match="other parameters"):
        Uniform(bits=8, clip=(0, 2)).decode(payload)
    with pytest.raises(CodecError, match="codec 3"):
        Float16().decode(payload)
    relaxed = Uniform(bits=8, clip=(0, 1), entropy=True, max_bytes=1000)
    assert relaxed.decode(payload)[0].shape == (40,)


@pytest.mark.parametrize(
    ("position", "value", "sentence"),
    [(0, 0, "not a message"), (4, 2, "version 2"), (5, 9, "codec 9"), (6, 2, "unknown flags")],
)
def test_each_field_of_the_header_has_its_own_complaint(position, value, sentence):
    payload = bytearray(Float32().encode([torch.rand(4)]))
    payload[position] = value
    with pytest.raises(CodecError, match=sentence):
        Float32().decode(bytes(payload))


@pytest.mark.parametrize(
    ("codec", "body"),
    [
        (Float32(), struct.pack("<4f", 0, 1, float("nan"), 2)),
        (Float16(), struct.pack("<4e", 0, 1, float("inf"), 2)),
        (Uniform(bits=8), struct.pack("<2f", 1, 0) + bytes(4)),
        (Uniform(bits=8), struct.pack("<2f", 0, float("inf")) + bytes(4)),
        (Uniform(bits=8), bytes.fromhex("0100807f") * 2 + bytes(4)),  # NaN that a cast warns of
        (Uniform(bits=3, clip=(0, 1)), b"\xff\xff"),
        (ChannelSubset(dropped=0.5), b"\x07" + bytes(8)),
        (TopK(fraction=0.5), b"\x07" + bytes(8)),
        (TopK(fraction=0.5), b"\x13" + bytes(8)),
        (TopK(fraction=0.25), b"\x05" + bytes(4)),
    ],
    ids=repr,
)
def test_a_body_that_no_encoder_writes_is_refused(codec, body):
    with pytest.raises(CodecError):
        codec.decode(message(codec, [(4,)], len(body), body))


@pytest.mark.parametrize("places", [(5, 5), (6, 5), (5, 100)])
def test_kept_positions_must_ascend_and_exist(places):
    codec = TopK(fraction=0.02)
    good, bad = (pack(np.array(where), 7) + bytes(8) for where in ((5, 6), places))
    assert codec.decode(message(codec, [(100,)], 10, good))[0].shape == (100,)
    with pytest.raises(CodecError, match="ascending"):
        codec.decode(message(codec, [(100,)], 10, bad))


def test_a_message_holds_255_tensors_of_8_axes_and_no_more():
    many = [torch.zeros(1)] * 255
    assert len(Float32().decode(Float32().encode(many))) == 255
    with pytest.raises(ValueError, match="at most 255"):
        Float32().encode([*many, torch.zeros(1)])
    with pytest.raises(ValueError, match="8 axes"):
        Float32().encode([torch.zeros((1,) * 9)])
    assert container.overhead([TensorSpec("a", (1,) * 8)]) == 8 + 8 + 2 + 32
