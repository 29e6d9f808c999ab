"""Metrics that break one promise each."""

import torch

from splitbench.checks import metric as checks
from splitbench.metrics.mean_squared_error import MeanSquaredError
from splitbench.metrics.peak_signal_to_noise import PeakSignalToNoise


class Doubles(PeakSignalToNoise):
    def __init__(self, *, cap_db=60.0):
        super().__init__(cap_db=2 * cap_db)


class HasNoColumnName(MeanSquaredError):
    key = "MSE (lower is better)"


class Squeezes(MeanSquaredError):
    def score(self, guess, truth):
        return super().score(guess, truth).squeeze()


class ScoresTheTruthWorse(MeanSquaredError):
    def score(self, guess, truth):
        return super().score(guess, truth) + 0.1


class SaysUpForAnError(MeanSquaredError):
    leaks = "up"


class DependsOnTheBatch(MeanSquaredError):
    def score(self, guess, truth):
        return super().score(guess, truth) * (1 + truth.mean())


class Clamps(MeanSquaredError):
    def __call__(self, guess, truth):
        return super().__call__(guess.clamp(0, 1), truth.clamp(0, 1))


class ForgivesNaN(MeanSquaredError):
    def __call__(self, guess, truth):
        return super().__call__(guess.nan_to_num(), truth.nan_to_num())


class Broadcasts(MeanSquaredError):
    def __call__(self, guess, truth):
        return super().__call__(guess, truth.expand_as(guess) if len(truth) == 1 else truth)


class ClearsItsInput(MeanSquaredError):
    def score(self, guess, truth):
        scores = super().score(guess, truth)
        truth.zero_()
        return scores


class DrawsFromTheGlobalGenerator(MeanSquaredError):
    def score(self, guess, truth):
        torch.rand(1)
        return super().score(guess, truth)


VILLAINS = {
    Doubles: checks.check_constructor_only_stores,
    HasNoColumnName: checks.check_declares_itself,
    Squeezes: checks.check_gives_one_finite_number_per_example,
    ScoresTheTruthWorse: checks.check_perfect_on_identity,
    SaysUpForAnError: checks.check_direction,
    DependsOnTheBatch: checks.check_examples_do_not_mix,
    Clamps: checks.check_refuses_what_is_out_of_range,
    ForgivesNaN: checks.check_refuses_what_is_not_finite,
    Broadcasts: checks.check_refuses_other_shapes,
    ClearsItsInput: checks.check_leaves_inputs_alone,
    DrawsFromTheGlobalGenerator: checks.check_leaves_global_rng_alone,
}
