"""A defense that keeps every promise; villains change one thing about it."""

from typing import ClassVar

import torch

from defenses.local_dp_gaussian import LocalDpGaussian
from splitbench.defense import Defense
from splitbench.rng import normal_like


class Noise(Defense):
    """Noise relative to the largest feature.

    Args:
        strength: Standard deviation in units of the largest feature.

    Threat model:
        Whoever reads the messages, with the weights; secret are the draws.

    Guarantee:
        None.

    Known to fall to:
        Averaging.

    Deviations from the paper:
        None.

    References:
        None.
    """

    stochastic = True
    differentiable = True
    off: ClassVar = {"strength": 0.0}
    knob = ("strength", "up")

    def __init__(self, *, strength: float = 0.5):
        super().__init__()
        self.strength = strength
        self.register_buffer("scale", None)

    def fit(self, split, train, *, generator, on_step=None):
        features = split.client(train.images())
        self.scale = torch.stack([f.abs().max() for f in features])

    def std(self, index):
        return self.strength * self.scale[index]

    def protect(self, features, *, generator):
        return tuple(f + self.std(i) * normal_like(f, generator) for i, f in enumerate(features))

    def negative_log_likelihood(self, observed, features, *, observations=1):
        if self.strength == 0:
            return None
        pairs = zip(observed, features, strict=True)
        errors = [
            ((z - f) / self.std(i)).flatten(1).square().sum(1) for i, (z, f) in enumerate(pairs)
        ]
        return torch.stack(errors).sum(0) * observations / 2

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        for name in {"scale", "messages"} & set(state_dict):
            self.register_buffer(name, torch.zeros_like(state_dict[name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Coarse(Noise):
    """Deterministic rounding to multiples of a step.

    Args:
        step: Distance of the levels.

    Threat model:
        Whoever reads the messages, with the weights; nothing is secret.

    Guarantee:
        None.

    Known to fall to:
        Interpolation.

    Deviations from the paper:
        None.

    References:
        None.
    """

    stochastic = False
    differentiable = False
    off = None
    knob = ("step", "up")

    def __init__(self, *, step: float = 0.25):
        Defense.__init__(self)
        self.step = step
        self.register_buffer("scale", None)

    def protect(self, features, *, generator):
        return tuple((f / self.step).round().detach() * self.step for f in features)

    def negative_log_likelihood(self, observed, features, *, observations=1):
        return None


class Private(LocalDpGaussian):
    """Local differential privacy with a bound of one.

    Args:
        epsilon: Of one message.

    Threat model:
        Whoever reads the messages, with all but the draws.

    Guarantee:
        Local differential privacy.

    Known to fall to:
        Nothing.

    Deviations from the paper:
        None.

    References:
        None.
    """

    def __init__(self, *, epsilon: float = 500.0):
        super().__init__(epsilon=epsilon, clip=1.0)
