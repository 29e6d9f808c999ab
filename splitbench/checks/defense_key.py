"""What a defense with a secret key must do; one without passes."""

import torch

from splitbench.checks.defense_messages import equal
from splitbench.checks.defense_world import DefenseWorld
from splitbench.checks.form import rebuilt
from splitbench.defense import Defense
from splitbench.release import Tensors
from splitbench.rng import stream

KEYS = 8  # drawn where one might be the true key by chance: three channels have six orders
EXACT = 1e-4  # error that rounding may leave, relative to the largest feature
EXPLAINED = 1e-6  # share of the mismatch of another image that arithmetic may leave


def check_rekeying_changes_the_key_alone(defense: Defense, world: DefenseWorld) -> None:
    """Another key gives another release of the same mechanism; the defense itself stays."""
    deployed = world.fitted(defense).defense
    if not defense.keyed:
        assert deployed.rekeyed(generator=stream(0, "key")) is deployed, (
            "a defense without a key was rekeyed: set keyed = True, or leave rekeyed alone"
        )
        return
    features = world.features(world.targets)
    before = _sent(deployed, features)
    generator = stream(0, "key")
    others = [deployed.rekeyed(generator=generator) for _ in range(KEYS)]
    assert equal(_sent(deployed, features), before), (
        "rekeyed changed the defense itself: return a copy"
    )
    alike = all(type(o) is type(defense) and repr(o) == repr(defense) for o in others)
    assert alike, "rekeyed changed more than the key: keep the class and all its keywords"
    assert any(not equal(_sent(other, features), before) for other in others), (
        f"{KEYS} other keys release the same: draw a new key from the generator in rekeyed"
    )


def check_restore_undoes_a_keyed_protect(defense: Defense, world: DefenseWorld) -> None:
    """The server gets the features back, but for rounding: a key costs no accuracy."""
    if not defense.keyed:
        return
    deployed = world.fitted(defense).defense
    features = world.features(world.targets)
    for chosen in (deployed, deployed.rekeyed(generator=stream(0, "key"))):
        for back, f in zip(chosen.restore(_sent(chosen, features)), features, strict=True):
            error = float((back - f).abs().max() / f.abs().max())
            assert error <= EXACT, (
                f"restore leaves an error of {error:.2g} of the largest feature: undo in restore "
                "what the key does in protect"
            )


def check_the_key_is_in_the_state(defense: Defense, world: DefenseWorld) -> None:
    """A fresh defense that loads the state of a rekeyed one has its key."""
    if not defense.keyed:
        return
    features = world.features(world.targets)
    other = world.fitted(defense).defense.rekeyed(generator=stream(0, "key"))
    again = rebuilt(defense)
    again.load_state_dict({name: value.clone() for name, value in other.state_dict().items()})
    assert equal(_sent(again, features), _sent(other, features)), (
        "the state does not hold the key: keep it in a buffer, and nowhere else"
    )


def _sent(defense: Defense, features: Tensors) -> Tensors:
    with torch.no_grad():
        return defense.protect(features, generator=stream(0, "message"))


def check_the_truth_explains_a_keyed_release(defense: Defense, world: DefenseWorld) -> None:
    """Who knows the key finds nothing unexplained in a message by what it was made of."""
    if not defense.keyed or defense.stochastic:
        return
    deployed = world.fitted(defense)
    release = deployed.transmit(world.targets, generator=stream(0, "message"))
    features = deployed.features(world.targets)
    truth = deployed.mismatch(release, features)
    other = deployed.mismatch(release, tuple(f.roll(1, 0) for f in features))
    assert float(truth.sum()) <= EXPLAINED * float(other.sum()), (
        "searches that know the key take the truth for wrong: say in place what protect makes of "
        "the features"
    )
