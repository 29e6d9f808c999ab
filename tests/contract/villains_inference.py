"""A good inference, and some that break one promise each."""

import random
from dataclasses import replace

import torch
from torch.nn import functional

from splitbench.checks import inference as checks
from splitbench.inference import Inference
from splitbench.progress import Progress
from splitbench.threat import Access


class LeastSquaresProbe(Inference):
    """Least squares from the release to one column per value.

    Threat model: queries and auxiliary images.

    Cost: A query of each auxiliary image.

    Args:
        ridge: Weight of the penalty.

    Deviations from the paper: None.

    References: None.
    """

    needs = frozenset({Access.AUXILIARY, Access.QUERY})

    def __init__(self, *, ridge: float = 10.0):
        self.ridge = ridge

    def learn(self, surface, known, *, generator):
        found = [(v, r.flat()) for v, r in surface.labelled_pairs(known.train)]
        rows = torch.cat([r for _, r in found])
        wanted = functional.one_hot(torch.cat([v for v, _ in found]), known.values).float()
        self.mean, self.scale = rows.mean(0), self.scale_of(rows)
        rows = self.lines(rows)
        gram = rows.T @ rows + self.ridge * torch.eye(rows.shape[1])
        self.weights = torch.linalg.solve(gram, rows.T @ wanted)
        yield Progress(1, 1, 0.0)

    def scale_of(self, rows):
        return 1 / rows.std(0).clamp(min=1e-3)

    def lines(self, rows):
        return functional.pad((rows - self.mean) * self.scale, (0, 1), value=1.0)

    def export_state(self):
        return {"weights": self.weights, "mean": self.mean, "scale": self.scale}

    def import_state(self, state, surface):
        super().import_state(state, surface)
        self.weights, self.mean, self.scale = state["weights"], state["mean"], state["scale"]

    def infer(self, release, surface):
        return self.lines(release.flat()) @ self.weights


class TakesPositions(LeastSquaresProbe):
    def __init__(self, ridge: float = 10.0):
        super().__init__(ridge=ridge)


class Undocumented(LeastSquaresProbe):
    """Linear probe."""


class Overclaims(LeastSquaresProbe):
    needs = LeastSquaresProbe.needs | {Access.SERVER}


class Underclaims(LeastSquaresProbe):
    def infer(self, release, surface):
        surface.predict(release)
        return super().infer(release, surface)


class GivesUpQuietly(LeastSquaresProbe):
    def learn(self, surface, known, *, generator):
        if Access.QUERY in surface.threat.grants():
            yield from super().learn(surface, known, generator=generator)
        else:
            self.weights, self.mean, self.scale = torch.zeros(65, 4), torch.zeros(64), 1.0


class AsksAboutAllItHas(LeastSquaresProbe):
    def learn(self, surface, known, *, generator):
        surface.query(surface.auxiliary.images())
        yield from super().learn(surface, known, generator=generator)


class DrawsGlobally(LeastSquaresProbe):
    def learn(self, surface, known, *, generator):
        torch.rand(1)
        yield from super().learn(surface, known, generator=generator)


class DrawsFromElsewhere(LeastSquaresProbe):
    def learn(self, surface, known, *, generator):
        yield from super().learn(surface, known, generator=generator)
        self.weights = self.weights + 1e-6 * random.random()


class AnswersUnfitted(LeastSquaresProbe):
    fitted = True
    weights, mean, scale = torch.zeros(65, 4), torch.zeros(64), torch.ones(64)


class SwallowsInfinity(LeastSquaresProbe):
    def __call__(self, release, surface):
        tensors = tuple(values.nan_to_num(0, 0, 0) for values in release.tensors)
        return super().__call__(replace(release, tensors=tensors), surface)


class SwallowsInfinityBeside(LeastSquaresProbe):
    def __call__(self, release, surface):
        side = {name: values.nan_to_num(0, 0, 0) for name, values in release.side.items()}
        return super().__call__(replace(release, side=side), surface)


class LooksAtAllThatArrives(LeastSquaresProbe):
    def __call__(self, release, surface):
        super().__call__(release, surface)  # refuses what is not finite
        return self.infer(release, surface)


class LooksBesideTheTensors(LooksAtAllThatArrives):
    def infer(self, release, surface):
        scores = super().infer(replace(release, side={}), surface)
        beside = sum((values.flatten(1).sum(1) for values in release.side.values()), start=0.0)
        return scores + 0.01 * torch.tanh(torch.as_tensor(beside)).view(-1, 1)


class AddsAColumn(LeastSquaresProbe):
    def infer(self, release, surface):
        return functional.pad(super().infer(release, surface), (0, 1), value=-10.0)


class LooksAtTheBatch(LeastSquaresProbe):
    def infer(self, release, surface):
        scores = super().infer(release, surface)
        return scores - 0.1 * scores.mean(0)


class DividesByNothing(LeastSquaresProbe):
    def scale_of(self, rows):
        return 1 / rows.std(0)


class IgnoresTheRelease(LeastSquaresProbe):
    def infer(self, release, surface):
        return torch.zeros_like(super().infer(release, surface))


class ForgetsTheMean(LeastSquaresProbe):
    def import_state(self, state, surface):
        super().import_state(state, surface)
        self.mean = torch.zeros_like(self.mean)


VILLAINS = {
    TakesPositions: checks.check_constructor_only_stores,
    Undocumented: checks.check_docstring,
    Overclaims: checks.check_needs_is_exact,
    Underclaims: checks.check_needs_is_exact,
    GivesUpQuietly: checks.check_refuses_without_its_needs,
    AsksAboutAllItHas: checks.check_works_under_a_query_budget,
    DrawsGlobally: checks.check_leaves_global_rng_alone,
    DrawsFromElsewhere: checks.check_same_seed_same_answer,
    AnswersUnfitted: checks.check_rejects_unfitted,
    SwallowsInfinity: checks.check_rejects_nonfinite_features,
    SwallowsInfinityBeside: checks.check_rejects_nonfinite_features,
    LooksAtAllThatArrives: checks.check_overlooks_what_it_does_not_expect,
    LooksBesideTheTensors: checks.check_overlooks_what_it_does_not_expect,
    AddsAColumn: checks.check_scores_are_scores,
    LooksAtTheBatch: checks.check_examples_do_not_mix,
    DividesByNothing: checks.check_learns_nothing_from_a_null_channel,
    IgnoresTheRelease: checks.check_knows_what_is_plain_to_see,
    ForgetsTheMean: checks.check_state_round_trip,
}
