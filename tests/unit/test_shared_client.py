"""The client's forward is computed once per batch, whatever is attacked beside it."""

import pytest
import torch

from attacks.inverse_network import InverseNetwork
from defenses.no_defense import NoDefense
from splitbench.codecs.float32 import Float32
from splitbench.data.images import LabeledImages
from splitbench.deployment import Deployment, SharedClient
from splitbench.feed import Feed
from splitbench.fitting import fit_together
from splitbench.models.lenet5 import LeNet5
from splitbench.rng import isolated, stream
from splitbench.split import Cuttable, Taps
from splitbench.threat import Surface, ThreatModel

SHAPE = (1, 12, 12)
STEPS = 6


@pytest.fixture(scope="module")
def model():
    with isolated(stream(0, "test")):
        return LeNet5(image_shape=SHAPE, classes=3).eval()


def fit(model, cuts):
    """Client forwards of fitting a decoder at each cut side by side, and the decoders' guesses."""
    pixels = torch.rand(40, *SHAPE, generator=stream(0, "pixels"))
    feed = Feed(LabeledImages(pixels, torch.zeros(40, dtype=torch.int64), ("a", "b", "c")), seed=0)
    example, plain = torch.zeros(1, *SHAPE), (NoDefense(), Float32())
    cuttable, shared = Cuttable(model, example), SharedClient(Taps(model, example, cuts))
    attacks, fittings, surfaces = {}, {}, {}
    for cut in cuts:
        specs = cuttable.find(cut).tensors
        deployment = Deployment(cuttable.split(cut), *plain, specs, plain, shared)
        surfaces[cut] = Surface(
            deployment, ThreatModel(), feed=feed, classes=3, image_shape=SHAPE, seed=0
        )
        attacks[cut] = InverseNetwork(
            width=8, blocks=1, heads=0, patch=4, steps=STEPS, batch_size=8
        )
        fittings[cut] = attacks[cut].fitting(surfaces[cut], generator=stream(0, "fit", cut))
    fit_together(fittings, lambda _name, _progress: None)
    forwards = shared.taps.forwards
    guesses = {}
    for cut in cuts:
        release = surfaces[cut].query(pixels[:4])
        guesses[cut] = attacks[cut](release, surfaces[cut], generator=stream(0, "guess"))
    return forwards, guesses


def test_decoders_of_four_cuts_cost_the_forwards_of_one_while_they_learn(model):
    alone, _ = fit(model, ["relu1"])
    together, _ = fit(model, ["relu1", "pool1", "relu2", "relu3"])
    preparation = alone - STEPS  # standardisation and held-out images, right before batch 1
    assert preparation > 0
    assert together == 4 * (preparation + 1) + (STEPS - 1)


def test_a_decoder_learns_the_same_alone_and_beside_others(model):
    _, alone = fit(model, ["pool1"])
    _, among = fit(model, ["relu1", "pool1", "relu2"])
    assert torch.equal(alone["pool1"], among["pool1"])
