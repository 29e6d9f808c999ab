"""Images that are answered on the device: nothing of them is sent but that nothing was sent."""

from dataclasses import dataclass

import torch
from torch import Tensor

from splitbench.release import SENT, TensorSpec

SPEC = TensorSpec(SENT, (1,))  # what arrives beside the tensors where a defense has exits


@dataclass(frozen=True, eq=False)
class Answered:
    """What the device thinks of some images, and of which it is sure.

    Attributes:
        stays: Bool ``(b,)``: the user is told the device's answer, and nothing is sent.
        logits: That answer, ``(b, classes)``; of images that do not stay it is never used.
    """

    stays: Tensor
    logits: Tensor

    def __getitem__(self, index: Tensor) -> "Answered":
        """Of some of the images."""
        return Answered(self.stays[index], self.logits[index])

    def before(self, later: "Answered") -> "Answered":
        """With a later exit: the first one that is sure answers, for the others the later one."""
        return Answered(self.stays | later.stays, self.instead_of(later.logits))

    def instead_of(self, logits: Tensor) -> Tensor:
        """What the user is told, given what the server would say, ``(b, classes)``."""
        return torch.where(self.stays[:, None], self.logits.to(logits.dtype), logits)


def silenced(values: Tensor, sent: Tensor) -> Tensor:
    """Values ``(b, ...)`` with zeros for the images of which nothing was sent, bool ``(b,)``."""
    return torch.where(sent.view(-1, *[1] * (values.ndim - 1)), values, torch.zeros_like(values))
