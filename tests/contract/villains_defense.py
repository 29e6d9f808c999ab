"""Defenses that break one promise each."""

import re

import torch
from citizens_defense import Coarse, Noise, Private
from torch import nn

from defenses.noise_laws import laplace_like
from splitbench.checks import defense_conduct as conduct
from splitbench.checks import defense_exits as exits
from splitbench.checks import defense_form as form
from splitbench.checks import defense_messages as messages
from splitbench.checks import defense_promise as promise
from splitbench.defense import Defense
from splitbench.exits import Answered
from splitbench.rng import normal_like
from splitbench.split import Split


class TakesPositions(Noise):
    def __init__(self, strength: float = 0.5):
        super().__init__(strength=strength)


class DrawsInItsConstructor(Noise):
    def __init__(self, *, strength: float = 0.5):
        super().__init__(strength=strength)
        with torch.random.fork_rng(devices=[]):
            self.key = torch.rand(1)


class ChangesItsArguments(Noise):
    def __init__(self, *, strength: float = 0.5):
        super().__init__(strength=1.1 * strength)


class Undocumented(Noise):
    """Noise."""


class KeepsItsAdversaryToItself(Noise):
    __doc__ = re.sub(r"Threat model:\n.*\n", "Threat model:\n", Noise.__doc__)


class CitesNothing(Noise):
    __doc__ = Noise.__doc__.replace("References:\n        None.", "References:\n        A paper.")


class DocumentsTooLittle(Noise):
    def __init__(self, *, strength: float = 0.5, shift: float = 0.1):
        super().__init__(strength=strength)
        self.shift = shift

    off = None

    def protect(self, features, *, generator):
        return tuple(f + self.shift for f in super().protect(features, generator=generator))


class IgnoresAKnob(Noise):
    __doc__ = Noise.__doc__.replace("\n\n    Threat", "\n        unused: Nothing.\n\n    Threat")

    def __init__(self, *, strength: float = 0.5, unused: int = 3):
        super().__init__(strength=strength)
        self.unused = unused


class ChecksAKnobThatItIgnores(IgnoresAKnob):
    __doc__ = IgnoresAKnob.__doc__

    def __init__(self, *, strength: float = 0.5, unused: float = 0.6):
        super().__init__(strength=strength, unused=unused)
        if not 0 <= unused <= 1:
            raise ValueError(f"unused={unused}: must be in [0, 1]")


class RefusesWithoutSayingWhat(IgnoresAKnob):
    __doc__ = IgnoresAKnob.__doc__

    def __init__(self, *, strength: float = 0.5, unused: int = 3):
        super().__init__(strength=strength, unused=unused)
        if unused != 3:
            raise ValueError("bad value")


class SaysThatNothingIsRandom(Noise):
    stochastic = False

    def negative_log_likelihood(self, observed, features, *, observations=1):
        return None


class KeepsOneNoiseTensor(Noise):
    """Seeds its noise anew for every message."""

    __doc__ = Noise.__doc__

    def protect(self, features, *, generator):
        again = torch.Generator().manual_seed(generator.initial_seed())
        return super().protect(features, generator=again)


class SharesNoiseInABatch(Noise):
    def protect(self, features, *, generator):
        return tuple(
            f + self.std(i) * normal_like(f[:1], generator) for i, f in enumerate(features)
        )


class SaysThatRoundingIsDifferentiable(Coarse):
    differentiable = True


class HidesItsGradient(Noise):
    def protect(self, features, *, generator):
        return super().protect(tuple(f.detach() for f in features), generator=generator)


class HidesTheSlope(Noise):
    def negative_log_likelihood(self, observed, features, *, observations=1):
        hidden = tuple(f.detach() for f in features)
        return super().negative_log_likelihood(observed, hidden, observations=observations)


class RestsInEvalMode(Noise):
    def std(self, index):
        return super().std(index) * (1.0 if self.training else 0.5)


class WorksInPlace(Noise):
    def protect(self, features, *, generator):
        return tuple(
            f.add_(self.std(i) * normal_like(f, generator))
            if not f.requires_grad
            else f + self.std(i) * normal_like(f, generator)
            for i, f in enumerate(features)
        )

    def negative_log_likelihood(self, observed, features, *, observations=1):
        return None


class CountsItsMessages(Noise):
    def fit(self, split, train, *, generator, on_step=None):
        super().fit(split, train, generator=generator)
        self.register_buffer("messages", torch.zeros(()))

    def protect(self, features, *, generator):
        self.messages += 1
        return super().protect(features, generator=generator)


class SubtractsTheBatchMean(Noise):
    off = None

    def protect(self, features, *, generator):
        sent = super().protect(features, generator=generator)
        return tuple(t - f.mean(0) for t, f in zip(sent, features, strict=True))

    def negative_log_likelihood(self, observed, features, *, observations=1):
        return None


class LikesTheUnlikely(Noise):
    def negative_log_likelihood(self, observed, features, *, observations=1):
        return -super().negative_log_likelihood(observed, features, observations=observations)


class TakesLaplaceNoiseForNormal(Noise):
    normal = True

    def protect(self, features, *, generator):
        return tuple(f + self.std(i) * laplace_like(f, generator) for i, f in enumerate(features))

    def signal_and_noise(self, features):
        return features, tuple(self.std(i) ** 2 for i in range(len(features)))


class SumsItsLikelihood(Noise):
    def negative_log_likelihood(self, observed, features, *, observations=1):
        exact = super().negative_log_likelihood(observed, features, observations=observations)
        return exact.sum()


class IsNeverOff(Noise):
    def std(self, index):
        return (self.strength + 0.01) * self.scale[index]


class DoesNothing(Defense):
    """Nothing.

    Threat model:
        Nobody is kept out.

    Guarantee:
        None.

    Known to fall to:
        Everything.

    Deviations from the paper:
        None.

    References:
        None.
    """

    stochastic = False
    differentiable = True

    def __init__(self):
        super().__init__()

    def protect(self, features, *, generator):
        return features


class TurnsTheWrongWay(Noise):
    knob = ("strength", "down")


class HalvesTheFeatures(DoesNothing):
    def protect(self, features, *, generator):
        return tuple(f[:, : f.shape[1] // 2] for f in features)


class TrainsTheClientInSecret(Noise):
    off = None

    def fit(self, split, train, *, generator, on_step=None):
        super().fit(split, train, generator=generator)
        with torch.no_grad():
            for parameter in split.client.parameters():
                parameter.mul_(1.01)


class ForgetsWhatItLearnt(DoesNothing):
    """Keeps a plain tensor beside its state."""

    __doc__ = DoesNothing.__doc__
    shift = torch.zeros(())

    def fit(self, split, train, *, generator, on_step=None):
        self.shift = train.images().mean()

    def protect(self, features, *, generator):
        return tuple(f + self.shift for f in features)


class CannotBeLoaded(DoesNothing):
    def fit(self, split, train, *, generator, on_step=None):
        self.shift = train.images().mean()

    def protect(self, features, *, generator):
        if not hasattr(self, "shift"):
            raise RuntimeError("call fit first")
        return tuple(f + self.shift for f in features)


class DrawsGlobally(Noise):
    def protect(self, features, *, generator):
        torch.rand(1)
        return super().protect(features, generator=generator)


class FitsAtRandom(Noise):
    def fit(self, split, train, *, generator, on_step=None):
        super().fit(split, train, generator=generator)
        unseeded = torch.Generator()
        unseeded.seed()
        self.scale = self.scale * (1 + 0.01 * torch.rand(1, generator=unseeded))


class InitialisesGlobally(Noise):
    """Its layer starts from torch's global generator, put back afterwards."""

    __doc__ = Noise.__doc__

    def fit(self, split, train, *, generator, on_step=None):
        super().fit(split, train, generator=generator)
        with torch.random.fork_rng(devices=[]):
            drawn = nn.Linear(1, 1).weight.detach().flatten()
            self.scale = self.scale * (1 + 0.01 * drawn)


class MakesALayerInItsConstructor(Noise):
    def __init__(self, *, strength: float = 0.5):
        super().__init__(strength=strength)
        with torch.random.fork_rng(devices=[]):
            self.layer = nn.Linear(2, 2)


class SwapsTheClient(Noise):
    off = None

    def adapt(self, split):
        return Split(split.cut, Negated(split.client), split.server)


class Negated(nn.Module):
    def __init__(self, client):
        super().__init__()
        self.client = client

    def forward(self, images):
        return tuple(-f for f in self.client(images))


class TakesTheBoundForTheSensitivity(Private):
    @property
    def relative_std(self):
        return super().relative_std / 2


class AnswersAndSendsAllTheSame(Noise):
    def answered(self, features):
        stays = features[0].flatten(1).sum(1) > 0
        return Answered(stays, torch.zeros(len(stays), 3))


class SaysThatItHasExits(Noise):
    exits = True


class AnswersForTheBatch(Noise):
    exits = True

    def answered(self, features):
        count = len(features[0])
        return Answered(torch.zeros(count, dtype=torch.bool), torch.zeros(1, 3))


VILLAINS = {
    TakesPositions: form.check_constructor_only_stores,
    DrawsInItsConstructor: form.check_constructor_only_stores,
    ChangesItsArguments: form.check_constructor_only_stores,
    MakesALayerInItsConstructor: form.check_constructor_only_stores,
    Undocumented: form.check_docstring,
    KeepsItsAdversaryToItself: form.check_docstring,
    CitesNothing: form.check_docstring,
    DocumentsTooLittle: form.check_docstring,
    IgnoresAKnob: form.check_every_knob_matters,
    ChecksAKnobThatItIgnores: form.check_every_knob_matters,
    RefusesWithoutSayingWhat: form.check_every_knob_matters,
    SaysThatNothingIsRandom: messages.check_stochastic_is_honest,
    KeepsOneNoiseTensor: messages.check_fresh_noise_between_messages,
    SharesNoiseInABatch: messages.check_fresh_noise_within_a_batch,
    SaysThatRoundingIsDifferentiable: messages.check_differentiable_is_honest,
    HidesItsGradient: messages.check_differentiable_is_honest,
    HidesTheSlope: messages.check_mismatch_can_be_followed,
    RestsInEvalMode: messages.check_protects_in_eval_mode_too,
    WorksInPlace: messages.check_protect_is_pure,
    CountsItsMessages: messages.check_protect_is_pure,
    SubtractsTheBatchMean: messages.check_examples_do_not_mix,
    LikesTheUnlikely: messages.check_likelihood_prefers_the_truth,
    SumsItsLikelihood: messages.check_likelihood_prefers_the_truth,
    TakesLaplaceNoiseForNormal: messages.check_normal_is_honest,
    IsNeverOff: conduct.check_off_is_identity,
    DoesNothing: conduct.check_has_effect,
    TurnsTheWrongWay: conduct.check_more_is_more,
    HalvesTheFeatures: conduct.check_server_still_runs,
    TrainsTheClientInSecret: conduct.check_changes_client_is_honest,
    SwapsTheClient: conduct.check_changes_client_is_honest,
    ForgetsWhatItLearnt: conduct.check_state_dict_round_trip,
    CannotBeLoaded: conduct.check_state_dict_round_trip,
    DrawsGlobally: conduct.check_leaves_global_rng_alone,
    FitsAtRandom: conduct.check_same_seed_same_release,
    InitialisesGlobally: conduct.check_same_seed_same_release,
    AnswersAndSendsAllTheSame: exits.check_who_stays_sends_nothing,
    SaysThatItHasExits: exits.check_who_stays_sends_nothing,
    AnswersForTheBatch: exits.check_who_stays_sends_nothing,
    TakesTheBoundForTheSensitivity: promise.check_promise_survives_an_audit,
}
