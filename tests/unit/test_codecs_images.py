"""The two baselines that send the input."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from test_codecs_hostile import message

from splitbench.codec import CodecError
from splitbench.codecs.jpeg import Jpeg
from splitbench.codecs.raw_image import RawImage
from splitbench.release import TensorSpec
from splitbench.rng import stream

CODECS = [RawImage(), Jpeg()]
HEADER = 16 + 2 + 3 * 4


def smooth(channels, height, width):
    """An image that a photograph codec is made for."""
    grid = torch.linspace(0, 1, height)[:, None] * torch.linspace(0.2, 1, width)
    return torch.stack([grid * scale for scale in torch.linspace(1, 0.5, channels)])


def test_an_8_bit_image_is_exact_and_one_byte_per_value():
    image = torch.arange(256).reshape(1, 16, 16).float() / 255
    payload = RawImage().encode([image])
    assert len(payload) == HEADER + 256
    assert torch.equal(RawImage().decode(payload)[0], image)


def test_the_cell_of_a_pixel_is_half_a_step_wide_on_each_side_and_within_the_range():
    decoded = torch.tensor([0, 100, 255]).reshape(1, 1, 1, 3).float() / 255
    (low,), (high,) = RawImage().interval((decoded,))
    assert torch.allclose(low.flatten() * 255, torch.tensor([0, 99.5, 255 - 0.5]))
    assert torch.allclose(high.flatten() * 255, torch.tensor([0.5, 100.5, 255]))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (17, 31)])
def test_the_jpeg_payload_is_the_file_and_the_header(channels, size):
    image = smooth(channels, *size)
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).squeeze(2).numpy()
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=75)
    payload = Jpeg(quality=75).encode([image])
    assert payload[HEADER - 4 : -4] == file.getvalue()
    assert len(payload) == HEADER + len(file.getvalue())
    decoded = Jpeg(quality=75).decode(payload)[0]
    assert torch.equal(decoded, Jpeg(quality=75).transform((image[None],))[0][0])
    expected = np.array(Image.open(BytesIO(file.getvalue()))).reshape(*size, channels)
    assert torch.equal((decoded * 255).round().permute(1, 2, 0), torch.tensor(expected).float())


def test_more_quality_means_more_bytes_and_less_error():
    image = smooth(3, 64, 64)
    sizes, errors = [], []
    for quality in (5, 30, 75, 100):
        payload = Jpeg(quality=quality).encode([image])
        sizes.append(len(payload))
        errors.append(float((Jpeg(quality=quality).decode(payload)[0] - image).square().mean()))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-5


@pytest.mark.parametrize("quality", range(1, 101))
def test_every_quality_is_decoded_and_within_the_bound(quality):
    noise = torch.rand(3, 16, 24, generator=stream(quality, "jpeg")).round()
    codec = Jpeg(quality=quality)
    payload = codec.encode([noise])
    assert codec.decode(payload)[0].shape == noise.shape
    assert len(payload) <= codec.payload_bound([TensorSpec("", (3, 16, 24))])


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@pytest.mark.parametrize("shape", [(2, 8, 8), (4, 8, 8), (8, 8), (3, 0, 8), (1, 3, 8, 8)])
def test_what_is_not_an_image_is_refused_with_the_cut_to_use(codec, shape):
    for refuse in (codec.encode, lambda ts: codec.transform((ts[0][None],))):
        with pytest.raises(ValueError, match="cut 'input'"):
            refuse([torch.zeros(shape)])
    with pytest.raises(ValueError, match="cut 'input'"):
        codec.payload_bound([TensorSpec("", shape)])
    with pytest.raises(CodecError, match="cut 'input'"):
        codec.decode(message(codec, [shape], 10, bytes(10)))


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_two_images_and_integer_images_are_refused(codec):
    with pytest.raises(ValueError, match="one float image"):
        codec.encode([torch.zeros(3, 8, 8)] * 2)
    with pytest.raises(ValueError, match="one float image"):
        codec.encode([torch.zeros(3, 8, 8, dtype=torch.uint8)])


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@pytest.mark.parametrize("pixel", [-0.01, 1.01])
def test_pixels_outside_the_range_are_refused(codec, pixel):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        codec.encode([torch.full((1, 8, 8), pixel)])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        codec.transform((torch.full((1, 1, 8, 8), pixel),))


def jpeg_file(size, mode="RGB", **options):
    file = BytesIO()
    Image.new(mode, size).save(file, "JPEG", **options)
    return file.getvalue()


FILES = {
    "larger than claimed": jpeg_file((16, 8)),
    "grey instead of colour": jpeg_file((8, 8), "L"),
    "progressive": jpeg_file((8, 8), progressive=True),
    "with a comment": jpeg_file((8, 8), comment=b"hello"),
    "with EXIF": jpeg_file((8, 8), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"),
    "with bytes behind its end": jpeg_file((8, 8)) + b"more",
    "with a second file behind it": jpeg_file((8, 8)) * 2,
    "cut off": jpeg_file((8, 8))[:-2],
    "without a scan": jpeg_file((8, 8))[:300],
    "without a segment after the first": jpeg_file((8, 8))[:20],
    "garbage between two segments": jpeg_file((8, 8))[:20] + bytes(600),
    "two frames": b"".join(
        (jpeg_file((8, 8))[:158], jpeg_file((8, 8))[158:177] * 2, jpeg_file((8, 8))[177:])
    ),
    "damaged tables": jpeg_file((8, 8)).replace(b"\xff\xc4\x00\x1f\x00", b"\xff\xc4\x00\x1f\x7f"),
    "another format": b"\x89PNG\r\n\x1a\n" + bytes(30),
    "empty": b"",
}


@pytest.mark.parametrize("file", FILES.values(), ids=FILES.keys())
def test_a_foreign_file_in_a_jpeg_message_is_refused(file):
    good = jpeg_file((8, 8))
    assert Jpeg().decode(message(Jpeg(), [(3, 8, 8)], len(good), good))[0].shape == (3, 8, 8)
    with pytest.raises(CodecError):
        Jpeg().decode(message(Jpeg(), [(3, 8, 8)], len(file), file))


def test_a_file_that_claims_a_huge_image_is_refused_before_pillow_sees_it(monkeypatch):
    file = bytearray(jpeg_file((8, 8)))
    start = file.index(b"\xff\xc0") + 5
    file[start : start + 4] = b"\xff\xdc\xff\xdc"

    def never(*_, **__):
        raise AssertionError("Pillow was asked")

    monkeypatch.setattr(Image, "open", never)
    with pytest.raises(CodecError, match="65500"):
        Jpeg().decode(message(Jpeg(), [(3, 8, 8)], len(file), bytes(file)))


@pytest.mark.parametrize("quality", [0, 101])
def test_impossible_qualities_are_refused(quality):
    with pytest.raises(ValueError, match="quality"):
        Jpeg(quality=quality)


def test_an_image_that_no_jpeg_can_hold_is_refused():
    with pytest.raises(ValueError, match="65500"):
        Jpeg().encode([torch.zeros(1, 1, 65501)])


def test_an_empty_batch_is_transformed():
    for codec in CODECS:
        assert codec.transform((torch.zeros(0, 3, 8, 8),))[0].shape == (0, 3, 8, 8)
