"""How a defense must behave as a whole: fitting, storing, serving, and doing anything at all."""

import copy

import numpy as np
import torch
from scipy import stats

from splitbench.checks.attack_trial import disturbed, global_randomness
from splitbench.checks.defense_messages import equal
from splitbench.checks.defense_world import DefenseWorld
from splitbench.checks.form import rebuilt
from splitbench.defense import Defense
from splitbench.rng import isolated, stream

FITS = 5  # where one fit does not show what the knob does


def check_off_is_identity(defense: Defense, world: DefenseWorld) -> None:
    """With the keywords in `off` the release equals the undefended one."""
    if defense.off is None:
        return
    deployed = world.fitted(rebuilt(defense, **defense.off))
    sent = deployed.release(world.targets, generator=stream(0, "message")).tensors
    assert equal(sent, world.features(world.targets)), (
        f"off = {defense.off} still changes the release: correct the defense, or set off = None"
    )


def check_has_effect(defense: Defense, world: DefenseWorld) -> None:
    """The release differs from the undefended one, unless the defense says that it is off."""
    if defense.off == {}:
        return
    deployed = world.fitted(defense)
    sent = deployed.release(world.targets, generator=stream(0, "message")).tensors
    assert not equal(sent, world.features(world.targets)), (
        f"{defense!r} releases the undefended features: with these settings it defends nothing; "
        "a defense that never does says off = {}"
    )


def check_more_is_more(defense: Defense, world: DefenseWorld) -> None:
    """Turning the knob in the direction in which it protects leaves less of the features.

    Where one fit shows it, that is enough. Where it does not, training may be at fault: whether
    the knob protects less is then decided by Student's t on the differences of several fits, which
    no knob without any effect passes, nor one that turns the other way.
    """
    if defense.knob is None:
        return
    name, direction = defense.knob
    values = turned(defense.arguments()[name], direction)
    weak, strong = (rebuilt(defense, **{name: value}) for value in values)
    more = [_explained(strong, world, 0) - _explained(weak, world, 0)]
    if more[0] < 0:
        return
    more += [_explained(strong, world, s) - _explained(weak, world, s) for s in range(1, FITS)]
    mean, error = float(np.mean(more)), float(np.std(more, ddof=1) / FITS**0.5)
    assert mean < stats.t.ppf(0.95, FITS - 1) * error, (
        f"{name}={values[1]} leaves {mean:.6f} more of the features' variance than "
        f"{name}={values[0]} (mean of {FITS} fits, standard error {error:.6f}): knob = "
        f"{defense.knob} says that it protects more"
    )


def check_state_dict_round_trip(defense: Defense, world: DefenseWorld) -> None:
    """A fresh defense that loads what a fitted one stored releases the same."""
    fitted = world.fitted(defense)
    again = rebuilt(defense)
    with isolated(stream(1, "defense", "initialisation")):
        parts = again.adapt(copy.deepcopy(world.split))
    for old, new in (
        (fitted.defense, again),
        (fitted.split.client, parts.client),
        (fitted.split.server, parts.server),
    ):
        new.load_state_dict({name: value.clone() for name, value in old.state_dict().items()})
    restored = world.deployment(again, parts)
    try:
        one, other = (
            deployment.release(world.targets, generator=stream(0, "message")).tensors
            for deployment in (fitted, restored)
        )
    except RuntimeError as error:
        raise AssertionError(
            "a defense with loaded state does not run: keep what fit learns in buffers or "
            "parameters"
        ) from error
    assert equal(one, other), (
        "a defense with loaded state releases something else: keep what fit learns in buffers or "
        "parameters, or in the modules of the split"
    )


def check_server_still_runs(defense: Defense, world: DefenseWorld) -> None:
    """The server turns what was released into finite logits."""
    deployed = world.fitted(defense)
    release = deployed.release(world.targets, generator=stream(0, "message"))
    try:
        logits = deployed.predict(release)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise AssertionError(
            "the server cannot take the release: undo in restore what protect does to shapes, or "
            "adapt the server"
        ) from error
    wanted = (len(world.targets), len(world.train.classes))
    assert tuple(logits.shape) == wanted, f"logits have shape {tuple(logits.shape)}, not {wanted}"
    assert bool(logits.isfinite().all()), "logits are not finite: bound what protect adds"


def check_changes_client_is_honest(defense: Defense, world: DefenseWorld) -> None:
    """A defense that says that it leaves the client alone does."""
    deployed = world.fitted(defense)
    if defense.changes_client:
        return
    assert equal(deployed.features(world.targets), world.features(world.targets)), (
        "the client computes something else than before: changes_client must be True, or the "
        "features of the wrong client are used when cuts share them"
    )


def check_leaves_global_rng_alone(defense: Defense, world: DefenseWorld) -> None:
    """No global generator moves."""
    before = global_randomness()
    deployed = world.deploy(defense)
    release = deployed.release(world.targets, generator=stream(0, "message"), observations=2)
    deployed.mismatch(release, deployed.features(world.targets), observations=2)
    assert global_randomness() == before, (
        "a global generator was used: draw from the generator argument, and wrap library code that "
        "takes none in splitbench.rng.isolated"
    )


def check_same_seed_same_release(defense: Defense, world: DefenseWorld) -> None:
    """Fitting and releasing with equal seeds gives equal bits, whatever the global generators."""
    one = world.deploy(defense).release(world.targets, generator=stream(0, "message")).tensors
    with disturbed():
        other = world.deploy(defense).release(world.targets, generator=stream(0, "message")).tensors
    assert equal(one, other), (
        "equal seeds gave different releases: draw all randomness from the generator arguments"
    )


def turned(value: object, direction: str) -> tuple[int | float, int | float]:
    """A weak and a strong value of a knob, one of them the present one."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise AssertionError(f"the knob is {value!r}: it must be a number")
    if direction == "up":
        return (value, 2 * value) if value > 0 else (value, 1)
    lower = value // 2 if isinstance(value, int) else value / 2
    return (value, lower) if lower > 0 else (2 * value, value)


def _explained(defense: Defense, world: DefenseWorld, seed: int) -> float:
    """Share of the undefended features' variance that the release explains linearly."""
    images = world.train.images()
    deployed = world.fitted(defense, seed=seed)
    sent = deployed.release(images, generator=stream(seed, "message")).flat().double()
    truth = torch.cat([f.flatten(1) for f in world.features(images)], dim=1).double()
    truth = truth - truth.mean(0)
    rows = torch.cat([sent, torch.ones(len(sent), 1, dtype=sent.dtype)], dim=1)
    scale = rows.square().mean(0).sqrt().clamp(min=1e-12)
    solved = torch.linalg.lstsq(rows / scale, truth, driver="gelsd").solution
    error = (rows / scale) @ solved - truth
    return 1 - float(error.square().sum() / truth.square().sum())
