"""Attacks take releases of any number of tensors of any rank, and images of any size."""

import copy

import pytest
import torch
from torch import nn

from attacks.inverse_network import InverseNetwork
from attacks.learned_retrieval import LearnedRetrieval
from attacks.likelihood_maximization import LikelihoodMaximization
from attacks.nearest_neighbor import NearestNeighbor
from attacks.ridge import Ridge
from attacks.shuffled_pairs import ShuffledPairs
from attacks.transformer_decoder import TransformerDecoder
from attacks.transposed_network import TransposedNetwork
from splitbench.checks.attack_world import Undefended
from splitbench.codecs.float32 import Float32
from splitbench.data.images import LabeledImages
from splitbench.deployment import Deployment
from splitbench.feed import Feed
from splitbench.release import TensorSpec
from splitbench.rng import isolated, stream
from splitbench.split import Cut, Split
from splitbench.threat import Surface, ThreatModel

SMALL = {"width": 8, "blocks": 1, "heads": 2, "patch": 3, "steps": 6, "batch_size": 8}
TOKENS = {"width": 8, "layers": 1, "heads": 2, "patch": 3, "steps": 6, "batch_size": 8}
TRANSPOSED = {"width": 8, "steps": 6, "batch_size": 8}
SHAPES = {
    "map": [(3, 5, 5)],
    "larger map": [(2, 20, 20)],
    "oblong map": [(2, 3, 9)],
    "one pixel": [(6, 1, 1)],
    "vector": [(7,)],
    "scalar": [()],
    "square of tokens": [(9, 4)],
    "class token": [(10, 4)],
    "sentence of tokens": [(7, 4)],
    "one token": [(1, 4)],
    "two tokens": [(2, 4)],
    "video": [(2, 2, 3, 3)],
    "nothing": [(0,)],
    "map without channels": [(0, 4, 4)],
    "several": [(3, 5, 5), (7,), (10, 4), (0,), ()],
}


class Client(nn.Module):
    """A random linear map to each of several shapes."""

    def __init__(self, pixels, shapes):
        super().__init__()
        self.shapes = shapes
        self.maps = nn.ModuleList(
            nn.Linear(pixels, torch.Size(s).numel()) for s in shapes if torch.Size(s).numel()
        )

    def forward(self, images):
        maps = iter(self.maps)
        flat = images.flatten(1)
        return tuple(
            (next(maps)(flat) if torch.Size(s).numel() else flat[:, :0]).reshape(len(images), *s)
            for s in self.shapes
        )


class World:
    def __init__(self, shapes, image_shape=(1, 8, 7), auxiliary=40):
        self.image_shape = image_shape
        with isolated(stream(0, "client")):
            client = Client(torch.Size(image_shape).numel(), shapes).eval().requires_grad_(False)
        specs = tuple(TensorSpec(f"t{i}", tuple(s)) for i, s in enumerate(shapes))
        cut = Cut("z", 1, specs, head_flops=0, tail_flops=0, head_params=0, tail_params=0)
        plain = Undefended().eval(), Float32()
        split = Split(cut, client, nn.Identity())
        self.deployment = Deployment(split, *plain, specs=specs, plain=plain)
        pixels = torch.rand(auxiliary, *image_shape, generator=stream(0, "images"))
        labels = torch.zeros(auxiliary, dtype=torch.int64)
        self.feed = Feed(LabeledImages(pixels, labels, ("a",)), seed=0)
        self.targets = torch.rand(5, *image_shape, generator=stream(0, "targets"))
        self.release = self.deployment.release(self.targets, generator=stream(0, "r"))

    def surface(self, purpose):
        return Surface(
            self.deployment,
            ThreatModel(),
            feed=self.feed,
            classes=1,
            image_shape=self.image_shape,
            seed=0,
            purpose=purpose,
        )

    def fitted(self, attack):
        return copy.deepcopy(attack).fit(self.surface("fit"), generator=stream(0, "fit"))

    def guess(self, fitted, index=slice(None)):
        return fitted(self.release[index], self.surface("recover"), generator=stream(0, "recover"))


ATTACKS = [
    Ridge(),
    NearestNeighbor(neighbors=2),
    NearestNeighbor(whiten=4),
    NearestNeighbor(neighbors=4, weighting="kernel"),
    LearnedRetrieval(components=8, steps=5),
    InverseNetwork(**SMALL),
    TransformerDecoder(**TOKENS),
    TransposedNetwork(**TRANSPOSED),
    LikelihoodMaximization(steps=3),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: type(attack).__name__)
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_any_release_gives_finite_images_that_do_not_depend_on_the_batch(shapes, attack):
    world = World(shapes)
    fitted = world.fitted(attack)
    whole = world.guess(fitted)
    assert whole.shape == world.targets.shape
    assert whole.isfinite().all()
    torch.testing.assert_close(world.guess(fitted, slice(2, 4)), whole[2:4], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "image_shape", [(1, 28, 28), (3, 32, 32), (3, 13, 9), (1, 4, 4), (1, 1, 1)]
)
@pytest.mark.parametrize("loss", ["mse", "perceptual"])
def test_a_decoder_paints_images_of_any_size(image_shape, loss):
    world = World([(3, 5, 5), (4,)], image_shape=image_shape)
    for decoder in (InverseNetwork(**SMALL, loss=loss), TransformerDecoder(**TOKENS, loss=loss)):
        guess = world.guess(world.fitted(decoder))
        assert guess.shape == world.targets.shape
        assert guess.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (InverseNetwork, SMALL),
        (ShuffledPairs, SMALL),
        (TransformerDecoder, TOKENS),
        (TransposedNetwork, TRANSPOSED),
    ],
)
def test_a_decoder_survives_its_round_trip_bit_for_bit(kind, settings):
    world = World(SHAPES["several"])
    fitted = world.fitted(kind(**settings))
    heir = kind(**settings)
    before = torch.random.get_rng_state()
    heir.import_state(fitted.export_state(), world.surface("fit"))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(world.guess(heir), world.guess(fitted))


def test_a_decoder_may_not_import_the_state_of_another_shape():
    state = World([(3, 5, 5)]).fitted(InverseNetwork(**SMALL)).export_state()
    with pytest.raises(RuntimeError, match="size mismatch"):
        InverseNetwork(**SMALL).import_state(state, World([(4, 5, 5)]).surface("fit"))


@pytest.mark.parametrize(
    ("kind", "settings"), [(InverseNetwork, SMALL), (TransformerDecoder, TOKENS)]
)
def test_an_untrained_decoder_starts_at_the_mean_image(kind, settings):
    world = World([(3, 5, 5)])
    almost = kind(**{**settings, "steps": 1}, learning_rate=1e-9)
    guess = world.guess(world.fitted(almost))
    mean = world.feed.train.images().mean(0).expand_as(guess)
    torch.testing.assert_close(guess, mean, atol=1e-5, rtol=0)


def test_a_channel_that_never_moves_does_not_disturb_a_decoder():
    class Dead(Client):
        def forward(self, images):
            values = super().forward(images)[0].clone()
            values[:, 0] = 1e6
            return (values,)

    world = World([(3, 5, 5)])
    dead = copy.deepcopy(world)
    dead.deployment.split.client.__class__ = Dead
    dead.release = dead.deployment.release(dead.targets, generator=stream(0, "r"))
    for decoder in (InverseNetwork(**SMALL), TransformerDecoder(**TOKENS)):
        assert dead.guess(dead.fitted(decoder)).isfinite().all()


def test_without_held_out_images_the_last_weights_are_kept():
    world = World([(7,)])
    world.feed = Feed(world.feed.train, seed=0, validation_fraction=0.0)
    for attack in ATTACKS:
        assert world.guess(world.fitted(attack)).isfinite().all()
