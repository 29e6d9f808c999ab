"""What a defense must do that answers images on the device; one without exits passes."""

from splitbench.checks.defense_world import DefenseWorld
from splitbench.defense import Defense
from splitbench.rng import stream


def check_who_stays_sends_nothing(defense: Defense, world: DefenseWorld) -> None:
    """What the device answers by itself leaves no trace in the release but its absence."""
    deployed = world.fitted(defense)
    if not defense.exits:
        assert deployed.defense.answered(deployed.features(world.targets)) is None, (
            "images are answered on the device and their features are sent all the same: set "
            "exits = True, or answer nothing"
        )
        return
    told = deployed.seen(world.targets)[1]
    assert told is not None, "exits = True, and answered returns None: decide who stays"
    count, classes = len(world.targets), len(world.train.classes)
    shapes = (tuple(told.stays.shape), tuple(told.logits.shape))
    wanted = ((count,), (count, classes))
    assert shapes == wanted, f"stays and logits have shapes {shapes}, not {wanted}"
    assert bool(told.logits.isfinite().all()), "the device's answers are not finite"
    release = deployed.transmit(world.targets, generator=stream(0, "message"))
    silent = release[told.stays]
    traces = [bool(values.any()) for values in silent.visible]
    assert not any(traces), "something of an image arrives that was answered on the device"
    assert silent.payload_bytes is not None
    assert not bool(silent.payload_bytes.any()), "a message was made of an image that stays"
