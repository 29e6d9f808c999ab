"""What the guesses of an attack must be like, and what they must and must not achieve."""

import copy
from itertools import pairwise
from math import isfinite

import torch
from safetensors.torch import load, save
from torch import Tensor

from splitbench.attack import Attack
from splitbench.checks.attack_trial import attempt, called, recover
from splitbench.checks.attack_world import TARGETS, toy_world
from splitbench.threat import Access

SAME = 1e-3  # pixel difference below which guesses are equal up to rounding
MUST_EXPLAIN = 0.2  # share of the variance that an attack finds where all of it is to be had
LEARNS_FROM_PAIRS = frozenset({Access.AUXILIARY, Access.QUERY})
LUCK = 0.1  # share of the variance of six targets that a guess may explain by chance


def check_guesses_are_images(attack: Attack) -> None:
    """One finite float32 image in [0, 1] per example: one, many, noisy, or of several tensors."""
    worlds = {
        "six targets": (toy_world(), slice(None)),
        "a single target": (toy_world(), slice(1)),
        "a defense with noise": (toy_world(noisy=True), slice(None)),
        "a release of two tensors": (toy_world(forked=True), slice(None)),
    }
    for where, (world, index) in worlds.items():
        wanted = tuple(world.targets[index].shape)
        try:
            guess = recover(attempt(attack, world).attack, world, index=index)[0]
        except (ValueError, RuntimeError, IndexError, TypeError) as error:
            raise AssertionError(
                f"{where}: {error!r}; return images (b, c, h, w), whatever b and the shapes of the "
                "released tensors are"
            ) from error
        assert tuple(guess.shape) == wanted, f"{where}: guessed shape {tuple(guess.shape)}"
        assert guess.dtype == torch.float32, f"{where}: guessed {guess.dtype}, wanted float32"
        fine = bool((guess.isfinite() & (guess >= 0) & (guess <= 1)).all())
        assert fine, f"{where}: pixels outside [0, 1]: leave `__call__` to Attack, which clamps"


def check_subset_invariance(attack: Attack) -> None:
    """The guess for an example does not depend on which others are in the batch."""
    if not attack.per_example:
        return
    world = toy_world()
    fitted = attempt(attack, world).attack
    whole = recover(fitted, world)[0]
    for size in (1, TARGETS // 2):
        _same(
            recover(fitted, world, index=slice(size))[0],
            whole[:size],
            f"the first {size} targets alone are guessed otherwise than among {TARGETS}: take no "
            "mean over the batch, sum losses over examples; or set per_example = False",
        )


def check_order_equivariance(attack: Attack) -> None:
    """Reordering the batch reorders the guesses."""
    if not attack.per_example:
        return
    world = toy_world()
    fitted = attempt(attack, world).attack
    backwards = torch.arange(TARGETS).flip(0)
    _same(
        recover(fitted, world, index=backwards)[0],
        recover(fitted, world)[0][backwards],
        "the guess depends on the place in the batch: start every example from the same noise; or "
        "set per_example = False",
    )


def check_beats_blind_guess_where_inversion_is_easy(attack: Attack) -> None:
    """Against an orthogonal client without a defense, the guess is far better than blind."""
    if attack.floor:
        return
    world = toy_world()
    leak = world.leak(attempt(attack, world).guess)
    assert leak >= MUST_EXPLAIN, (
        f"explains {leak:.0%} of the variance where everything can be recovered, wanted "
        f"{MUST_EXPLAIN:.0%}: is it fitted, are features normalised, do these settings allow for "
        "enough steps? A guess that ignores the release sets floor = True"
    )


def check_reads_what_is_beside_the_tensors(attack: Attack) -> None:
    """Masks, scales and indices are in the message too, and whoever learns from pairs uses them.

    Attacks that need more than pairs of images and releases are not asked: a search follows what
    the codec says of the live tensors, a stand-in for the client follows the server, and neither
    takes anything else. Floors do not look at all.
    """
    if attack.floor or attack.needs != LEARNS_FROM_PAIRS:
        return
    plain, aside = toy_world(), toy_world(aside=True)
    wanted = min(MUST_EXPLAIN, plain.leak(attempt(attack, plain).guess) / 2)
    leak = aside.leak(attempt(attack, aside).guess)
    assert leak >= wanted, (
        f"explains {leak:.0%} of the variance where what travels beside the live tensors tells "
        f"all, wanted {wanted:.0%}: read release.visible or release.flat(), whose shapes are "
        "surface.visible_specs"
    )


def check_floor_does_not_beat_blind_guess(attack: Attack) -> None:
    """A floor learns nothing from features, where the server's answer says nothing either."""
    if not attack.floor:
        return
    world = toy_world(mute=True)
    leak = world.leak(attempt(attack, world).guess)
    assert leak <= LUCK, (
        f"explains {leak:.0%} of the variance beyond the mean image although it calls itself a "
        "floor: do not look at the features, or set floor = False"
    )


def check_gains_nothing_from_constant_features(attack: Attack) -> None:
    """Where every image has the same features, it still guesses, and no better than blind."""
    world = toy_world(silent=True)
    try:
        leak = world.leak(attempt(attack, world).guess)
    except (ValueError, RuntimeError) as error:
        raise AssertionError(
            f"constant features: {error!r}; defenses make dead channels: bound divisions from below"
        ) from error
    assert leak <= LUCK, (
        f"{called(attack)} explains {leak:.0%} of the variance from features that say nothing: it "
        "knows the targets from elsewhere"
    )


def check_fitting_yields_progress(attack: Attack) -> None:
    """Steps count 1, 2, ... up to at most `steps`, which stays the same; losses are finite."""
    seen = attempt(attack, toy_world()).progress
    counts = [(p.step, p.steps) for p in seen]
    rises = all(later > earlier for (earlier, _), (later, _) in pairwise(counts))
    bounded = all(1 <= step <= steps == counts[0][1] for step, steps in counts)
    assert rises, f"steps went {counts[:9]}: yield Progress(step, steps, loss), counting from 1"
    assert bounded, f"steps went {counts[:9]}: count from 1 to `steps`, an upper bound said at once"
    assert all(isfinite(p.loss) for p in seen), "yielded a loss that is not finite"


def check_state_round_trip(attack: Attack) -> None:
    """A fresh copy that imports what was exported, saved and loaded guesses the same."""
    world = toy_world()
    trial = attempt(attack, world)
    state = {name: t.detach().cpu().contiguous() for name, t in trial.attack.export_state().items()}
    heir = copy.deepcopy(attack)
    if heir.parts():
        heir = heir.with_parts(trial.attack.parts())
    heir.import_state(load(save(state)), world.surface("fit", trial.surfaces[0].threat))
    assert heir.fitted, "import_state leaves it unfitted: set self.fitted = True"
    # Not equal to the last bit: sums are rounded by how a matrix lies in memory.
    assert torch.allclose(recover(heir, world)[0], trial.guess, atol=1e-4), (
        "guesses otherwise after export_state and import_state: export all that recover uses"
    )


def check_diagnostics_are_numbers(attack: Attack) -> None:
    """What it says about its guesses is finite, changes nothing, and asks for no more access."""
    world = toy_world()
    trial = attempt(attack, world)
    surface = world.surface("diagnose", trial.surfaces[1].threat)
    kept = trial.guess.clone()
    found = trial.attack.diagnostics(trial.guess, world.release(), surface)
    odd = [k for k, v in found.items() if not (isinstance(v, float) and isfinite(v))]
    assert not odd, f"diagnostics {odd} are no finite floats: a record cannot hold them"
    assert torch.equal(trial.guess, kept), "diagnostics changed the guess: work on a copy"
    hidden = sorted(surface.used - attack.needs)
    assert not hidden, f"diagnostics used {hidden}, which needs does not name"


def _same(guess: Tensor, wanted: Tensor, remedy: str) -> None:
    difference = float((guess - wanted).abs().max())
    assert difference <= SAME, f"pixels differ by up to {difference:.3g}: {remedy}"
