"""Few bits per released value."""

from typing import ClassVar, Literal

from defenses.straight_through import StraightThrough
from splitbench.codecs.uniform import Uniform
from splitbench.guarantee import Guarantee


class Quantization(StraightThrough):
    """Releases each value as one of ``2 ** bits`` evenly spaced levels, packed to real bits.

    The quantiser is the codec that this defense brings: `protect` leaves the features alone and
    the codec rounds them, so that they are rounded once, and the adversary is told the interval
    in which each value lies. Quantization-aware training sends gradients straight through the
    rounding; it adapts the server, or both sides.

    Args:
        bits: Bits per value, 1 to 8 or 16.
        per: Range of the levels for each ``tensor`` of an example or for each ``channel``.
        clip: Fixed range ``(low, high)``; None takes the range of each example, which is then
            sent along. Needs ``per="tensor"``.
        entropy: Compress the packed bits; the length of the message then depends on the image.
        finetune_epochs: Epochs of quantization-aware training; 0 is post-hoc.
        trains: What it trains: the ``server``, or ``both`` sides, where the client learns
            features that bear rounding (and can no longer be shared between cuts).
        learning_rate: First step size of the training (Adam, cosine decay), > 0.
        batch_size: Images per training step, > 0.

    Threat model:
        Whoever reads the messages, the server included, with the weights and the levels, whose
        range the message tells where it is not fixed. There is no randomness and no key: secret
        is where a value lies within its interval.

    Guarantee:
        Empirical. The message of n bits bounds what it can tell by n bits, which is far more
        than an image needs unless bits and cut are small.

    Known to fall to:
        A decoder trained on quantised features; above 4 bits there is little privacy to begin
        with.

    Deviations from the paper:
        Only the released features are quantised, not weights or the activations elsewhere; the
        range is that of each example rather than a running estimate; nothing is folded. There is
        no setting at which it is off: even 16 bits round, so ``off`` is None.

    References:
        Jacob et al. "Quantization and training of neural networks for efficient
        integer-arithmetic-only inference". CVPR 2018. arXiv:1712.05877
        Bengio, Leonard, Courville. "Estimating or propagating gradients through stochastic
        neurons for conditional computation". 2013. arXiv:1308.3432

    Example:
        >>> Quantization(bits=4, finetune_epochs=2, trains="both").changes_client
        True
    """

    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = ("bits", "down")
    nested: ClassVar[Literal["no", "all", "multiples"]] = "multiples"

    def __init__(
        self,
        *,
        bits: int,
        per: Literal["tensor", "channel"] = "tensor",
        clip: tuple[float, float] | list[float] | None = None,
        entropy: bool = False,
        finetune_epochs: int = 0,
        trains: Literal["server", "both"] = "server",
        learning_rate: float = 1e-3,
        batch_size: int = 64,
    ) -> None:
        super().__init__(
            finetune_epochs=finetune_epochs,
            trains=trains,
            learning_rate=learning_rate,
            batch_size=batch_size,
        )
        # Refuses what it cannot do, and makes a pair of a list, which is what yaml has.
        self._codec = Uniform(bits=bits, per=per, clip=clip, entropy=entropy)  # type: ignore[arg-type]
        self.bits = bits
        self.per = per
        self.clip = clip
        self.entropy = entropy

    @property
    def codec(self) -> Uniform:
        """The uniform quantiser, which packs its levels into bits."""
        return self._codec

    def guarantee(self) -> Guarantee:
        """Empirical."""
        return Guarantee("empirical", f"{self.bits} bits per value; no formal guarantee")
