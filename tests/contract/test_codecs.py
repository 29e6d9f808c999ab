"""Every codec of the package keeps every promise, and every promise can be broken."""

import importlib
import inspect
import pkgutil

import pytest
import torch
from villains_codec import VILLAINS

import splitbench.codecs
from splitbench.checks.codec import CODEC_CHECKS
from splitbench.codec import Codec
from splitbench.codecs.channel_subset import ChannelSubset
from splitbench.codecs.entropy_coded import EntropyCoded
from splitbench.codecs.jpeg import Jpeg
from splitbench.codecs.raw_image import RawImage
from splitbench.codecs.sign import Sign
from splitbench.codecs.top_k import TopK
from splitbench.codecs.uniform import Uniform
from splitbench.rng import stream

SETTINGS = {
    Uniform: [
        {"bits": 1},
        {"bits": 3, "per": "channel", "entropy": True},
        {"bits": 16},
        {"bits": 1, "clip": (-1, 1)},
        {"bits": 4, "clip": (-0.3, 1.7)},
    ],
    TopK: [
        {"fraction": 0.03},
        {"fraction": 0.1, "value_bits": 1},
        {"fraction": 0.4, "value_bits": 16, "entropy": True},
    ],
    ChannelSubset: [{"dropped": 0.0}, {"dropped": 0.7, "entropy": True}],
    Jpeg: [{"quality": 1}, {"quality": 100}],
    Sign: [{"per": "channel"}, {"scale": "fixed"}],
    EntropyCoded: [{"limit": 1}],
}
IMAGES_ONLY = (RawImage, Jpeg)


def discovered():
    for module in pkgutil.iter_modules(splitbench.codecs.__path__, "splitbench.codecs."):
        members = vars(importlib.import_module(module.name)).values()
        for cls in members:
            own = isinstance(cls, type) and cls.__module__ == module.name
            if own and issubclass(cls, Codec) and not inspect.isabstract(cls):
                yield cls


LEARNT = [
    EntropyCoded(limit=1).fitted([[(1, 6, 1), (1, 1, 90), (4, 1, 1)], [(2, 3, 2)] * 11]),
    Sign(per="channel", scale="fixed").fitted(
        [((0.5, -0.25, 0.0), (1.0, 0.5, 0.0)), (tuple(i / 8 for i in range(11)), (0.7,) * 11)]
    ),
]
CODECS = [cls(**kwargs) for cls in discovered() for kwargs in ({}, *SETTINGS.get(cls, []))] + LEARNT


def batch_for(codec):
    generator = stream(0, "contract", "codec")
    if isinstance(codec, IMAGES_ONLY):
        return (torch.rand(2, 3, 9, 11, generator=generator),)
    features = torch.randn(4, 3, 9, 7, generator=generator)
    return features.relu(), torch.randn(4, 5, 11, generator=generator)


@pytest.mark.parametrize("check", CODEC_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_every_codec_keeps_every_promise(codec, check):
    check(codec, batch_for(codec))


@pytest.mark.parametrize("villain", VILLAINS, ids=lambda villain: villain.__name__)
def test_a_villain_breaks_exactly_its_promise(villain):
    codec = villain()
    broken = []
    for check in CODEC_CHECKS:
        try:
            check(codec, batch_for(codec))
        except AssertionError:
            broken.append(check)
    assert broken == [VILLAINS[villain]]


def test_every_check_has_a_villain():
    assert set(VILLAINS.values()) == set(CODEC_CHECKS)


def test_every_setting_belongs_to_a_codec_of_the_package():
    assert set(SETTINGS) <= set(discovered())


def test_no_two_codecs_share_a_number():
    numbers = [cls.number for cls in discovered()]
    assert len(numbers) == len(set(numbers)) == 9
    assert max(numbers) < 128
