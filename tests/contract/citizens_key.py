"""A keyed defense that keeps every promise, and villains that change one thing about it."""

import copy

import torch

from splitbench.checks import defense_key as keys
from splitbench.defense import Defense


class Signs(Defense):
    """Flips the signs of features by a key.

    Threat model:
        Whoever reads the messages, with the weights; secret is the key.

    Guarantee:
        None.

    Known to fall to:
        A pair.

    Deviations from the paper:
        None.

    References:
        None.
    """

    stochastic = False
    differentiable = True
    keyed = True

    def __init__(self):
        super().__init__()
        self.register_buffer("key", None)

    def fit(self, split, train, *, generator, on_step=None):
        sizes = [f[0].numel() for f in split.client(train.images(slice(0, 1)))]
        self.key = self.drawn(max(sizes), generator)

    def drawn(self, size, generator):
        return 2.0 * torch.randint(2, (size,), generator=generator) - 1

    def rekeyed(self, *, generator):
        other = copy.deepcopy(self)
        other.key = self.drawn(len(self.key), generator)
        return other

    def protect(self, features, *, generator):
        return self.place(features)

    def place(self, features):
        return tuple(f * self.key[: f[0].numel()].view(f[0].shape) for f in features)

    def restore(self, tensors):
        return self.protect(tensors, generator=None)

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        self.key = torch.zeros_like(state_dict[f"{prefix}key"])
        super()._load_from_state_dict(state_dict, prefix, *rest)


class KeepsItsKey(Signs):
    def rekeyed(self, *, generator):
        return copy.deepcopy(self)


class RekeysItself(Signs):
    def rekeyed(self, *, generator):
        self.key = self.drawn(len(self.key), generator)
        return self


class ChangesTheMechanismToo(Signs):
    def rekeyed(self, *, generator):
        other = Other()
        other.key = self.drawn(len(self.key), generator)
        return other


class Other(Signs):
    """Flips signs all the same, but is another class."""

    __doc__ = Signs.__doc__


class RestoresAlmost(Signs):
    def restore(self, tensors):
        return tuple(1.01 * t for t in super().restore(tensors))


class HidesItsKeyFromItsState(Signs):
    """Keeps what a new key changes as a plain attribute."""

    __doc__ = Signs.__doc__
    flip = torch.ones(1)

    def rekeyed(self, *, generator):
        other = copy.deepcopy(self)
        other.flip = self.drawn(len(self.key), generator)
        return other

    def protect(self, features, *, generator):
        sent = super().protect(features, generator=generator)
        if len(self.flip) == 1:
            return sent
        return tuple(f * self.flip[: f[0].numel()].view(f[0].shape) for f in sent)


class SaysItSendsBareFeatures(Signs):
    def place(self, features):
        return features

    def protect(self, features, *, generator):
        return Signs.place(self, features)


VILLAINS = {
    KeepsItsKey: keys.check_rekeying_changes_the_key_alone,
    RekeysItself: keys.check_rekeying_changes_the_key_alone,
    ChangesTheMechanismToo: keys.check_rekeying_changes_the_key_alone,
    RestoresAlmost: keys.check_restore_undoes_a_keyed_protect,
    SaysItSendsBareFeatures: keys.check_the_truth_explains_a_keyed_release,
    HidesItsKeyFromItsState: keys.check_the_key_is_in_the_state,
}
