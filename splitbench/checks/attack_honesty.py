"""How an attack could cheat: go around its surface, keep what it attacked, look at the truth."""

import copy
from dataclasses import replace

import torch
from torch import Tensor

from splitbench.attack import Attack
from splitbench.checks.attack_trial import attempt, called, fitted_on, recover, weakest
from splitbench.checks.attack_world import TARGETS, toy_world
from splitbench.checks.portrait import differences, portrait
from splitbench.checks.sealed_client import SealedClient
from splitbench.checks.sealed_surface import Sealed
from splitbench.threat import Access, ThreatModelError

CHANCE = 4.0  # standard deviations; an honest attack is further out once in 30,000 times


def check_goes_through_the_surface(attack: Attack) -> None:
    """Granted no more than it says it needs, it works, and does not reach behind the surface.

    What is private there holds the client, the true key, and data that it may not have. Whoever is
    not granted the client does not get hold of it elsewhere either.
    """
    world = replace(toy_world(), opens=Sealed)
    client = SealedClient.sealing(world.client)
    try:
        trial = attempt(attack, world, threat=weakest(attack.needs))
    except ThreatModelError as error:
        if attempt(attack, toy_world()).used - attack.needs:
            return  # `check_needs_is_exact` says so
        raise AssertionError(
            f"{called(attack)} does not work where all that it says it needs is granted: {error}"
        ) from error
    touched = {t for s in trial.surfaces if isinstance(s, Sealed) for t in s.touched}
    if Access.CLIENT not in attack.needs:
        touched |= set(client.touched)
    assert not touched, (
        f"{called(attack)} went around its surface ({', '.join(sorted(touched))}): "
        "take only what the public methods grant, and write nothing"
    )


def check_keeps_nothing_of_the_targets(attack: Attack) -> None:
    """After it has guessed, it is what fitting left, and guesses the next targets as if first."""
    world = toy_world()
    veteran = fitted_on(attack, world)
    fresh, before = copy.deepcopy(veteran), _state(veteran)
    guess, surface = recover(veteran, world)
    veteran.diagnostics(guess, world.release(), surface)
    kept = differences(before, _state(veteran))
    assert not kept, (
        f"{called(attack)} keeps state of its targets in {', '.join(kept[:3])}: all that recover "
        "and diagnostics find out must end with them"
    )
    following = toy_world(swapped=True)
    first, second = (recover(one, following, index=slice(TARGETS))[0] for one in (fresh, veteran))
    assert torch.equal(first, second), (
        f"{called(attack)} guesses otherwise once it has seen other targets: it keeps state of "
        "them out of sight"
    )


def check_does_not_choose_by_the_truth(attack: Attack) -> None:
    """Guesses made from the releases of other images fit the targets no better than by chance.

    These releases look as ever, so that guesses and iterates are as varied as ever; whoever
    guesses, stops or chooses image by image with an eye on the targets is found out.
    """
    world = toy_world(swapped=True)
    try:
        guess = attempt(attack, world).guess
    except (ValueError, RuntimeError, IndexError, TypeError) as error:
        raise AssertionError(
            f"{called(attack)} does not get on with {len(world.targets)} targets: {error!r}"
        ) from error
    beyond = beyond_chance(guess, world.targets, world.senders)
    assert beyond <= CHANCE, (
        f"{called(attack)} chooses by the truth: its guesses from the releases of other images fit "
        f"the targets {beyond:.1f} standard deviations better than by chance"
    )


def beyond_chance(guess: Tensor, truth: Tensor, sender: Tensor) -> float:
    """How much better guesses fit their own truths than each other's, in standard deviations.

    What a guess owes to the image that it was made from is subtracted first, by least squares:
    it says nothing about the truth, and hides how little a choice among iterates moves. Over all
    ways of pairing up the rest with truths, the sum of the centred inner products of the pairs has
    mean 0 and a variance that is known exactly, and is close to normal. This holds for any guesses
    that are independent of the truths, however they were made.

    Args:
        guess: ``(n, ...)``, n >= 2.
        truth: Of the same shape; its rows are drawn independently of each other.
        sender: Of the same shape, independent of the truth.

    References:
        Hoeffding. "A combinatorial central limit theorem". Annals of Mathematical Statistics
        1951. doi:10.1214/aoms/1177729545
    """
    rows, columns, known = (_centred(one) for one in (guess, truth, sender))
    rest = rows - known * (rows * known).sum() / known.square().sum()
    products = rest @ columns.T
    spread = products.square().sum().div(len(products) - 1).sqrt()
    return float(products.trace() / spread) if spread > 0 else 0.0


def _centred(images: Tensor) -> Tensor:
    flat = images.flatten(1).double()
    return flat - flat.mean(0)


def _state(attack: Attack) -> dict[str, object]:
    """All that an attack holds, what its classes hold, and what it would export."""
    cls = type(attack)
    state = portrait(attack, called(attack))
    for kind in cls.__mro__[: cls.__mro__.index(Attack)]:
        for name, value in vars(kind).items():
            if not name.startswith(("__", "_abc_")):
                state |= portrait(value, f"{kind.__name__}.{name}")
    return state | portrait(dict(attack.export_state()), "export_state()")
