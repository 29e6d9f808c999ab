"""What every inference must do, as functions that raise AssertionError and name the remedy.

An author of an inference runs all of them at once, with settings that take milliseconds on 8x8
images::

    check_inference(MyProbe(steps=50))
"""

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from splitbench.checks.attack_conduct import FEW
from splitbench.checks.attack_trial import without
from splitbench.checks.attack_world import CLASSES, TARGETS, toy_world
from splitbench.checks.form import explains_itself, keeps_its_keywords
from splitbench.checks.inference_trial import as_easy_as_can_be, attempt, infer, strangers
from splitbench.checks.randomness import disturbed, global_randomness
from splitbench.inference import Inference
from splitbench.threat import Access, ThreatModel, ThreatModelError

SECTIONS = ("Threat model:", "Cost:", "Deviations from the paper:", "References:")
SAME = 1e-4  # difference of scores up to which they are equal up to rounding
MUST_KNOW = 0.5  # balanced accuracy where the four classes are plain to see; chance is 0.25


def check_constructor_only_stores(inference: Inference) -> None:
    """The constructor keeps its keywords under their names and does nothing else."""
    again = keeps_its_keywords(inference)
    heavy = Tensor | nn.Module | torch.Generator
    work = [name for name, value in vars(again).items() if isinstance(value, heavy)]
    assert not work, f"the constructor makes {work}: make them in learn"


def check_docstring(inference: Inference) -> None:
    """The docstring explains every keyword and has the sections of an inference."""
    explains_itself(type(inference), SECTIONS)


def check_needs_is_exact(inference: Inference) -> None:
    """`needs` names what it asks of its surface, nothing more and nothing less."""
    used = attempt(inference, as_easy_as_can_be(inference, toy_world())).used
    hidden, unused = sorted(used - inference.needs), sorted(inference.needs - used)
    assert not hidden, f"used {hidden} without saying so: add them to needs"
    assert not unused, f"never used {unused}: remove them from needs"


def check_refuses_without_its_needs(inference: Inference) -> None:
    """Where the threat model withholds what it needs, ThreatModelError passes through."""
    for access in sorted(inference.needs):
        threat = without(access)
        if threat is None:
            continue
        try:
            attempt(inference, as_easy_as_can_be(inference, toy_world()), threat=threat)
        except ThreatModelError:
            continue
        raise AssertionError(
            f"inferred without '{access}', which it says it needs: do not catch ThreatModelError"
        )


def check_works_under_a_query_budget(inference: Inference) -> None:
    """With few queries it learns from few images, and sends no image too many."""
    if Access.QUERY not in inference.needs:
        return
    world = as_easy_as_can_be(inference, toy_world())
    world.release()
    sent_by_release = world.client.images
    try:
        attempt(inference, world, threat=ThreatModel(query_budget=FEW))
    except ThreatModelError as error:
        raise AssertionError(
            f"with {FEW} queries: {error}; learn from surface.labelled_pairs, "
            "surface.labelled_examples and surface.validation_pairs, and ask no more than "
            "surface.remaining"
        ) from error
    sent = world.client.images - 2 * sent_by_release
    assert sent <= FEW, f"sent {sent} images where {FEW} were granted"


def check_leaves_global_rng_alone(inference: Inference) -> None:
    """No global generator moves: not at the end, and not between two steps of the fitting."""
    before = global_randomness()

    def compare() -> None:
        assert global_randomness() == before, (
            "a global generator was used: draw from the generator argument; wrap the "
            "initialisation of modules in splitbench.rng.isolated, without a yield inside"
        )

    attempt(inference, as_easy_as_can_be(inference, toy_world()), on_step=compare)
    compare()


def check_same_seed_same_answer(inference: Inference) -> None:
    """Two copies with equal seeds score the same in every bit, whatever the global generators."""
    world = as_easy_as_can_be(inference, toy_world())
    first = attempt(inference, world).scores
    with disturbed():
        second = attempt(inference, world).scores
    assert torch.equal(first, second), (
        "equal seeds gave different scores: draw all randomness from the generator argument"
    )


def check_rejects_unfitted(inference: Inference) -> None:
    """Inferring before fitting raises RuntimeError."""
    try:
        infer(copy.deepcopy(inference), as_easy_as_can_be(inference, toy_world()))
    except RuntimeError:
        return
    raise AssertionError("inferred before it was fitted: leave `fitted` and `__call__` alone")


def check_scores_are_scores(inference: Inference) -> None:
    """One finite score per example and value: one, many, noisy, or of several tensors."""
    worlds = {
        "six targets": toy_world(),
        "a defense with noise": toy_world(noisy=True),
        "a release of two tensors": toy_world(forked=True),
    }
    for where, plain in worlds.items():
        world = as_easy_as_can_be(inference, plain)
        trial = attempt(inference, world)
        alone, _ = infer(trial.inference, world, release=world.release()[slice(1)])
        for scores, count in ((trial.scores, TARGETS), (alone, 1)):
            found, wanted = tuple(scores.shape), (count, CLASSES)
            assert found == wanted, f"{where}: scores {found}, wanted {wanted}"
            assert scores.is_floating_point(), f"{where}: scores are {scores.dtype}"


def check_examples_do_not_mix(inference: Inference) -> None:
    """The scores of an example depend neither on the others in the batch nor on its place."""
    world = as_easy_as_can_be(inference, toy_world())
    trial = attempt(inference, world)
    release, backwards = world.release(), torch.arange(TARGETS).flip(0)
    for index in (slice(1), slice(TARGETS // 2), backwards):
        part, _ = infer(trial.inference, world, release=release[index])
        difference = float((part - trial.scores[index]).abs().max())
        assert difference <= SAME, (
            f"scores differ by up to {difference:.3g} with the batch: look at one example at a time"
        )


def check_overlooks_what_it_does_not_expect(inference: Inference) -> None:
    """Unaware of the defense, it infers from what it expects, whatever travels beside that."""
    world, naive = toy_world(aside=True), ThreatModel(defense="hidden")
    remedy = "leave `__call__` alone, which hands over what the adversary expects of a release"
    try:
        trial = attempt(inference, world, threat=naive)
    except (ValueError, RuntimeError, IndexError, TypeError) as error:
        raise AssertionError(f"values beside the tensors: {error!r}; {remedy}") from error
    plain = replace(world.release(), side={})
    scores, _ = infer(trial.inference, world, release=plain, threat=naive)
    assert torch.equal(scores, trial.scores), (
        f"unaware of the defense, it looks at what only the defense sends: {remedy}"
    )


def check_learns_nothing_from_a_null_channel(inference: Inference) -> None:
    """Where the release is the same for every image, so are the scores."""
    world = toy_world(silent=True)
    try:
        scores = attempt(inference, world).scores
    except (ValueError, RuntimeError) as error:
        raise AssertionError(
            f"constant features: {error!r}; defenses make dead channels: bound divisions from below"
        ) from error
    spread = float((scores - scores[0]).abs().max())
    assert spread <= SAME, (
        f"scores of equal releases differ by up to {spread:.3g}: it knows the images from elsewhere"
    )


def check_knows_what_is_plain_to_see(inference: Inference) -> None:
    """Where four classes lie open in the release, it tells them apart far better than by chance."""
    world = as_easy_as_can_be(inference, toy_world())
    fitted = attempt(inference, world).inference
    release, truth = strangers(world)
    guess = infer(fitted, world, release=release)[0].argmax(1)
    recalls = [float((guess[truth == c] == c).float().mean()) for c in range(CLASSES)]
    found = sum(recalls) / CLASSES
    assert found >= MUST_KNOW, (
        f"balanced accuracy {found:.0%} where {MUST_KNOW:.0%} is easy: "
        "is it fitted, are features standardised, do these settings allow for enough steps?"
    )


def check_state_round_trip(inference: Inference) -> None:
    """A fresh copy that imports what was exported, saved and loaded scores the same."""
    world = as_easy_as_can_be(inference, toy_world())
    trial = attempt(inference, world)
    exported = trial.inference.export_state()
    state = {name: t.detach().cpu().contiguous() for name, t in exported.items()}
    heir = copy.deepcopy(inference)
    heir.import_state(load(save(state)), world.surface("fit", ThreatModel()))
    assert heir.fitted, "import_state leaves it unfitted: set self.fitted = True"
    # Not equal to the last bit: sums are rounded by how a matrix lies in memory.
    assert torch.allclose(infer(heir, world)[0], trial.scores, rtol=1e-4, atol=1e-5), (
        "scores otherwise after export_state and import_state: export all that infer uses"
    )


def check_rejects_nonfinite_features(inference: Inference) -> None:
    """NaN and infinite values raise ValueError instead of becoming a score, wherever they are."""
    world = as_easy_as_can_be(inference, toy_world())
    fitted = attempt(inference, world).inference
    for bad in (torch.nan, torch.inf):
        release = world.release()
        values = release.tensors[0].clone()
        values[-1].view(-1)[0] = bad
        odd = values[:, 0]
        for where, sent in {
            "the features": replace(release, tensors=(values,)),
            "what travels beside them": replace(release, side={**release.side, "odd": odd}),
        }.items():
            try:
                infer(fitted, world, release=sent)
            except ValueError:
                continue
            raise AssertionError(
                f"inferred from {bad} in {where}: leave `__call__` alone, which refuses it"
            )


INFERENCE_CHECKS: tuple[Callable[[Inference], None], ...] = (
    check_constructor_only_stores,
    check_docstring,
    check_needs_is_exact,
    check_refuses_without_its_needs,
    check_works_under_a_query_budget,
    check_leaves_global_rng_alone,
    check_same_seed_same_answer,
    check_rejects_unfitted,
    check_rejects_nonfinite_features,
    check_scores_are_scores,
    check_examples_do_not_mix,
    check_overlooks_what_it_does_not_expect,
    check_learns_nothing_from_a_null_channel,
    check_knows_what_is_plain_to_see,
    check_state_round_trip,
)


def check_inference(inference: Inference) -> None:
    """Run all checks on one inference and report every failure.

    Args:
        inference: Not fitted; left as it is. Its settings should be small.

    Raises:
        AssertionError: Some checks failed; the message has one line for each.
    """
    failures = []
    for check in INFERENCE_CHECKS:
        try:
            check(inference)
        except Exception as failure:  # noqa: BLE001  # one that crashes fails the check too
            failures.append(f"{check.__name__}: {failure!r}")
    assert not failures, f"{inference!r} breaks the contract\n" + "\n".join(failures)
