"""How an attack must behave towards what it is lent: accesses, budgets, modules, randomness."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from splitbench.attack import Attack
from splitbench.checks.attack_trial import attempt, called, without
from splitbench.checks.attack_world import ToyWorld, toy_world
from splitbench.checks.randomness import disturbed, global_randomness
from splitbench.release import Release, Tensors
from splitbench.threat import Access, ThreatModel, ThreatModelError

FEW = 60  # queries: more than the six targets and the spare ones, fewer than the toy world's images


def check_needs_is_exact(attack: Attack) -> None:
    """`needs` names what the attack asks of its surface, nothing more and nothing less."""
    used = attempt(attack, toy_world()).used
    hidden = sorted(access.value for access in used - attack.needs)
    unused = sorted(access.value for access in attack.needs - used)
    assert not hidden, f"{called(attack)} used {hidden} without saying so: add them to needs"
    assert not unused, f"{called(attack)} never used {unused}: remove them from needs"


def check_refuses_without_its_needs(attack: Attack) -> None:
    """Where the threat model withholds what it needs, ThreatModelError passes through."""
    for access in sorted(attack.needs):
        threat = without(access)
        if threat is None:
            continue
        try:
            attempt(attack, toy_world(), threat=threat)
        except ThreatModelError:
            continue
        raise AssertionError(
            f"{called(attack)} guessed without '{access}', which it says it needs: do not catch "
            "ThreatModelError"
        )


def check_query_budget_is_respected(attack: Attack) -> None:
    """Every image that goes through the client is counted, and a refusal is final.

    An attack that may use the client itself (``Access.CLIENT``) need not count what it computes.
    """
    world = toy_world()
    world.release()
    sent_by_release = world.client.images
    trial = attempt(attack, world)
    sent = world.client.images - 2 * sent_by_release
    if Access.CLIENT not in attack.needs:
        assert sent == trial.sent, (
            f"{called(attack)} sent {sent} images through the client, of which {trial.sent} were "
            "counted: use surface.query or surface.examples, and leave its counter alone"
        )
    if not trial.queries:
        return
    try:
        limited = attempt(attack, toy_world(), threat=ThreatModel(query_budget=FEW))
    except ThreatModelError:
        return
    refused = sum(surface.refused for surface in limited.surfaces)
    assert not refused, (
        f"{called(attack)} went on when {refused} images were beyond the query budget: ask no "
        "more than surface.remaining, and do not catch ThreatModelError"
    )


def check_works_under_a_query_budget(attack: Attack) -> None:
    """With few queries it learns from few pairs and guesses, and sends no image too many.

    An attack that may use the client itself (``Access.CLIENT``) need not count what it computes.
    """
    if Access.QUERY not in attack.needs:
        return
    world = toy_world()
    world.release()
    sent_by_release = world.client.images
    try:
        trial = attempt(attack, world, threat=ThreatModel(query_budget=FEW))
    except ThreatModelError as error:
        raise AssertionError(
            f"{called(attack)}, with {FEW} queries: {error}; learn from surface.examples, "
            "surface.pairs and surface.validation_pairs, and ask no more than surface.remaining"
        ) from error
    sent = world.client.images - 2 * sent_by_release - trial.overheard
    if Access.CLIENT in attack.needs:
        sent = trial.queries
    assert sent <= FEW, (
        f"{called(attack)} sent {sent} images where {FEW} were granted: spend no more in recover"
    )


def check_leaves_what_it_was_lent_alone(attack: Attack) -> None:
    """Modules, images and releases are as they were: values, modes, gradients and hooks."""
    world = toy_world()
    before = _portrait(world)
    with _watched(world) as features:
        fitted = attempt(attack, world).attack
    after = _portrait(world)
    changed = sorted(name for name in before if before[name] != after[name])
    assert not changed, (
        f"changed {changed}: work on copies, take gradients with torch.autograd.grad, remove hooks"
    )
    release = world.release()
    copies = [tensor.clone() for tensor in release.tensors]
    fitted(release, world.surface("recover", ThreatModel()), generator=torch.Generator())
    lent = [*world.feed.served, *features, *zip(release.tensors, copies, strict=True)]
    assert all(torch.equal(tensor, copy) for tensor, copy in lent), (
        "changed images or features in place, which other attacks are handed too: work on copies"
    )


def check_leaves_global_rng_alone(attack: Attack) -> None:
    """No global generator moves: not at the end, and not between two steps of the fitting."""
    before = global_randomness()

    def compare() -> None:
        assert global_randomness() == before, (
            "a global generator was used: draw from the generator argument; wrap the "
            "initialisation of modules in splitbench.rng.isolated, without a yield inside"
        )

    attempt(attack, toy_world(), on_step=compare)
    compare()


def check_same_seed_same_answer(attack: Attack) -> None:
    """Two copies with equal seeds guess the same in every bit, whatever the global generators."""
    first = attempt(attack, toy_world()).guess
    with disturbed():
        second = attempt(attack, toy_world()).guess
    assert torch.equal(first, second), (
        "equal seeds gave different guesses: draw all randomness from the generator argument"
    )


def check_rejects_unfitted(attack: Attack) -> None:
    """Guessing before fitting raises RuntimeError."""
    world = toy_world()
    surface = world.surface("recover", ThreatModel())
    try:
        attack(world.release(), surface, generator=torch.Generator())
    except RuntimeError:
        return
    raise AssertionError("guessed before it was fitted: leave `fitted` and `__call__` to Attack")


def check_rejects_nonfinite_features(attack: Attack) -> None:
    """NaN and infinite features raise ValueError instead of becoming a guess."""
    world = toy_world()
    fitted = attempt(attack, world).attack
    for bad in (torch.nan, torch.inf):
        values = world.release().tensors[0].clone()
        values[-1].view(-1)[0] = bad
        try:
            fitted(
                Release((values,)),
                world.surface("recover", ThreatModel()),
                generator=torch.Generator(),
            )
        except ValueError:
            continue
        raise AssertionError(f"guessed from {bad}: leave `__call__` to Attack, which refuses it")


def _portrait(world: ToyWorld) -> dict[str, object]:
    """Everything about the lent modules that an attack could change by accident."""
    seen: dict[str, object] = {}
    for role, module in world.modules().items():
        seen |= {f"{role}.{k}": v.tolist() for k, v in module.state_dict().items()}
        for name, child in module.named_modules():
            at = f"{role}.{name}".rstrip(".")
            seen[f"{at} (train mode)"] = child.training
            seen[f"{at} (hooks)"] = [len(v) for k, v in vars(child).items() if "hooks" in k and v]
        for name, parameter in module.named_parameters():
            seen[f"{role}.{name} (requires_grad)"] = parameter.requires_grad
            seen[f"{role}.{name} (grad)"] = parameter.grad
    seen["auxiliary images"] = world.feed.train.pixels.tolist()
    return seen


@contextmanager
def _watched(world: ToyWorld) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collect the features of the auxiliary batches, with copies made at that moment."""
    lent: list[tuple[Tensor, Tensor]] = []

    def remember(module: nn.Module, given: tuple[Tensor], made: Tensors) -> None:
        del module
        if any(given[0] is images for images, _ in world.feed.served):
            lent.extend((features, features.clone()) for features in made)

    handle = world.client.register_forward_hook(remember)
    try:
        yield lent
    finally:
        handle.remove()
