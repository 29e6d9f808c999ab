"""What defenses have in common that mix features by a secret key: a piece, not a defense."""

import copy
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from defenses.learnt_buffers import LearntBuffers
from splitbench.data.images import LabeledImages
from splitbench.defense import Defense, OnStep, silent
from splitbench.guarantee import Guarantee
from splitbench.key import KeyAction
from splitbench.release import Tensors
from splitbench.split import Split


class SecretMixing(LearntBuffers, Defense, ABC):
    """Mixes the units of each tensor by a key that `restore` undoes.

    `fit` draws one key for each tensor of the cut; they are the buffers ``key0``, ``key1``, and so
    on. All devices share them. Subclasses say how a key is drawn and applied.
    """

    stochastic: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    keyed: ClassVar[bool] = True
    group: ClassVar[Literal["rotation", "permutation"]]

    def __init__(self, *, per: Literal["channel", "position", "element"]) -> None:
        super().__init__()
        self.per = per

    @abstractmethod
    def draw(self, units: int, *, generator: torch.Generator) -> Tensor:
        """A fresh key for so many units."""

    @abstractmethod
    def mix(self, units: Float[Tensor, "b k r"], key: Tensor) -> Float[Tensor, "b k r"]:
        """Apply a key."""

    @abstractmethod
    def unmix(self, units: Float[Tensor, "b k r"], key: Tensor) -> Float[Tensor, "b k r"]:
        """Undo a key."""

    @property
    def key_action(self) -> KeyAction:
        """The group, and what it acts on."""
        return KeyAction(self.group, self.per)

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Draw the keys, for as many units as there are at this cut."""
        del on_step
        with torch.no_grad():
            features = split.client(train.images(slice(0, 1)))
        sizes = [self.key_action.unfold(f).shape[1] for f in features]
        self.draw_all(sizes, generator=generator)

    def rekeyed(self, *, generator: torch.Generator) -> "SecretMixing":
        """A copy with other keys."""
        other = copy.deepcopy(self)
        other.draw_all([len(key) for key in self._keys()], generator=generator)
        return other

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Mix.

        Returns:
            Tensors of the same shapes.

        Raises:
            RuntimeError: `fit` was not called and no fitted state was loaded.
        """
        del generator
        return self.place(features)

    def place(self, features: Tensors) -> Tensors:
        """The mixed features, which the message is."""
        parts = zip(features, self._keys(), strict=True)
        action = self.key_action
        return tuple(action.fold(self.mix(action.unfold(f), key), f) for f, key in parts)

    def restore(self, tensors: Tensors) -> Tensors:
        """Unmix, in the trusted part of the server."""
        parts = zip(tensors, self._keys(), strict=True)
        action = self.key_action
        return tuple(action.fold(self.unmix(action.unfold(t), key), t) for t, key in parts)

    def guarantee(self) -> Guarantee:
        """None."""
        return Guarantee("none", "holds only while the key is secret and no pairs are known")

    def draw_all(self, sizes: list[int], *, generator: torch.Generator) -> None:
        """Draw and keep a key for each tensor of so many units."""
        for i, size in enumerate(sizes):
            self.register_buffer(f"key{i}", self.draw(size, generator=generator))

    def _keys(self) -> list[Tensor]:
        keys = list(self.buffers())
        if not keys:
            raise RuntimeError("there is no key yet: call fit() before protect()")
        return keys
