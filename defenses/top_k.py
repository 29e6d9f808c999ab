"""Only the features of largest magnitude."""

from typing import ClassVar, Literal

import torch

from defenses.fine_tuned_server import FineTunedServer
from splitbench.codecs.top_k import TopK as TopKCodec
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors


class TopK(FineTunedServer):
    """Releases the largest magnitudes of each tensor of an example, and where they are.

    The selection is the codec that this defense brings: `protect` leaves the features alone and
    the codec keeps, as real bytes, the values and a bitmap or list of their places. The codec
    alone (``codec=top_k``) would release the same; the defense adds a server that is fine-tuned
    to it, and a row of its own. The adversary is told what the message says: the kept values, and
    that no dropped magnitude exceeds the smallest kept one.

    Args:
        share: Share of the values to keep, in (0, 1], rounded up; 1 turns the defense off.
        entropy: Compress the message; its length then depends on the image.
        finetune_epochs: Epochs of fine-tuning the server to sparse features; 0 is post-hoc.
        learning_rate: First step size of the fine-tuning (Adam, cosine decay), > 0.
        batch_size: Images per fine-tuning step, > 0.

    Threat model:
        Whoever reads the messages, the server included, with the weights and the share; places
        and values of what is kept are in the message. There is no randomness and no key: secret
        are the values that were dropped.

    Guarantee:
        Empirical. The kept values are released in clear, and their places tell much by
        themselves.

    Known to fall to:
        A decoder trained on sparse features.

    Deviations from the paper:
        Selects from each example alone, by magnitude, where a published implementation of the
        baseline ranks signed values across a whole batch, which makes one user's release depend
        on another's image.

    References:
        Li et al. "ResSFL: a resistance transfer framework for defending model inversion attack
        in split federated learning". CVPR 2022 (top-k as a baseline). arXiv:2205.04007
        Aji, Heafield. "Sparse communication for distributed gradient descent". EMNLP 2017.
        arXiv:1704.05021

    Example:
        >>> TopK(share=0.1).codec.kept(25)
        3
    """

    stochastic: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    off: ClassVar[dict[str, object] | None] = {"share": 1.0}
    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = ("share", "down")
    nested: ClassVar[Literal["no", "all", "multiples"]] = "all"  # the few are among the many

    def __init__(
        self,
        *,
        share: float,
        entropy: bool = False,
        finetune_epochs: int = 0,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
    ) -> None:
        super().__init__(
            finetune_epochs=finetune_epochs, learning_rate=learning_rate, batch_size=batch_size
        )
        if not 0 < share <= 1:
            raise ValueError(f"share={share}: must be in (0, 1]; 1 is off")
        self.share = share
        self.entropy = entropy

    @property
    def codec(self) -> TopKCodec:
        """What selects, and makes bytes of values and places."""
        return TopKCodec(fraction=self.share, entropy=self.entropy)

    def receive(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """What the codec leaves."""
        del generator
        return self.codec.transform(features)

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Return the features: it is the codec that selects."""
        del generator
        return features

    def guarantee(self) -> Guarantee:
        """Empirical."""
        kept = f"the largest {100 * self.share:.3g} % of the features"
        return Guarantee("empirical", f"{kept} are released as they are; no formal guarantee")
