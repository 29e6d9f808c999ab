"""What travels beside the live tensors: from the codec's bytes to whoever is allowed to see it."""

from dataclasses import replace

import pytest
import torch

from attacks.inverse_network import InverseNetwork
from attacks.linear_probe import LinearProbe
from attacks.transformer_decoder import TransformerDecoder
from attacks.transposed_network import TransposedNetwork
from splitbench.checks import inference_trial
from splitbench.checks.aside import Aside
from splitbench.checks.attack_trial import attempt
from splitbench.checks.attack_world import toy_world
from splitbench.checks.codec import CODEC_CHECKS
from splitbench.release import TensorSpec
from splitbench.rng import stream
from splitbench.threat import ThreatModel

DECODERS = [
    InverseNetwork(width=16, blocks=1, heads=0, patch=4, steps=12, batch_size=16),
    TransformerDecoder(width=16, layers=1, heads=2, patch=4, steps=12, batch_size=16),
    TransposedNetwork(width=16, steps=12, batch_size=16, learning_rate=0.03),
]
PROBE = LinearProbe(penalties=(0.01,), iterations=10, draws=1)


class Means(Aside):
    """Tells the mean of each tensor beside zeros: one number, without an axis of its own."""

    def decode(self, payload):
        return _means(super().decode(payload), 0)

    def transform(self, tensors):
        return _means(super().transform(tensors), 1)

    def beside(self, specs):
        return tuple(TensorSpec(f"mean of {spec.name}", ()) for spec in specs)


def _means(decoded, first):
    live = len(decoded) // 2
    return (*decoded[:live], *(t.flatten(first).mean(first) for t in decoded[live:]))


def with_codec(world, codec):
    return replace(world, deployment=replace(world.deployment, codec=codec))


@pytest.mark.parametrize("check", CODEC_CHECKS, ids=lambda check: check.__name__)
def test_a_codec_that_sends_something_beside_keeps_the_promises_of_codecs(check):
    values = torch.randn(3, 4, 5, generator=stream(0, "values"))
    check(Aside(), (values, values[:, 0] - 1))


def test_what_travels_beside_is_read_from_real_bytes_and_simulated_alike():
    world = toy_world(aside=True, forked=True)
    features = world.client(world.targets)
    sent = world.release()
    simulated = world.deployment.release(world.targets, generator=stream(0, "again"))
    for release in (sent, simulated):
        assert list(release.side) == ["aside tensor0", "aside tensor1"]
        assert not any(bool(t.any()) for t in release.tensors)
        for told, feature in zip(release.side.values(), features, strict=True):
            assert torch.equal(told, feature)
    assert sent.payload_bytes is not None
    assert int(sent.payload_bytes[0]) >= 4 * 64


def test_visible_is_all_that_arrives_in_the_shapes_that_are_announced():
    world = toy_world(aside=True, forked=True, noisy=True)
    for observations in (1, 3):
        threat = ThreatModel(observations=observations)
        surface = world.surface("fit", threat)
        released = [surface.query(world.targets), surface.validation_pairs(0)[1]]
        for release in released:
            shapes = [tuple(t.shape[1:]) for t in release.visible]
            assert shapes == [spec.shape for spec in surface.visible_specs]
            assert [spec.name for spec in surface.visible_specs[2:]] == list(release.side)
            assert release.flat().shape == (len(release), 64 + 64 * observations)
    assert [len(r) for r in released] == [6, 0]
    assert not torch.equal(*released[0].side["aside tensor0"].unbind(1)[:2])


def test_who_is_unaware_of_the_codec_overlooks_what_it_sends_beside():
    world = toy_world(aside=True)
    surface = world.surface("fit", ThreatModel(defense="hidden"))
    assert surface.visible_specs == surface.specs
    assert not surface.understood(world.release()).side
    trial = attempt(DECODERS[0], world, threat=ThreatModel(defense="hidden"))
    assert trial.guess.shape == world.targets.shape


@pytest.mark.parametrize("forked", [False, True])
def test_so_does_who_infers(forked):
    world, naive = toy_world(aside=True, forked=forked), ThreatModel(defense="hidden")
    trial = inference_trial.attempt(PROBE, world, threat=naive)
    plain = replace(world.release(), side={})
    scores, _ = inference_trial.infer(trial.inference, world, release=plain, threat=naive)
    assert torch.equal(trial.scores, scores)


def test_who_infers_and_knows_of_the_codec_looks_at_what_it_sends_beside():
    world = toy_world(aside=True)
    trial = inference_trial.attempt(PROBE, world)
    release = world.release()
    release.side["aside tensor0"].add_(1)
    assert not torch.equal(
        inference_trial.infer(trial.inference, world, release=release)[0], trial.scores
    )


def test_values_beside_that_are_not_finite_are_refused():
    world = toy_world(aside=True)
    fitted = attempt(DECODERS[0], world).attack
    probe = inference_trial.attempt(PROBE, world).inference
    release, surface = world.release(), world.surface("recover", ThreatModel())
    release.side["aside tensor0"][0] = torch.nan
    with pytest.raises(ValueError, match="tensor 1 of the release holds"):
        fitted(release, surface, generator=torch.Generator())
    with pytest.raises(ValueError, match="tensor 1 of the release holds"):
        probe(release, surface)


@pytest.mark.parametrize("attack", DECODERS, ids=lambda attack: type(attack).__name__)
@pytest.mark.parametrize("codec", [Aside(), Means()], ids=repr)
def test_a_decoder_reads_maps_vectors_and_numbers_beside_the_tensors(attack, codec):
    world = with_codec(toy_world(forked=True), codec)
    fitted = attempt(attack, world).attack
    release, surface = world.release(), world.surface("recover", ThreatModel())

    def guess(decoder, seen):
        return decoder(seen, surface, generator=torch.Generator())

    told = guess(fitted, release)
    for name, values in release.side.items():
        moved = replace(release, side={**release.side, name: values + 1})
        assert not torch.equal(guess(fitted, moved), told)
    heir = type(attack)(**attack.arguments())
    heir.import_state(fitted.export_state(), world.surface("fit", ThreatModel()))
    assert torch.equal(guess(heir, release), told)
