"""Every defense can be attacked by the search, which asks the most of a defense."""

from dataclasses import replace

import pytest
import torch
from scipy import stats
from tiny_defenses import TINY, world

import defenses
from attacks.likelihood_maximization import LikelihoodMaximization
from attacks.ridge import Ridge
from splitbench.checks.defense_world import CLASSES, SIDE
from splitbench.checks.discovery import concrete
from splitbench.defense import Defense
from splitbench.feed import Feed
from splitbench.release import TensorSpec
from splitbench.rng import stream
from splitbench.threat import Surface, ThreatModel

DISCOVERED = concrete(defenses, Defense)
DEFENSES = [cls(**settings) for cls in DISCOVERED for settings in TINY.get(cls, [{}])]


@pytest.mark.parametrize("defense", DEFENSES, ids=repr)
@pytest.mark.parametrize("cut", ["relu", "branch"])
def test_the_search_runs_and_is_not_far_behind_its_start(defense: Defense, cut: str) -> None:
    place = world(cut)
    deployed = place.fitted(defense)
    probe = deployed.transmit(place.targets, generator=stream(0, "probe"))
    specs = tuple(TensorSpec(f"t{i}", tuple(t.shape[1:])) for i, t in enumerate(probe.tensors))
    deployed = replace(deployed, specs=specs)
    sent = deployed.transmit(place.targets, generator=stream(0, "sent"))
    surface = Surface(
        deployed,
        ThreatModel(),
        feed=Feed(place.train, seed=0),
        classes=CLASSES,
        image_shape=(1, SIDE, SIDE),
        seed=0,
        purpose="pair",
    )
    errors = {}
    search = LikelihoodMaximization(
        steps=20, learning_rate=0.1, warm_start=Ridge(), weights=(1.0, 100.0)
    )
    for attack in (Ridge(), search):
        attack.fit(surface, generator=stream(0, "fit"))
        guess = attack(sent, surface, generator=stream(0, "recover"))
        assert torch.isfinite(guess).all()
        errors[type(attack)] = (guess - place.targets).square().flatten(1).mean(1)
    # The search may leave its start alone, and chooses by held-out images: on others it is worse by
    # chance alone. Student's t of the differences on these eight, once in a thousand pairs.
    worse = errors[LikelihoodMaximization] - errors[Ridge]
    chance = float(worse.std()) / len(worse) ** 0.5
    assert float(worse.mean()) <= stats.t.ppf(0.999, len(worse) - 1) * chance
