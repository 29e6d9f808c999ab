"""One bit per value: the codec that takes signs, and the defense that brings it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from defenses.binarization import Binarization
from defenses.quantization import Quantization
from splitbench.checks.defense_world import defense_world
from splitbench.codec import CodecError
from splitbench.codecs.container import overhead
from splitbench.codecs.sign import Sign
from splitbench.data.images import LabeledImages
from splitbench.release import TensorSpec
from splitbench.rng import stream
from splitbench.split import Cut, Split

fuzz = settings(derandomize=True, database=None, deadline=None, max_examples=60)


@pytest.mark.parametrize(
    ("keywords", "complaint"),
    [({"per": "pixel"}, "pixel"), ({"scale": "mean"}, "mean"), ({"trains": "client"}, "trains")],
)
def test_a_bad_setting_is_refused(keywords, complaint):
    with pytest.raises((ValueError, TypeError), match=complaint):
        Binarization(**keywords)


class Normal(nn.Module):
    """Passes pixels on as they are."""

    def forward(self, images):
        return (images,)


def fitted(defense, pixels):
    """Fitted to these pixels as features."""
    cut = Cut("input", 0, (TensorSpec("input", tuple(pixels.shape[1:])),), 0, 0, 0, 0)
    data = LabeledImages(pixels, torch.zeros(len(pixels), dtype=torch.int64), ("only",))
    defense.fit(Split(cut, Normal(), nn.Identity()), data, generator=stream(0, "fit"))
    return defense


@pytest.mark.parametrize("scale", ["message", "fixed"])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (5.0, 0.1)])
def test_a_sign_leaves_a_third_of_the_variance_of_a_normal_value(scale, mean, std):
    """O13: 1 - 2/pi, with levels a mean distance from the mean; no other two levels do better."""
    features = mean + std * torch.randn(20, 1, 60, 60, generator=stream(0, "features"))
    defense = fitted(Binarization(per="tensor", scale=scale), features)
    (arrived,) = defense.codec.transform((features,))
    error = float((arrived - features).square().mean()) / std**2
    assert error == pytest.approx(1 - 2 / math.pi, rel=0.02)
    offset = (arrived - mean).abs().mean() / std
    assert float(offset) == pytest.approx(math.sqrt(2 / math.pi), rel=0.01)


def bits_told(codec, features):
    """Entropy of the bit of a value, were it alone."""
    (arrived,) = codec.transform((features,))
    middle = (arrived.flatten(1).amax(1) + arrived.flatten(1).amin(1)) / 2
    p = float((arrived > middle[:, None, None, None]).double().mean())
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def test_one_bit_of_a_quantiser_is_something_else_for_features_that_are_mostly_small():
    pixels = torch.randn(20, 1, 40, 40, generator=stream(0, "features")).relu().square()
    told = [
        bits_told(Binarization(per="tensor", scale="message").codec, pixels - pixels.mean()),
        bits_told(Quantization(bits=1).codec, pixels),
    ]
    assert told[0] > 0.7
    assert told[1] < 0.2


def test_a_quantiser_with_the_right_range_takes_the_same_sign():
    pixels = torch.randn(20, 2, 7, 7, generator=stream(0, "features")) + 3
    defense = fitted(Binarization(per="tensor", scale="fixed"), pixels)
    ((centre,), (scale,)) = defense.codec.learnt[0]
    same = Quantization(bits=1, clip=(centre - 2 * scale, centre + 2 * scale))
    torch.testing.assert_close(
        same.codec.transform((pixels,))[0], defense.codec.transform((pixels,))[0]
    )


def test_every_channel_has_its_own_mean_and_scale():
    pixels = torch.tensor([[[[1.0, 3.0]], [[-10.0, 30.0]]]])
    defense = fitted(Binarization(per="channel", scale="fixed"), pixels)
    assert defense.codec.learnt == (((2.0, 10.0), (1.0, 20.0)),)
    assert torch.equal(defense.codec.transform((pixels,))[0], pixels)


@pytest.mark.parametrize("shape", [(1,), (7,), (9,), (3, 5), (1, 3, 3), (2, 5, 7), (5, 1, 1)])
@pytest.mark.parametrize("per", ["tensor", "channel"])
@pytest.mark.parametrize("scale", ["message", "fixed"])
def test_a_message_has_a_bit_per_value_and_the_scales_that_are_sent(shape, per, scale):
    """O26, for sizes that fill no whole byte too."""
    codec = Sign(per=per, scale=scale)
    values = torch.randn(shape, generator=stream(0, "values"))
    ranges = (shape[0] if len(shape) == 3 else shape[-1]) if per == "channel" else 1
    ranges = (1 if len(shape) == 1 else ranges) if scale == "message" else 0
    spec = TensorSpec("", shape)
    wanted = overhead([spec]) + math.ceil(math.prod(shape) / 8) + 4 * ranges
    message = codec.encode([values])
    assert len(message) == codec.payload_bound([spec]) == wanted
    assert torch.equal(codec.decode(message)[0] >= 0, values >= 0)


@given(
    values=st.lists(st.floats(-(2.0**120), 2.0**120, width=32), min_size=1, max_size=9),
    centre=st.floats(-(2.0**120), 2.0**120, width=32),
    scale=st.sampled_from(["message", "fixed"]),
)
@fuzz
def test_the_sign_can_be_read_off_whatever_the_numbers(values, centre, scale):
    codec = Sign(scale=scale).fitted([((centre,), (0.0,))])
    sent = torch.tensor([values], dtype=torch.float32)
    arrived = codec.transform((sent,))
    assert torch.equal(codec.decode(codec.encode([sent[0]]))[0], arrived[0][0])
    assert torch.equal(arrived[0] >= centre, sent >= centre)
    assert float(codec.distance(arrived, (sent,))) == 0


def test_the_scale_does_not_depend_on_the_order_of_adding_up():
    values = torch.randn(1, 3000, generator=stream(0, "values")) * 10.0 ** torch.arange(
        -3, 3
    ).repeat(500)
    codec = Sign()
    scales = {
        float(codec.transform((values[:, o],))[0].max())
        for o in (torch.randperm(3000, generator=stream(seed)) for seed in range(20))
    }
    assert len(scales) == 1
    assert scales.pop() == pytest.approx(float(values.double().abs().mean()), rel=1e-6)


def test_a_message_of_a_codec_with_other_constants_is_refused():
    one, other = (Sign(scale="fixed").fitted([((c,), (1.0,))]) for c in (0.0, 0.1))
    with pytest.raises(CodecError, match="other parameters"):
        one.decode(other.encode([torch.ones(5)]))
    with pytest.raises(ValueError, match="fitted to 1"):
        one.encode([torch.ones(5), torch.ones(5)])
    with pytest.raises(ValueError, match="fitted to 2 channels"):
        Sign(per="channel").fitted([((0.0, 1.0), (1.0, 1.0))]).encode([torch.ones(3, 2, 2)])


def test_training_teaches_the_server_to_read_bits():
    world = defense_world()
    right = []
    for epochs in (0, 6):
        deployed = world.deploy(
            Binarization(finetune_epochs=epochs, learning_rate=0.01, trains="both", batch_size=24)
        )
        release = deployed.release(world.train.images(), generator=stream(0))
        right.append(
            float((deployed.predict(release).argmax(1) == world.train.labels).double().mean())
        )
    assert right[1] > right[0] + 0.2
