"""Resistance that was learnt on some classes: what is trained on what, and what is kept."""

import copy

import pytest
import torch

from defenses.adversarial_training import AdversarialTraining
from defenses.resistance_transfer import ResistanceTransfer
from splitbench.checks.defense_world import defense_world
from splitbench.rng import stream

QUICK = {"decoders": 1, "width": 4, "finetune_epochs": 2, "learning_rate": 0.01, "batch_size": 40}


@pytest.mark.parametrize(
    ("keywords", "complaint"),
    [
        ({"source": 0.0}, "source"),
        ({"source": 1.1}, "source"),
        ({"transfer_epochs": 0}, "transfer_epochs"),
        ({"tuning_epochs": -1}, "tuning_epochs"),
        ({"decoders": 0}, "decoders"),
    ],
)
def test_a_bad_setting_is_refused(keywords, complaint):
    with pytest.raises(ValueError, match=complaint):
        ResistanceTransfer(weight=1.0, **keywords)


@pytest.mark.parametrize(("source", "classes"), [(0.1, [0, 1]), (0.6, [0, 1]), (1.0, [0, 1, 2])])
def test_the_source_is_the_first_classes_and_two_at_least(source, classes):
    train = defense_world().train
    found = ResistanceTransfer(weight=1.0, source=source).source_of(train)
    assert found.labels.unique().tolist() == classes
    assert len(found) == len(train) * len(classes) // 3


def test_the_client_is_the_experts_and_the_server_is_not():
    """Without tuning, all that happens to the client is adversarial training on the source."""
    world = defense_world()
    defense = ResistanceTransfer(weight=2.0, transfer_epochs=1, **QUICK)
    expert = copy.deepcopy(world.split)
    AdversarialTraining(weight=2.0, **QUICK).fit(
        expert, defense.source_of(world.train), generator=stream(0)
    )
    handed = copy.deepcopy(world.split)
    defense.fit(handed, world.train, generator=stream(0))
    for name, value in expert.client.state_dict().items():
        assert torch.equal(value, handed.client.state_dict()[name]), name
    servers = [part.server.state_dict() for part in (world.split, expert, handed)]
    assert all(not torch.equal(s["head.bias"], servers[2]["head.bias"]) for s in servers[:2])


def test_the_server_learns_all_classes_behind_the_experts_client():
    world = defense_world()
    right = []
    for defense in (
        AdversarialTraining(weight=1.0, **{**QUICK, "finetune_epochs": 6}),
        ResistanceTransfer(weight=1.0, transfer_epochs=12, **{**QUICK, "finetune_epochs": 6}),
    ):
        parts = copy.deepcopy(world.split)
        source = ResistanceTransfer(weight=1.0).source_of(world.train)
        seen = world.train if isinstance(defense, ResistanceTransfer) else source
        defense.fit(parts, seen, generator=stream(0))
        with torch.no_grad():
            found = parts.server(parts.client(world.train.images())).argmax(1)
        other = world.train.labels == 2
        right.append(float((found == world.train.labels)[other].float().mean()))
    assert right[0] == 0  # the expert knows nothing of the class that it was not shown
    assert right[1] > 0.6


def test_tuning_moves_the_client():
    world = defense_world()
    clients = []
    for epochs in (0, 1):
        parts = copy.deepcopy(world.split)
        ResistanceTransfer(weight=1.0, transfer_epochs=1, tuning_epochs=epochs, **QUICK).fit(
            parts, world.train, generator=stream(0)
        )
        clients.append(parts.client(world.targets)[0].detach())
    assert not torch.equal(*clients)
