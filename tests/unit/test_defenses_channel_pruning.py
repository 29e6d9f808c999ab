"""Channel pruning: its masks, its bytes, and who is trained for what."""

import copy
from functools import cache

import pytest
import torch

from defenses.channel_pruner import ChannelPruner, hard_mask, masked, soft_mask
from defenses.channel_pruning import ChannelPruning
from splitbench.checks.defense_world import defense_world
from splitbench.codecs import container
from splitbench.codecs.channel_subset import ChannelSubset
from splitbench.release import TensorSpec
from splitbench.rng import isolated, stream


@pytest.mark.parametrize(
    ("keywords", "complaint"),
    [
        ({"share": 1.0}, "share"),
        ({"share": -0.1}, "share"),
        ({"share": 0.5, "alpha": 1.0}, "alpha"),
        ({"share": 0.5, "temperature": 0.0}, "temperature"),
        ({"share": 0.5, "width": 0}, "width"),
        ({"share": 0.5, "batch_size": 0}, "batch_size"),
    ],
)
def test_a_bad_setting_is_refused(keywords, complaint):
    with pytest.raises(ValueError, match=complaint):
        ChannelPruning(**keywords)


def scores(count=6, channels=10):
    return torch.randn(count, channels, generator=stream(0, "scores"))


@pytest.mark.parametrize("kept", [1, 3, 9, 10])
def test_the_soft_mask_becomes_the_hard_one_as_it_cools(kept):
    hard = hard_mask(scores(), kept)
    assert hard.sum(1).tolist() == [kept] * 6
    torch.testing.assert_close(soft_mask(scores(), kept, 1e-6), hard)
    warm = soft_mask(scores(), kept, 0.5)
    assert torch.equal((warm > 0.5), hard.bool())


def test_channels_that_score_alike_are_no_reason_to_keep_more():
    assert hard_mask(torch.zeros(2, 5), 2).tolist() == [[1, 1, 0, 0, 0]] * 2


@pytest.mark.parametrize("shape", [(4, 3, 2), (5, 4), (4,)])
def test_a_channel_is_a_map_a_column_of_tokens_or_a_value(shape):
    values = torch.rand(2, *shape, generator=stream(0)) + 1
    mask = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0]])
    (cut,) = masked((values,), (mask,))
    axis = 1 if len(shape) == 3 else -1
    alive = (cut.movedim(axis, 1).reshape(2, 4, -1) != 0).float()
    assert torch.equal(alive.amin(2), mask)
    assert torch.equal(alive.amax(2), mask)


def test_features_with_other_channels_are_refused():
    pruner = ChannelPruner([TensorSpec("z", (4, 3, 3))], width=2)
    with pytest.raises(ValueError, match="was made for"):
        pruner((torch.rand(2, 3, 3, 3),))


@cache
def deployed(share=0.5, cut="branch", epochs=2, alpha=0.5):
    world = defense_world(cut)
    defense = ChannelPruning(
        share=share, alpha=alpha, finetune_epochs=epochs, learning_rate=0.01, batch_size=24, width=8
    )
    return world, world.deploy(defense)


@pytest.mark.parametrize("training", [True, False])
def test_exactly_the_kept_channels_are_left_and_others_in_other_images(training):
    world, system = deployed(cut="hidden")
    images = world.train.images()
    features = tuple(f.abs() + 0.1 for f in system.features(images))  # none is zero by itself
    (sent,) = system.defense.train(training).protect(features, generator=stream(0))
    mask = sent != 0
    assert mask.sum(1).tolist() == [4] * len(images)
    assert torch.equal(sent[mask], features[0][mask])
    assert len(mask.unique(dim=0)) > 1


def test_the_mask_is_one_images_alone():
    world, system = deployed()
    together = system.release(world.targets, generator=stream(0)).visible
    alone = system.release(world.targets[2:3], generator=stream(0)).visible
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one[2:3], other)


def test_the_message_is_as_long_as_its_kept_channels_and_one_bit_for_each():
    """Two tensors of three maps of 25 values: two maps of each, and a byte for three bits."""
    world, system = deployed()
    sent = system.transmit(world.targets, generator=stream(0))
    specs = [TensorSpec(str(i), (3, 5, 5)) for i in range(2)]
    body = 2 * (1 + 2 * 25 * 4)
    assert sent.payload_bytes.tolist() == [container.overhead(specs) + body] * 8


def test_the_adversary_is_shown_which_channels_were_sent():
    world, system = deployed()
    simulated = system.release(world.targets, generator=stream(0))
    real = system.transmit(world.targets, generator=stream(0))
    assert len(real.side) == 2
    for release in (simulated, real):
        pairs = zip(release.side.values(), release.tensors, strict=True)
        for mask, tensor in pairs:
            assert mask.sum(1).tolist() == [2] * 8
            alive = (tensor != 0).flatten(2).any(2).float()
            assert bool((alive <= mask).all())
            assert mask.shape == alive.shape


def test_what_was_removed_is_not_held_against_a_guess():
    """Any value explains a channel that was not sent; a sent one must be met."""
    world, system = deployed()
    features = system.features(world.targets)
    release = system.release(world.targets, generator=stream(0))
    assert float(system.mismatch(release, features).max()) < 1e-9
    silent = (release.tensors[1] == 0).flatten(2).all(2)  # no ReLU makes this one zero
    assert silent.sum(1).tolist() == [1] * 8
    for moved, apart in ((silent, False), (~silent, True)):
        other = (features[0], features[1] + moved[:, :, None, None].float())
        assert (float(system.mismatch(release, other).min()) > 1) is apart


def test_the_decoder_moves_the_pruner_and_nobody_else():
    """After two steps: client and server are where they were for the task alone."""
    systems = []
    for alpha in (0.0, 0.9):
        world = defense_world()
        parts = copy.deepcopy(world.split)
        defense = ChannelPruning(share=0.4, alpha=alpha, finetune_epochs=2, batch_size=240, width=8)
        with isolated(stream(0, "pruner")):
            defense.adapt(parts)
        # An untrained decoder paints the mean image and has no slope: it moves nothing at first.
        defense.fit(parts, world.train, generator=stream(0, "fit"))
        systems.append((parts, defense))
    (calm, calm_pruner), (driven, driven_pruner) = systems
    for module in ("client", "server"):
        pairs = zip(
            getattr(calm, module).parameters(), getattr(driven, module).parameters(), strict=True
        )
        assert all(torch.equal(a, b) for a, b in pairs)
    pairs = zip(calm_pruner.parameters(), driven_pruner.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("dropped", "kept"), [(0.0, 10), (0.07, 10), (0.1, 9), (0.7, 3), (0.99, 1)]
)
def test_the_share_that_is_dropped_is_rounded_down_as_a_decimal(dropped, kept):
    assert ChannelSubset(dropped=dropped).kept(10) == kept


def test_by_itself_the_codec_sends_the_channels_of_the_largest_peaks():
    values = torch.tensor([[[[1.0]], [[-3.0]], [[2.0]], [[0.5]]]])
    sent, mask = ChannelSubset(dropped=0.5).transform((values,))
    assert sent.flatten().tolist() == [0, -3, 2, 0]
    assert mask.tolist() == [[0, 1, 1, 0]]
