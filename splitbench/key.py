"""What a secret key does to features: which group it comes from, and what it acts on."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from splitbench.release import channel_axis


@dataclass(frozen=True)
class KeyAction:
    """Each released tensor is multiplied by one fixed, secret element of a group, along one axis.

    This is public: only the element itself is the key.

    Attributes:
        group: ``rotation`` (all orthogonal matrices, reflections included) or ``permutation``.
        per: The units that it mixes or reorders: ``channel`` (axis 1 of images, the last axis of
            tokens), ``position`` (pixels of feature maps, tokens), or every ``element`` by itself.
            The units of a vector are its elements, whatever this says.
    """

    group: Literal["rotation", "permutation"]
    per: Literal["channel", "position", "element"]

    def unfold(self, values: Float[Tensor, "b ..."]) -> Float[Tensor, "b units rest"]:
        """The units along axis 1, whatever the key leaves in its place along the last."""
        if values.ndim == 2 or self.per == "element":
            return values.flatten(1).unsqueeze(-1)
        if self.per == "channel":
            return values.movedim(channel_axis(values), 1).flatten(2)
        return values.movedim(channel_axis(values), -1).flatten(1, -2)

    def fold(
        self, units: Float[Tensor, "b units rest"], like: Float[Tensor, "b ..."]
    ) -> Float[Tensor, "b ..."]:
        """Undo `unfold`, to the shape of a tensor."""
        if like.ndim == 2 or self.per == "element":
            return units.reshape(like.shape)
        axis, front = channel_axis(like), 1 if self.per == "channel" else -1
        return units.reshape(like.movedim(axis, front).shape).movedim(front, axis)
