"""How releases become tokens, and what a transformer makes of them."""

import pytest
import torch
from torch import nn

from attacks.token_decoder import Layer, TokenDecoder
from attacks.token_stems import MOST, MapTokens, grid_places, token_stem
from attacks.transformer_decoder import TransformerDecoder
from splitbench.release import TensorSpec
from splitbench.rng import isolated, stream


def made(kind, *arguments, **keywords):
    with isolated(stream(0, "modules")):
        return kind(*arguments, **keywords)


def drawn(*shape):
    return torch.randn(shape, generator=stream(0, "values"))


@pytest.mark.parametrize(
    ("shape", "tokens"),
    [
        ((3, 5, 7), 35),
        ((3, 16, 16), 256),
        ((3, 17, 16), 72),
        ((2, 56, 56), 196),
        ((2, 300, 1), 150),
        ((300, 4), 300),
        ((10, 4), 10),
        ((5,), 5),
        ((17,), 9),
        ((4096,), 16),
        ((2, 2, 3, 3), 12),
        ((), 1),
    ],
)
def test_a_tensor_of_any_shape_becomes_some_tokens(shape, tokens):
    way_in = made(token_stem, shape, 8)
    values = drawn(2, *shape)
    way_in.measure(values)
    assert way_in(values).shape == (2, tokens, 8)
    assert tokens <= MOST or len(shape) == 2


@pytest.mark.parametrize("shape", [(3, 17, 19), (7, 4), (37,)])
def test_every_released_value_arrives(shape):
    way_in = made(token_stem, shape, 64)
    values = drawn(1, *shape).requires_grad_()
    weights = drawn(64)
    gradient = torch.autograd.grad((way_in(values) * weights).sum(), values)[0]
    assert bool((gradient != 0).all())


def test_places_agree_between_a_map_and_the_patches_of_the_image():
    coarse, fine = grid_places(4, 4, 16), grid_places(12, 12, 16).view(12, 12, 16)
    centres = fine[1::3, 1::3].flatten(0, 1)
    torch.testing.assert_close(coarse, centres)
    nearest = (fine.flatten(0, 1) @ fine.flatten(0, 1).T).argmax(1)
    assert torch.equal(nearest, torch.arange(144))


@pytest.mark.parametrize("shape", [(9, 4), (10, 4)])
def test_tokens_that_come_from_a_square_lie_on_it(shape):
    places = made(MapTokens, shape, 16).place
    torch.testing.assert_close(places[-9:], grid_places(3, 3, 16))


@pytest.mark.parametrize("shape", [(6, 4), (4, 3, 2)])
def test_dropped_tokens_are_marked_and_no_others(shape):
    way_in = made(token_stem, shape, 8)
    values = drawn(2, *shape)
    rows = values if len(shape) == 2 else values.flatten(2).transpose(1, 2)
    rows[0, 2] = 0.0
    rows[1, 3, 0] = 0.0  # a single value is not a token
    way_in.measure(values)
    before = way_in(values)
    nn.init.ones_(way_in.absent)
    marked = torch.zeros(2, 6, 8)
    marked[0, 2] = 1.0
    torch.testing.assert_close(way_in(values) - before, marked)


def test_a_layer_starts_as_the_identity_and_treats_tokens_as_a_set():
    layer, tokens = made(Layer, 16, 4), drawn(2, 5, 16)
    nn.init.zeros_(layer.answer.bias)
    nn.init.zeros_(layer.think[-1].bias)
    torch.testing.assert_close(layer(tokens), tokens)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3, generator=stream(0, "weights"))
    order = torch.tensor([3, 1, 4, 0, 2])
    assert not torch.allclose(layer(tokens), tokens)
    torch.testing.assert_close(layer(tokens[:, order]), layer(tokens)[:, order])


def test_two_kinds_of_optimiser_share_all_weights_of_the_decoder():
    decoder = made(
        TokenDecoder,
        [TensorSpec("a", (3, 4, 4)), TensorSpec("b", (5,)), TensorSpec("c", (0,))],
        (1, 8, 8),
        width=8,
        layers=2,
        heads=2,
        patch=4,
    )
    assert len(decoder.stems) == 2
    assert len(decoder.matrices()) == 8
    assert all(p.ndim == 2 for p in decoder.matrices())


@pytest.mark.parametrize(
    "wrong", [{"layers": 0}, {"heads": 0}, {"heads": 5}, {"width": 12}, {"patch": 0}]
)
def test_impossible_settings_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TransformerDecoder(**wrong)
