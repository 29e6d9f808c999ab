"""How large the features at a cut are: what relative noise is measured in."""

from typing import Literal

import torch
from torch import Tensor, nn

from defenses.learnt_buffers import LearntBuffers
from splitbench.data.images import LabeledImages
from splitbench.release import Tensors, channel_axis

# A channel that is silent on the train role may speak on an input that nobody has seen. It gets
# this share of the tensor's own scale, for without noise it would be released in clear.
QUIETEST = 0.01


class NoiseScale(LearntBuffers):
    """Root mean square of the features, over the train role.

    Kept as one buffer per live tensor, so that it travels in the ``state_dict`` of the defense
    and can be loaded into one that was never calibrated.

    Args:
        per: One value for each ``tensor`` or for each ``channel`` (axis 1 of images, the last
            axis of tokens and of vectors).
    """

    def __init__(self, *, per: Literal["tensor", "channel"]) -> None:
        super().__init__()
        self.per = per

    @torch.no_grad()
    def calibrate(self, client: nn.Module, train: LabeledImages, *, batch_size: int = 256) -> None:
        """Measure on the train role.

        Raises:
            ValueError: A tensor of the cut is zero on all of it, or not finite.
        """
        self._buffers.clear()
        power: list[Tensor] = []
        for index in torch.arange(len(train)).split(batch_size):
            parts = [self._power(f) * len(index) for f in client(self._on(client, train, index))]
            power = [a + b for a, b in zip(power, parts, strict=True)] if power else parts
        for i, total in enumerate(power):
            whole = (total.mean() / len(train)).sqrt()
            if not (torch.isfinite(whole) and whole > 0):
                raise ValueError(
                    f"tensor {i} of the cut has root mean square {float(whole)} on the train role: "
                    "relative noise needs finite features that are not all zero; choose another cut"
                )
            self.register_buffer(f"rms_{i}", _root(total / len(train)))

    def of_batch(self, features: Tensors) -> Tensors:
        """Scale of each tensor as this batch alone shows it, with gradients; nothing is kept."""
        return tuple(self._spread(_root(self._power(f)), f) for f in features)

    def forward(self, features: Tensors) -> Tensors:
        """Scale of each tensor, shaped to multiply it.

        Raises:
            RuntimeError: Nothing was calibrated or loaded yet.
        """
        if not self._buffers:
            raise RuntimeError("the scale of the noise is unknown: call fit() before protect()")
        pairs = zip(features, self.buffers(), strict=True)
        return tuple(self._spread(rms.to(f), f) for f, rms in pairs)

    def _power(self, values: Tensor) -> Tensor:
        """Mean square of a batch, one value or one per channel."""
        squares = values.double().square()
        if self.per == "tensor":
            return squares.mean()
        axis = channel_axis(values)
        return squares.mean([a for a in range(values.ndim) if a != axis])

    def _spread(self, rms: Tensor, values: Tensor) -> Tensor:
        if self.per == "tensor":
            return rms
        shape = [1] * values.ndim
        shape[channel_axis(values)] = len(rms)
        return rms.view(shape)

    @staticmethod
    def _on(client: nn.Module, train: LabeledImages, index: Tensor) -> Tensor:
        device = next((p.device for p in client.parameters()), torch.device("cpu"))
        return train.images(index).to(device)


def _root(power: Tensor) -> Tensor:
    """Root of one mean square or of those of all channels, none of which counts as silent."""
    least = QUIETEST**2 * power.detach().mean().clamp(min=torch.finfo(torch.float32).tiny)
    return power.clamp(min=least).sqrt().float()
