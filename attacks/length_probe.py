"""What the length of a message tells, without a look inside."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from attacks.standardised import balance, balanced_loss
from splitbench.inference import Inference, Known
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.threat import Access, Surface

WIDTHS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of a kernel, in standard deviations of the lengths
LEAST_BYTES = 0.5  # the narrowest kernel
HELD_OUT = 0.1  # share of the messages that choose the width
BATCH = 256
TINY = 1e-30  # density where no length was ever seen


class LengthProbe(Inference):
    """Compares the length of a message with those of the adversary's own: a side channel.

    Codecs that pack what is rare in fewer bytes tell something about the image to whoever sees
    encrypted traffic only. For each value of the secret the density of lengths is estimated with a
    Gaussian kernel, whose width held-out auxiliary images choose; the score is its logarithm.

    Threat model:
        Auxiliary images whose values are known, and queries that are answered in real bytes. Of
        the target nothing but the number of bytes is looked at.

    Cost: One encoded message for each of at most `messages` images.

    Args:
        messages: Of auxiliary images, held-out ones included, >= 20.

    Deviations from the paper:
        The paper classifies videos by sequences of packet bursts; here is one length.

    References:
        Schuster, Shmatikov, Tromer. "Beauty and the burst: remote identification of encrypted
        video streams". USENIX Security 2017. The density is that of Parzen. "On estimation of a
        probability density function and mode". Annals of Mathematical Statistics 1962.
        doi:10.1214/aoms/1177704472
    """

    needs: ClassVar[frozenset[Access]] = frozenset({Access.AUXILIARY, Access.QUERY})
    side_channel: ClassVar[bool] = True

    _lengths: Tensor
    _values: Tensor
    _count: Tensor
    _width: Tensor

    def __init__(self, *, messages: int = 3000) -> None:
        if messages < 20:
            raise ValueError(f"messages={messages}: must be at least 20")
        self.messages = messages

    def learn(
        self, surface: Surface, known: Known, *, generator: torch.Generator
    ) -> Iterator[Progress]:
        """Encode auxiliary images, and choose the width of the kernel."""
        del generator
        budget = self.messages if surface.remaining is None else surface.remaining
        few = min(int(HELD_OUT * min(self.messages, budget)), len(surface.validation))
        many = min(self.messages - few, budget - few, len(surface.auxiliary))
        lengths, steps = [], -(-many // BATCH)
        for step in range(steps):
            part = slice(step * BATCH, min((step + 1) * BATCH, many))
            lengths.append(_lengths(surface.transmit(surface.auxiliary.images(part))))
            yield Progress(step + 1, steps, 0.0)
        self._lengths, self._values = torch.cat(lengths), known.train[:many]
        self._count = torch.tensor(known.values)
        unit = float(self._lengths.std(correction=0))
        widths = [max(LEAST_BYTES, width * unit) for width in WIDTHS]
        self._width = torch.tensor(widths[-1])
        if few:
            held_out = _lengths(surface.transmit(surface.validation.images(slice(few))))
            values = known.validation[:few]
            weights = balance(values, known.values)
            errors = [
                float(balanced_loss(self._densities(held_out, width), values, weights))
                for width in widths
            ]
            self._width = torch.tensor(widths[errors.index(min(errors))])

    def export_state(self) -> Mapping[str, Tensor]:
        """Lengths, who they belong to, and the width of the kernel."""
        return {
            "lengths": self._lengths,
            "values": self._values,
            "count": self._count,
            "width": self._width,
        }

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Take them back."""
        super().import_state(state, surface)
        self._lengths, self._values = state["lengths"], state["values"]
        self._count, self._width = state["count"], state["width"]

    def says_nothing_about(self, release: Release) -> str:
        """Messages of one length tell nothing."""
        payload = release.payload_bytes
        if payload is None or len(payload.unique()) < 2:
            return "all messages have one length"
        return ""

    def infer(self, release: Release, surface: Surface) -> Float[Tensor, "b values"]:
        """Logarithms of the densities."""
        del surface
        return self._densities(_lengths(release), float(self._width))

    def _densities(self, lengths: Float[Tensor, " b"], width: float) -> Float[Tensor, "b values"]:
        members = functional.one_hot(self._values, int(self._count)).float()
        members = members / members.sum(0).clamp(min=1)
        apart = (lengths[:, None] - self._lengths) / width
        return torch.log(torch.exp(-apart.square() / 2) @ members + TINY)


def _lengths(release: Release) -> Float[Tensor, " b"]:
    payload: Int[Tensor, " b"] | None = release.payload_bytes
    if payload is None:
        raise ValueError("the release does not know the length of its messages")
    return payload.float()
