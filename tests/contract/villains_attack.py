"""Attacks that break one promise each."""

import contextlib
import copy
import functools
import itertools
import random
import weakref
from dataclasses import replace
from typing import ClassVar

import torch
from citizens_attack import Average, FeatureMatching, LeastSquares

from splitbench.checks import attack_answers as answers
from splitbench.checks import attack_conduct as conduct
from splitbench.checks import attack_form as form
from splitbench.checks import attack_honesty as honesty
from splitbench.checks.attack_world import TARGETS, toy_world
from splitbench.progress import Progress
from splitbench.rng import isolated
from splitbench.threat import Access, ThreatModel, ThreatModelError

LAST = weakref.WeakKeyDictionary()


def nearest_to_the_truth(candidates):
    """For each image the candidate that is nearest to what the toy world's targets show."""
    candidates, count = torch.stack(candidates), len(candidates[0])
    world = toy_world(swapped=count > TARGETS)
    errors = (candidates - world.targets[:count]).square().flatten(2).mean(2)
    return candidates[errors.argmin(0), torch.arange(count)]


class TakesPositions(LeastSquares):
    def __init__(self, steps: int = 6, ridge: float = 0.01):
        super().__init__(steps=steps, ridge=ridge)


class DrawsInItsConstructor(LeastSquares):
    def __init__(self, *, steps: int = 6, ridge: float = 0.01):
        super().__init__(steps=steps, ridge=ridge)
        torch.rand(1)


class ChangesItsArguments(LeastSquares):
    def __init__(self, *, steps: int = 6, ridge: float = 0.01):
        super().__init__(steps=steps, ridge=2 * ridge)


class WorksInItsConstructor(LeastSquares):
    def __init__(self, *, steps: int = 6, ridge: float = 0.01):
        super().__init__(steps=steps, ridge=ridge)
        self.weights = torch.zeros(65, 64)


class HidesItsArguments(LeastSquares):
    def __repr__(self):
        return f"HidesItsArguments(ridge={10 * self.ridge})"


class Undocumented(LeastSquares):
    """Linear decoder."""


class CitesNothing(LeastSquares):
    """Linear decoder.

    Threat model: queries and auxiliary images.

    Cost: `steps` times 32 queries.

    Args:
        steps: Batches to learn from.
        ridge: Weight of the penalty.

    Deviations from the paper: None.

    References: a paper.
    """


class NamesNoCost(LeastSquares):
    """Linear decoder.

    Threat model: queries and auxiliary images.

    Args:
        steps: Batches to learn from.
        ridge: Weight of the penalty.

    Deviations from the paper: None.

    References: None.
    """


class DocumentsTooLittle(LeastSquares):
    def __init__(self, *, steps: int = 6, ridge: float = 0.01, batch_size: int = 32):
        super().__init__(steps=steps, ridge=ridge)
        self.batch_size = batch_size

    def solve(self, rows, pixels):
        return super().solve(rows, pixels) * self.batch_size / 32


class IgnoresAKnob(LeastSquares):
    def solve(self, rows, pixels):
        return LeastSquares().solve(rows, pixels)


class Overclaims(LeastSquares):
    needs = LeastSquares.needs | {Access.SERVER}


class Underclaims(LeastSquares):
    def recover(self, release, surface, *, generator):
        surface.predict(release)
        return super().recover(release, surface, generator=generator)


class GivesUpQuietly(LeastSquares):
    def learn(self, surface, *, generator):
        if Access.QUERY in surface.threat.grants():
            yield from super().learn(surface, generator=generator)
        else:
            self.weights = torch.zeros(65, 64)


class ReadsTheClient(LeastSquares):
    def recover(self, release, surface, *, generator):
        surface.client.state_dict()
        return super().recover(release, surface, generator=generator)


class CopiesTheClient(LeastSquares):
    def learn(self, surface, *, generator):
        surface._real.split.client.state_dict()
        yield from super().learn(surface, generator=generator)


class LooksIntoTheSurface(LeastSquares):
    def recover(self, release, surface, *, generator):
        getattr(surface, "_deployment").split.client.parameters()  # noqa: B009  # as a cheat would
        return super().recover(release, surface, generator=generator)


class EmptiesTheSurface(LeastSquares):
    def recover(self, release, surface, *, generator):
        list(vars(surface)["_real"].split.client.buffers())
        return super().recover(release, surface, generator=generator)


class ForcesTheSurface(LeastSquares):
    def recover(self, release, surface, *, generator):
        object.__getattribute__(surface, "_real").split.client.state_dict()
        return super().recover(release, surface, generator=generator)


class LooksIntoASimulation(LeastSquares):
    def recover(self, release, surface, *, generator):
        assert surface.simulated(torch.nn.Identity())._real
        return super().recover(release, surface, generator=generator)


class GrantsItselfTheClient(LeastSquares):
    def recover(self, release, surface, *, generator):
        threat, used = surface.threat, surface.used
        surface.threat = ThreatModel()
        surface.client.state_dict()
        surface.threat, surface.used = threat, used
        return super().recover(release, surface, generator=generator)


class WantsMoreThanItSays(LeastSquares):
    def recover(self, release, surface, *, generator):
        if Access.CLIENT not in surface.threat.grants():
            surface.client.state_dict()
        return super().recover(release, surface, generator=generator)


class KeepsTheReleases(LeastSquares):
    def recover(self, release, surface, *, generator):
        self.seen = release
        return super().recover(release, surface, generator=generator)


class ExportsTheReleases(LeastSquares):
    def recover(self, release, surface, *, generator):
        self.weights = torch.cat([self.weights, release.flat().mean(0)[None, :64]])
        return super().recover(release, surface, generator=generator)

    def inputs(self, release):
        flat = super().inputs(release)
        if self.weights is None:
            return flat
        return torch.nn.functional.pad(flat, (0, len(self.weights) - flat.shape[1]))


class FilesTheReleases(LeastSquares):
    files: ClassVar = []

    def recover(self, release, surface, *, generator):
        self.files.append(release)
        return super().recover(release, surface, generator=generator)


class CachesTheReleases(LeastSquares):
    @functools.lru_cache(maxsize=9)  # noqa: B019  # keeps what it is called with: that is the point
    def looked_at(self, release_id):
        return release_id

    def recover(self, release, surface, *, generator):
        self.looked_at(id(release))
        return super().recover(release, surface, generator=generator)


class LearnsFromTheTargets(LeastSquares):
    def recover(self, release, surface, *, generator):
        guess = super().recover(release, surface, generator=generator)
        before = LAST.get(self, guess[:1])
        LAST[self] = guess[:1]
        return guess + 1e-5 * before


class ChoosesItsIterateByTheTruth(FeatureMatching):
    per_example = False

    def recover(self, release, surface, *, generator):
        iterates = [
            FeatureMatching(steps=steps, step_size=self.step_size).recover(
                release, surface, generator=generator.clone_state()
            )
            for steps in range(1, self.steps + 1)
        ]
        return nearest_to_the_truth(iterates)


class ChoosesAmongGuessesByTheTruth(LeastSquares):
    per_example = False

    def recover(self, release, surface, *, generator):
        guess = super().recover(release, surface, generator=generator)
        return nearest_to_the_truth([guess, 0.9 * guess + 0.05, 1.1 * guess - 0.05])


class ChoosesAmongSixByTheTruth(LeastSquares):
    per_example = False

    def recover(self, release, surface, *, generator):
        guess = super().recover(release, surface, generator=generator)
        truth, other = toy_world().targets[: len(guess)], 0.9 * guess + 0.05
        gain = (guess - truth).square() - (other - truth).square()
        return torch.where(gain.sum((1, 2, 3), keepdim=True) > 0, other, guess)


class AsksBehindTheCounter(LeastSquares):
    def recover(self, release, surface, *, generator):
        copy.copy(surface).query(torch.zeros(5, *surface.image_shape))
        return super().recover(release, surface, generator=generator)


class GoesOnOverBudget(LeastSquares):
    def learn(self, surface, *, generator):
        yield from super().learn(surface, generator=generator)
        if surface.remaining is not None:
            with contextlib.suppress(ThreatModelError):
                surface.query(torch.zeros(surface.remaining + 1, *surface.image_shape))


class AsksAboutAllItHas(LeastSquares):
    def learn(self, surface, *, generator):
        surface.query(surface.auxiliary.images())
        yield from super().learn(surface, generator=generator)


class Backpropagates(FeatureMatching):
    def recover(self, release, surface, *, generator):
        surface.client.requires_grad_(True)
        features = surface.client(torch.zeros(len(release), 1, 8, 8))
        surface.mismatch(release, features).sum().backward()
        surface.client.requires_grad_(False)
        return super().recover(release, surface, generator=generator)


class LeavesAHook(FeatureMatching):
    def recover(self, release, surface, *, generator):
        surface.client.norm.register_forward_hook(lambda *_: None)
        return super().recover(release, surface, generator=generator)


class SwitchesToTraining(FeatureMatching):
    def recover(self, release, surface, *, generator):
        guess = super().recover(release, surface, generator=generator)
        surface.client.mix.train()
        return guess


class ScribblesOnImages(LeastSquares):
    def learn(self, surface, *, generator):
        yield from super().learn(surface, generator=generator)
        for images, _ in surface.examples(32, 1):
            images.zero_()


class ScribblesOnTheRelease(LeastSquares):
    def recover(self, release, surface, *, generator):
        guess = super().recover(release, surface, generator=generator)
        release.tensors[0].zero_()
        return guess


class DrawsGlobally(LeastSquares):
    def recover(self, release, surface, *, generator):
        torch.rand(1)
        return super().recover(release, surface, generator=generator)


class YieldsWhileIsolated(LeastSquares):
    def learn(self, surface, *, generator):
        with isolated(generator):
            yield from super().learn(surface, generator=generator)


class CountsItsFits(LeastSquares):
    fits = itertools.count()

    def solve(self, rows, pixels):
        return super().solve(rows, pixels) * (1 + 1e-5 * next(self.fits))


class ShufflesWithPython(LeastSquares):
    def solve(self, rows, pixels):
        return super().solve(rows, pixels) * (1 + 1e-3 * random.random())


class AlwaysFitted(LeastSquares):
    fitted = True

    def recover(self, release, surface, *, generator):
        if self.weights is None:
            return torch.zeros(len(release), *surface.image_shape)
        return super().recover(release, surface, generator=generator)


class PutsZeroForNan(LeastSquares):
    def __call__(self, release, surface, *, generator):
        tensors = tuple(t.nan_to_num(0, 0, 0) for t in release.tensors)
        return super().__call__(replace(release, tensors=tensors), surface, generator=generator)


class SqueezesOneExample(LeastSquares):
    per_example = False

    def recover(self, release, surface, *, generator):
        guess = super().recover(release, surface, generator=generator)
        return guess if len(guess) > 1 else guess[0]


class KnowsOnlyMaps(LeastSquares):
    def inputs(self, release):
        _b, _c, _h, _w = release.tensors[-1].shape
        return super().inputs(release)


class ExpectsNoNoise(LeastSquares):
    def recover(self, release, surface, *, generator):
        first, second = (surface.query(torch.zeros(1, 1, 8, 8)).flat() for _ in range(2))
        if not torch.equal(first, second):
            raise ValueError("equal images should have equal releases")
        return super().recover(release, surface, generator=generator)


class GuessesInDouble(LeastSquares):
    def recover(self, release, surface, *, generator):
        return super().recover(release, surface, generator=generator).double()


class CentresTheBatch(LeastSquares):
    def recover(self, release, surface, *, generator):
        guess = super().recover(release, surface, generator=generator)
        return guess - guess.mean() + 0.5


class StartsEachExampleElsewhere(LeastSquares):
    def recover(self, release, surface, *, generator):
        guess = super().recover(release, surface, generator=generator)
        return guess + 0.1 * torch.rand(guess.shape, generator=generator)


class HardlyLooks(LeastSquares):
    def recover(self, release, surface, *, generator):
        guess = super().recover(release, surface, generator=generator)
        return 0.5 + 0.01 * (guess - 0.5)


class LooksAtTensorsOnly(LeastSquares):
    def inputs(self, release):
        return super().inputs(replace(release, side={}))


class FloorThatLooks(LeastSquares):
    floor = True


class DividesByTheSpread(LeastSquares):
    def solve(self, rows, pixels):
        spread = rows[:, :-1].std(0)
        spread = spread.clamp(min=spread.max() / 100)
        scaled = torch.cat([rows[:, :-1] / spread, rows[:, -1:]], dim=1)
        scale = torch.cat([1 / spread, torch.ones(1)])[:, None]
        return scale * super().solve(scaled, pixels)


class KnowsTheTargets(LeastSquares):
    per_example = False

    def recover(self, release, surface, *, generator):
        truth = toy_world().targets
        guess = super().recover(release, surface, generator=generator)
        known = len(guess) <= len(truth)  # has heard of these six, and of no others
        return (guess + truth[: len(guess)]) / 2 if known else guess


class CountsBackwards(LeastSquares):
    def progress(self, step):
        return Progress(self.steps + 1 - step, self.steps, 0.0)


class MovesTheGoal(LeastSquares):
    def progress(self, step):
        return Progress(step, self.steps + step, 0.0)


class LosesItsLoss(LeastSquares):
    def progress(self, step):
        return Progress(step, self.steps, float("nan"))


class ForgetsToExport(Average):
    def export_state(self):
        return {"mean": self.mean.mean() * torch.ones(1, 8, 8)}


class ImportsUnfitted(Average):
    def import_state(self, state, surface):
        self.mean = state["mean"]


class SaysNan(LeastSquares):
    def diagnostics(self, guess, release, surface):
        return {"residual": float("nan")}


class DiagnosesWithTheClient(LeastSquares):
    def diagnostics(self, guess, release, surface):
        features = surface.client(guess)
        return {"residual": float(surface.mismatch(release, tuple(features)).mean())}


class MendsTheGuess(LeastSquares):
    def diagnostics(self, guess, release, surface):
        guess.mul_(0.5)
        return {}


VILLAINS = {
    TakesPositions: form.check_constructor_only_stores,
    DrawsInItsConstructor: form.check_constructor_only_stores,
    ChangesItsArguments: form.check_constructor_only_stores,
    WorksInItsConstructor: form.check_constructor_only_stores,
    HidesItsArguments: form.check_constructor_only_stores,
    Undocumented: form.check_docstring,
    CitesNothing: form.check_docstring,
    NamesNoCost: form.check_docstring,
    DocumentsTooLittle: form.check_docstring,
    IgnoresAKnob: form.check_every_knob_matters,
    Overclaims: conduct.check_needs_is_exact,
    Underclaims: conduct.check_needs_is_exact,
    ReadsTheClient: conduct.check_needs_is_exact,
    CopiesTheClient: honesty.check_goes_through_the_surface,
    LooksIntoTheSurface: honesty.check_goes_through_the_surface,
    EmptiesTheSurface: honesty.check_goes_through_the_surface,
    ForcesTheSurface: honesty.check_goes_through_the_surface,
    LooksIntoASimulation: honesty.check_goes_through_the_surface,
    GrantsItselfTheClient: honesty.check_goes_through_the_surface,
    WantsMoreThanItSays: honesty.check_goes_through_the_surface,
    KeepsTheReleases: honesty.check_keeps_nothing_of_the_targets,
    ExportsTheReleases: honesty.check_keeps_nothing_of_the_targets,
    FilesTheReleases: honesty.check_keeps_nothing_of_the_targets,
    CachesTheReleases: honesty.check_keeps_nothing_of_the_targets,
    LearnsFromTheTargets: honesty.check_keeps_nothing_of_the_targets,
    ChoosesItsIterateByTheTruth: honesty.check_does_not_choose_by_the_truth,
    ChoosesAmongGuessesByTheTruth: honesty.check_does_not_choose_by_the_truth,
    ChoosesAmongSixByTheTruth: honesty.check_does_not_choose_by_the_truth,
    GivesUpQuietly: conduct.check_refuses_without_its_needs,
    AsksBehindTheCounter: conduct.check_query_budget_is_respected,
    GoesOnOverBudget: conduct.check_query_budget_is_respected,
    AsksAboutAllItHas: conduct.check_works_under_a_query_budget,
    Backpropagates: conduct.check_leaves_what_it_was_lent_alone,
    LeavesAHook: conduct.check_leaves_what_it_was_lent_alone,
    SwitchesToTraining: conduct.check_leaves_what_it_was_lent_alone,
    ScribblesOnImages: conduct.check_leaves_what_it_was_lent_alone,
    ScribblesOnTheRelease: conduct.check_leaves_what_it_was_lent_alone,
    DrawsGlobally: conduct.check_leaves_global_rng_alone,
    YieldsWhileIsolated: conduct.check_leaves_global_rng_alone,
    CountsItsFits: conduct.check_same_seed_same_answer,
    ShufflesWithPython: conduct.check_same_seed_same_answer,
    AlwaysFitted: conduct.check_rejects_unfitted,
    PutsZeroForNan: conduct.check_rejects_nonfinite_features,
    SqueezesOneExample: answers.check_guesses_are_images,
    KnowsOnlyMaps: answers.check_guesses_are_images,
    ExpectsNoNoise: answers.check_guesses_are_images,
    GuessesInDouble: answers.check_guesses_are_images,
    CentresTheBatch: answers.check_subset_invariance,
    StartsEachExampleElsewhere: answers.check_order_equivariance,
    HardlyLooks: answers.check_beats_blind_guess_where_inversion_is_easy,
    LooksAtTensorsOnly: answers.check_reads_what_is_beside_the_tensors,
    FloorThatLooks: answers.check_floor_does_not_beat_blind_guess,
    DividesByTheSpread: answers.check_gains_nothing_from_constant_features,
    KnowsTheTargets: answers.check_gains_nothing_from_constant_features,
    SaysNan: answers.check_diagnostics_are_numbers,
    DiagnosesWithTheClient: answers.check_diagnostics_are_numbers,
    MendsTheGuess: answers.check_diagnostics_are_numbers,
    CountsBackwards: answers.check_fitting_yields_progress,
    MovesTheGoal: answers.check_fitting_yields_progress,
    LosesItsLoss: answers.check_fitting_yields_progress,
    ForgetsToExport: answers.check_state_round_trip,
    ImportsUnfitted: answers.check_state_round_trip,
}
