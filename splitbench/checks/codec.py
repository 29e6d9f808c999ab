"""What every codec must do, as functions that raise AssertionError and name the remedy.

An author of a codec runs all of them::

    for check in CODEC_CHECKS:
        check(codec, batch)

where `batch` is a tuple of float32 tensors ``(b, *shape)`` that the codec accepts: images in
[0, 1] for a codec of images; otherwise values of both signs, zeros among them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from splitbench.codec import Codec, CodecError
from splitbench.release import Tensors, TensorSpec

Check = Callable[[Codec, Tensors], None]


def check_constructor_only_stores(codec: Codec, batch: Tensors) -> None:
    """Building the codec again from its own arguments gives the same codec."""
    del batch
    again = type(codec)(**codec.arguments())
    assert repr(again) == repr(codec), (
        f"{codec!r} built again is {again!r}: store constructor keywords under their own names, "
        "unchanged"
    )


def check_decodes_to_float32_of_the_same_shape(codec: Codec, batch: Tensors) -> None:
    """A message gives as many tensors as went in, float32, finite, of the same shapes."""
    for i, message in enumerate(_messages(codec, batch)):
        decoded = codec.decode(message)[: len(batch)]
        got = [(tuple(t.shape), t.dtype) for t in decoded]
        wanted = [(tuple(t[i].shape), torch.float32) for t in batch]
        assert got == wanted, f"decode gave {got}, wanted {wanted}: carry shapes in the message"
        assert all(bool(torch.isfinite(t).all()) for t in decoded), (
            "decode gave NaN or infinite values for finite ones: bound what encode accepts"
        )


def check_says_what_travels_beside(codec: Codec, batch: Tensors) -> None:
    """`beside` names each decoded tensor after the live ones once, with its shape."""
    promised = codec.beside([TensorSpec(str(i), tuple(t.shape[1:])) for i, t in enumerate(batch)])
    wanted = [spec.shape for spec in promised]
    for message in _messages(codec, batch):
        got = [tuple(t.shape) for t in codec.decode(message)[len(batch) :]]
        assert got == wanted, (
            f"shapes {got} were decoded after the live tensors, `beside` says {wanted}: name all "
            "that travels, and nothing else"
        )
    names = [spec.name for spec in promised]
    assert len(set(names)) == len(names), f"two of {names} have one name: give each its own"


def check_lossless_is_honest(codec: Codec, batch: Tensors) -> None:
    """A codec that says it is lossless is, bit for bit."""
    live = _decoded(codec, batch)[: len(batch)]
    same = all(torch.equal(a, b) for a, b in zip(live, batch, strict=True))
    assert same or not codec.lossless, "values changed: set lossless = False, or stop rounding"


def check_transform_is_the_round_trip(codec: Codec, batch: Tensors) -> None:
    """`transform` equals decoding the encoded examples one by one, in every bit."""
    simulated = codec.transform(_copy(batch))
    for i, (a, b) in enumerate(zip(simulated, _decoded(codec, batch), strict=True)):
        wrong = int(((a != b) | (torch.signbit(a) != torch.signbit(b))).sum())
        assert not wrong, (
            f"transform differs from decode(encode(.)) in {wrong} values of tensor {i}: compute "
            "ranges and masks per example, never per batch, with the same operations in both"
        )


def check_payload_is_within_its_bound(codec: Codec, batch: Tensors) -> None:
    """No message is longer than `payload_bound` says."""
    specs = [TensorSpec(str(i), tuple(t.shape[1:])) for i, t in enumerate(batch)]
    bound, longest = codec.payload_bound(specs), max(map(len, _messages(codec, batch)))
    assert longest <= bound, (
        f"a message has {longest} bytes, payload_bound says {bound}: count headers, ranges, "
        "indices and padding"
    )


def check_refuses_damage(codec: Codec, batch: Tensors) -> None:
    """Cut, extended, flipped and foreign bytes raise CodecError and nothing else."""
    message = _messages(codec, batch)[0]
    damaged = [message[:n] for n in range(len(message))]
    damaged += [message + b"\0", message[::-1], bytes(len(message)), b"PK\x03\x04" + message[4:]]
    for position in range(len(message)):
        flipped = bytearray(message)
        flipped[position] ^= 1 << (position % 8)
        damaged.append(bytes(flipped))
    for bytes_ in damaged:
        try:
            codec.decode(bytes_)
        except CodecError:
            continue
        except Exception as error:  # whatever it is, it is what this looks for
            raise AssertionError(
                f"damaged bytes raised {error!r}: check each claim and raise CodecError"
            ) from error
        raise AssertionError("decode accepted damaged bytes: add a checksum and check lengths")


def check_input_untouched(codec: Codec, batch: Tensors) -> None:
    """Neither `encode` nor `transform` changes what it is given."""
    given = _copy(batch)
    codec.encode([t[0] for t in given])
    codec.transform(given)
    same = all(torch.equal(a, b) for a, b in zip(given, batch, strict=True))
    assert same, "the codec changed its input: work on a copy, without in-place operations"


def check_leaves_global_rng_alone(codec: Codec, batch: Tensors) -> None:
    """Encoding, decoding and transforming draw nothing from torch's global generator."""
    before = torch.get_rng_state()
    codec.transform(_copy(batch))
    _decoded(codec, batch)
    assert torch.equal(before, torch.get_rng_state()), (
        "the codec drew from the global generator: randomness belongs into a defense"
    )


def check_same_tensors_same_bytes(codec: Codec, batch: Tensors) -> None:
    """A message depends on nothing but the tensors."""
    for i in range(len(batch[0])):
        message, again = (codec.encode([t[i].clone() for t in batch]) for _ in range(2))
        assert message == again, (
            "encoding twice gave different bytes: keep no state, no time, no randomness in a codec"
        )


def check_what_was_sent_explains_the_message(codec: Codec, batch: Tensors) -> None:
    """What was sent lies in the interval, at distance zero; something else does not.

    Codecs that are neither lossless nor have an interval are only asked for shape and sign.
    """
    decoded = _decoded(codec, batch)[: len(batch)]
    cells = codec.interval(decoded)
    near = codec.distance(decoded, batch)
    far = codec.distance(decoded, tuple(t + 100 for t in batch))
    assert near.shape == far.shape == (len(batch[0]),), (
        f"distance has shape {tuple(near.shape)}: give one value per example"
    )
    assert bool((near >= 0).all() & (far > near).all()), (
        "other features explain a message as well as those that were sent: distance must grow"
    )
    if cells is not None:
        inside = (
            bool(((low <= value) & (value <= high)).all())
            for low, high, value in zip(*cells, batch, strict=True)
        )
        assert all(inside), "what was sent is outside the interval: return the ends of the cell"
    if cells is not None or codec.lossless:
        assert not bool(near.any()), (
            "what was sent is at a distance from its message: measure to the nearest end"
        )


def check_refuses_what_is_not_finite(codec: Codec, batch: Tensors) -> None:
    """NaN and infinite values raise a ValueError that names the tensor."""
    for i in range(len(batch)):
        for bad in (torch.nan, torch.inf):
            spoilt = _copy(batch)
            spoilt[i].view(-1)[-1] = bad
            for accepted, complaint in (
                _complaint(codec.encode, [t[-1] for t in spoilt]),
                _complaint(codec.transform, spoilt),
            ):
                assert not accepted, f"{bad} in tensor {i} was accepted: raise ValueError"
                assert f"tensor {i}" in complaint, (
                    f"'{complaint}' does not say which tensor is not finite: name 'tensor {i}'"
                )


CODEC_CHECKS: tuple[Check, ...] = (
    check_constructor_only_stores,
    check_decodes_to_float32_of_the_same_shape,
    check_says_what_travels_beside,
    check_lossless_is_honest,
    check_transform_is_the_round_trip,
    check_payload_is_within_its_bound,
    check_refuses_damage,
    check_input_untouched,
    check_leaves_global_rng_alone,
    check_same_tensors_same_bytes,
    check_what_was_sent_explains_the_message,
    check_refuses_what_is_not_finite,
)


def _complaint(run: Callable[[Any], object], tensors: Sequence[Tensor]) -> tuple[bool, str]:
    """Whether the tensors were accepted, else what the ValueError says."""
    try:
        run(tensors)
    except ValueError as error:
        return False, str(error)
    return True, ""


def _copy(batch: Tensors) -> Tensors:
    """Contiguous copies, so that no check hands damage on to the next one."""
    return tuple(t.clone(memory_format=torch.contiguous_format) for t in batch)


def _messages(codec: Codec, batch: Tensors) -> list[bytes]:
    return [codec.encode([t[i].clone() for t in batch]) for i in range(len(batch[0]))]


def _decoded(codec: Codec, batch: Tensors) -> Tensors:
    examples = [codec.decode(message) for message in _messages(codec, batch)]
    return tuple(torch.stack(tensors) for tensors in zip(*examples, strict=True))
