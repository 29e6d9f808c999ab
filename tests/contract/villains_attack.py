"""Attacks that break one promise each."""

import contextlib
import itertools
import random
from dataclasses import replace

import torch
from citizens_attack import Average, FeatureMatching, LeastSquares

from splitbench.checks import attack_answers as answers
from splitbench.checks import attack_conduct as conduct
from splitbench.checks import attack_form as form
from splitbench.checks.attack_world import toy_world
from splitbench.progress import Progress
from splitbench.rng import isolated
from splitbench.threat import Access, ThreatModelError


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

    Args:
        steps: Batches to learn from.
        ridge: Weight of the penalty.

    Deviations from the paper: None.

    References: a paper.
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


class AsksBehindTheCounter(LeastSquares):
    def recover(self, release, surface, *, generator):
        surface._deployment.release(torch.zeros(5, *surface.image_shape), generator=generator)
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
        return (guess + truth[: len(guess)]) / 2


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
    DocumentsTooLittle: form.check_docstring,
    IgnoresAKnob: form.check_every_knob_matters,
    Overclaims: conduct.check_needs_is_exact,
    Underclaims: conduct.check_needs_is_exact,
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
