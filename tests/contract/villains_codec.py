"""Codecs that break one promise each."""

import itertools
from dataclasses import replace

import torch

from splitbench.checks import codec as checks
from splitbench.checks.aside import Aside
from splitbench.codec import CodecError
from splitbench.codecs.float16 import Float16
from splitbench.codecs.float32 import Float32
from splitbench.codecs.uniform import Uniform


class Doubles(Float32):
    def __init__(self, *, max_bytes=1000):
        super().__init__(max_bytes=2 * max_bytes)


class DecodesToFloat64(Float32):
    def decode(self, payload):
        return tuple(t.double() for t in super().decode(payload))

    def transform(self, tensors):
        return tuple(t.double() for t in super().transform(tensors))


class HidesWhatTravelsBeside(Aside):
    def beside(self, specs):
        return ()


class GivesTwoOneName(Aside):
    def beside(self, specs):
        return tuple(replace(spec, name="mask") for spec in specs)


class RoundsButSaysLossless(Float16):
    lossless = True


class RangeOfTheBatch(Uniform):
    def round_trip(self, values):
        return super().round_trip(values[None])[0]


class ForgetsTheHeader(Float32):
    def payload_bound(self, specs):
        return sum(spec.bytes for spec in specs)


class AcceptsDamage(Float32):
    def decode(self, payload):
        try:
            return super().decode(payload)
        except CodecError:
            return (torch.zeros(1),)


class CrashesOnDamage(Float32):
    def decode(self, payload):
        try:
            return super().decode(payload)
        except CodecError as error:
            raise IndexError from error


class ClearsItsInput(Float32):
    def encode(self, tensors):
        message = super().encode(tensors)
        for tensor in tensors:
            tensor.zero_()
        return message


class DrawsFromTheGlobalGenerator(Float32):
    def encode(self, tensors):
        torch.rand(1)
        return super().encode(tensors)


class CodesEverySecondMessage(Float32):
    count = itertools.count()

    def encode(self, tensors):
        return Float32(entropy=next(self.count) % 2 == 0).encode(tensors)


class ShiftsItsCells(Uniform):
    def cell(self, decoded):
        low, high = super().cell(decoded)
        return low + 0.5, high + 0.5


class MeasuresFromTheMiddle(Uniform):
    def distance(self, decoded, features):
        return (decoded[0] - features[0]).flatten(1).square().sum(1)


class PutsZeroForNan(Float32):
    def encode(self, tensors):
        return super().encode([t.nan_to_num(0, 0, 0) for t in tensors])

    def transform(self, tensors):
        return super().transform(tuple(t.nan_to_num(0, 0, 0) for t in tensors))


class DoesNotNameTheTensor(Float32):
    def encode(self, tensors):
        if not all(t.isfinite().all() for t in tensors):
            raise ValueError("something is wrong")
        return super().encode(tensors)


VILLAINS = {
    Doubles: checks.check_constructor_only_stores,
    DecodesToFloat64: checks.check_decodes_to_float32_of_the_same_shape,
    HidesWhatTravelsBeside: checks.check_says_what_travels_beside,
    GivesTwoOneName: checks.check_says_what_travels_beside,
    RoundsButSaysLossless: checks.check_lossless_is_honest,
    RangeOfTheBatch: checks.check_transform_is_the_round_trip,
    ForgetsTheHeader: checks.check_payload_is_within_its_bound,
    AcceptsDamage: checks.check_refuses_damage,
    CrashesOnDamage: checks.check_refuses_damage,
    ClearsItsInput: checks.check_input_untouched,
    DrawsFromTheGlobalGenerator: checks.check_leaves_global_rng_alone,
    CodesEverySecondMessage: checks.check_same_tensors_same_bytes,
    ShiftsItsCells: checks.check_what_was_sent_explains_the_message,
    MeasuresFromTheMiddle: checks.check_what_was_sent_explains_the_message,
    PutsZeroForNan: checks.check_refuses_what_is_not_finite,
    DoesNotNameTheTensor: checks.check_refuses_what_is_not_finite,
}
