"""What defenses train: the server, both sides, a bottleneck; and what they leave alone."""

import copy
from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional

from defenses.bottleneck import NarrowingClient, WideningServer
from defenses.distillation_bottleneck import DistillationBottleneck
from defenses.entropic_student import EntropicStudent
from defenses.fine_tuning import fine_tune
from defenses.gaussian_noise import GaussianNoise
from defenses.laplace_noise import LaplaceNoise
from defenses.local_dp_gaussian import LocalDpGaussian
from defenses.quantization import Quantization
from defenses.variational_bottleneck import VariationalBottleneck
from splitbench.checks.defense_world import DefenseWorld, defense_world
from splitbench.release import TensorSpec
from splitbench.rng import isolated, stream
from splitbench.split import split


@cache
def trained(cut="relu"):
    """The small world with a model that has learnt its task."""
    world = defense_world(cut)
    parts = copy.deepcopy(world.split)

    def loss(images, labels):
        return functional.cross_entropy(parts.server(parts.client(images)), labels)

    fine_tune(
        [parts.client, parts.server],
        loss,
        world.train,
        epochs=15,
        learning_rate=1e-2,
        batch_size=16,
        generator=stream(0, "teacher"),
    )
    return DefenseWorld(parts, world.train, world.targets)


def accuracy(deployment, world):
    sent = deployment.release(world.train.images(), generator=stream(0, "message"))
    return float((deployment.predict(sent).argmax(1) == world.train.labels).float().mean())


def parameters(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class Recorder:
    """Keeps the progress that it is told."""

    def __init__(self):
        self.seen = []

    def __call__(self, progress):
        self.seen.append(progress)


def test_the_teacher_of_these_tests_has_learnt_its_task():
    assert accuracy(trained().deploy(GaussianNoise(noise_std=0.0)), trained()) > 0.95


@pytest.mark.parametrize("kind", [GaussianNoise, LaplaceNoise])
def test_a_server_tuned_under_noise_bears_it_better_than_one_that_was_not(kind):
    world = trained("hidden")
    post_hoc = kind(noise_std=1.0)
    tuned = kind(noise_std=1.0, finetune_epochs=20, learning_rate=1e-2, batch_size=16)
    gain = accuracy(world.deploy(tuned), world) - accuracy(world.deploy(post_hoc), world)
    assert gain > 0.05


def test_a_server_tuned_to_one_bit_bears_it_better_than_one_that_was_not():
    world = trained()
    tuned = Quantization(bits=1, finetune_epochs=10, learning_rate=5e-3, batch_size=16)
    assert accuracy(world.deploy(tuned), world) > accuracy(
        world.deploy(Quantization(bits=1)), world
    )


@pytest.mark.parametrize(
    "defense",
    [GaussianNoise(noise_std=0.5, finetune_epochs=1), Quantization(bits=2, finetune_epochs=1)],
    ids=repr,
)
def test_tuning_the_server_leaves_the_client_alone(defense):
    world = trained()
    deployed = world.deploy(defense)
    assert same(parameters(deployed.split.client), parameters(world.split.client))
    assert not same(parameters(deployed.split.server), parameters(world.split.server))


def test_training_both_sides_changes_both():
    world = trained()
    defense = Quantization(bits=2, finetune_epochs=1, trains="both")
    deployed = world.deploy(defense)
    assert defense.changes_client
    assert not same(parameters(deployed.split.client), parameters(world.split.client))
    assert not same(parameters(deployed.split.server), parameters(world.split.server))


@pytest.mark.parametrize("epochs", [0, 1])
def test_only_training_both_sides_says_that_it_changes_the_client(epochs):
    assert not Quantization(bits=2, finetune_epochs=epochs).changes_client
    both = Quantization(bits=2, finetune_epochs=epochs, trains="both")
    assert both.changes_client is (epochs > 0)


def test_the_gradient_through_the_quantiser_is_that_of_the_identity():
    defense = Quantization(bits=2)
    features = torch.rand(3, 4, generator=stream(0)).requires_grad_()
    weights = torch.randn(3, 4, generator=stream(1))
    rounded = defense.straight_through((features,))[0]
    (rounded * weights).sum().backward()
    assert torch.equal(features.grad, weights)
    assert torch.allclose(rounded, defense.codec.transform((features.detach(),))[0], atol=1e-6)


def test_the_payload_of_the_quantiser_is_its_bits():
    world = trained()
    sizes = {
        bits: int(
            world.deploy(Quantization(bits=bits))
            .transmit(world.targets[:1], generator=stream(0))
            .payload_bytes[0]
        )
        for bits in (1, 2, 8)
    }
    values = world.split.cut.tensors[0].numel
    overhead = sizes[8] - values
    assert sizes == {bits: overhead + -(-values * bits // 8) for bits in (1, 2, 8)}


def test_a_quantiser_that_cannot_be_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="bits=0"):
        Quantization(bits=0)
    with pytest.raises(ValueError, match="per='tensor'"):
        Quantization(bits=4, per="channel", clip=(0.0, 1.0))


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: Quantization(bits=4, trains="nobody"), "nobody"),
        (lambda: Quantization(bits=4, finetune_epochs=-1), "finetune_epochs=-1"),
        (lambda: Quantization(bits=4, learning_rate=0.0), "must be positive"),
        (lambda: Quantization(bits=4, batch_size=0), "batch_size=0"),
        (lambda: DistillationBottleneck(channels=0), "channels=0"),
        (lambda: DistillationBottleneck(channels=1, stride=0), "stride=0"),
        (lambda: DistillationBottleneck(channels=1, epochs=0), "epochs=0"),
        (lambda: DistillationBottleneck(channels=1, temperature=0.0), "temperature=0.0"),
        (lambda: DistillationBottleneck(channels=1, beta=-1.0), "not be negative"),
    ],
)
def test_a_bad_setting_is_refused(build, complaint):
    with pytest.raises((ValueError, TypeError), match=complaint):
        build()


@pytest.mark.parametrize(
    "defense",
    [
        Quantization(bits=3, per="channel", finetune_epochs=1),
        Quantization(bits=3, clip=(0.0, 2.0)),
        DistillationBottleneck(channels=2, stride=2, beta=0.5),
    ],
)
def test_the_repr_rebuilds_the_defense(defense):
    assert eval(repr(defense)).arguments() == defense.arguments()


def test_a_distilled_bottleneck_keeps_the_accuracy_that_an_untrained_one_loses():
    world = trained()
    defense = DistillationBottleneck(channels=2, epochs=20, learning_rate=1e-2, batch_size=16)
    with isolated(stream(0, "defense", "initialisation")):
        raw = world.deployment(defense, defense.adapt(copy.deepcopy(world.split)))
    untrained, distilled = accuracy(raw, world), accuracy(world.deploy(defense), world)
    assert distilled > 0.9
    assert untrained < distilled - 0.3


def test_the_features_behind_the_adapter_come_near_the_teachers_where_that_is_asked():
    world = trained()
    wanted = world.features(world.targets)[0]
    errors = []
    for beta in (0.0, 10.0):
        defense = DistillationBottleneck(
            channels=2, epochs=8, learning_rate=1e-2, batch_size=16, beta=beta
        )
        parts = world.deploy(defense).split
        with torch.no_grad():
            restored = parts.server.restore(parts.client(world.targets))[0]
        errors.append(float((restored - wanted).square().mean()))
    assert errors[1] < errors[0] / 2


@pytest.mark.parametrize(
    ("channels", "stride", "released"),
    [
        (1, 1, [(1, 5, 5), (1, 5, 5)]),
        (2, 2, [(2, 3, 3), (2, 3, 3)]),
        (3, 9, [(3, 1, 1), (3, 1, 1)]),
    ],
)
def test_the_release_has_the_asked_size(channels, stride, released):
    world = defense_world("branch")
    parts = DistillationBottleneck(channels=channels, stride=stride).adapt(world.split)
    sent = parts.client(world.targets)
    assert [tuple(t.shape[1:]) for t in sent] == released
    assert [t.shape for t in parts.server.restore(sent)] == [
        f.shape for f in world.features(world.targets)
    ]
    assert parts.server(sent).shape == (8, 3)


@pytest.mark.parametrize(
    "defense",
    [
        DistillationBottleneck(channels=4),
        EntropicStudent(beta=0.001, channels=4),
        VariationalBottleneck(beta=0.001, channels=4),
        LocalDpGaussian(epsilon=8.0, channels=4, finetune_epochs=1),
    ],
    ids=lambda defense: type(defense).__name__,
)
def test_a_bottleneck_wider_than_the_feature_is_refused(defense):
    with pytest.raises(ValueError, match=r"channels=4: '\w+' has 3, and a bottleneck is no wider"):
        defense.adapt(defense_world("branch").split)


def test_tokens_are_narrowed_along_their_last_axis():
    specs = [TensorSpec("tokens", (7, 12))]

    class Tokens(nn.Module):
        def forward(self, images):
            return (images.flatten(1)[:, :, None].repeat(1, 1, 12),)

    client = NarrowingClient(Tokens(), specs, channels=2, stride=4)
    server = WideningServer(nn.Identity(), specs, channels=2, stride=4)
    sent = client(torch.rand(3, 1, 7, 1))
    assert sent[0].shape == (3, 7, 2)
    assert server.restore(sent)[0].shape == (3, 7, 12)


def test_features_of_unknown_rank_are_refused():
    specs = [TensorSpec("video", (3, 4, 5, 6))]
    with pytest.raises(ValueError, match="choose another cut"):
        NarrowingClient(nn.Identity(), specs, channels=2, stride=1)


def test_adapting_leaves_the_split_alone_and_fitting_leaves_the_teacher_alone():
    world = trained()
    before = [parameters(m) for m in (world.split.client, world.split.server)]
    defense = DistillationBottleneck(channels=2, epochs=1)
    defense.fit(defense.adapt(world.split), world.train, generator=stream(0))
    after = [parameters(m) for m in (world.split.client, world.split.server)]
    assert all(map(same, before, after))


def test_fitting_a_split_without_a_bottleneck_is_refused():
    world = trained()
    with pytest.raises(TypeError, match=r"adapt\(\)"):
        DistillationBottleneck(channels=2).fit(world.split, world.train, generator=stream(0))


def test_batch_normalisation_of_the_client_keeps_its_statistics():
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(27, 3))
    world = defense_world()
    defense = DistillationBottleneck(channels=2, epochs=1)
    parts = defense.adapt(split(model.eval(), world.targets[:1], "1"))
    before = {k: v for k, v in parameters(parts.client).items() if "running" in k}
    defense.fit(parts, world.train, generator=stream(0))
    after = {k: v for k, v in parameters(parts.client).items() if "running" in k}
    assert before
    assert same(before, after)
    assert not any(module.training for module in parts.client.modules())


def test_equal_seeds_train_equal_servers_and_other_seeds_others():
    world = trained()
    defense = GaussianNoise(noise_std=0.5, finetune_epochs=1)
    one, again, other = (
        parameters(world.deploy(defense, seed=seed).split.server) for seed in (0, 0, 1)
    )
    assert same(one, again)
    assert not same(one, other)


def test_fine_tuning_tells_every_step_and_learns():
    world = defense_world()
    recorder = Recorder()
    defense = Quantization(bits=8, finetune_epochs=4, learning_rate=1e-2, batch_size=50)
    defense.fit(copy.deepcopy(world.split), world.train, generator=stream(0), on_step=recorder)
    assert [p.step for p in recorder.seen] == list(range(1, 21))
    assert {p.steps for p in recorder.seen} == {20}
    losses = [p.loss for p in recorder.seen]
    assert sum(losses[-5:]) < sum(losses[:5])


def test_fine_tuning_leaves_frozen_parameters_frozen_and_no_gradients():
    world = defense_world()
    parts = copy.deepcopy(world.split)
    Quantization(bits=8, finetune_epochs=1).fit(parts, world.train, generator=stream(0))
    for parameter in parts.server.parameters():
        assert not parameter.requires_grad
        assert parameter.grad is None


def test_a_server_without_parameters_leaves_nothing_to_tune():
    world = defense_world()
    parts = split(nn.Sequential(nn.Flatten(), nn.Linear(25, 3)), world.targets[:1], "output")
    recorder = Recorder()
    defense = GaussianNoise(noise_std=0.5, finetune_epochs=1)
    defense.fit(parts, world.train, generator=stream(0), on_step=recorder)
    assert recorder.seen == []
    assert defense.scale((torch.zeros(1, 3),))[0] > 0


def test_training_looks_at_nothing_but_the_train_images():
    world = trained()

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = world.split.client
            self.seen = []

        def forward(self, images):
            self.seen += [image.numpy().tobytes() for image in images]
            return self.inner(images)

    watched = Watched()
    parts = type(world.split)(world.split.cut, watched, copy.deepcopy(world.split.server))
    GaussianNoise(noise_std=0.5, finetune_epochs=2).fit(parts, world.train, generator=stream(0))
    known = {image.numpy().tobytes() for image in world.train.images()}
    assert set(watched.seen) == known
    assert len(watched.seen) == 3 * len(world.train)  # calibration and two epochs
