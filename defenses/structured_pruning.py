"""Fewer channels, for good."""

from fractions import Fraction
from math import floor
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from defenses.channel_importance import importance
from defenses.fine_tuning import check_schedule, fine_tune
from defenses.pruned_split import FillingServer, PrunedClient
from splitbench.data.images import LabeledImages
from splitbench.defense import Defense, OnStep, silent
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors, channels_of
from splitbench.split import Split

Layers = Literal["cut", "all"]


class StructuredPruning(Defense):
    """Removes the channels that the task misses least, and trains both sides on.

    A channel counts for what its removal would change in the loss, to first order, on the train
    role: the mean over the images of ``|sum over positions of activation x gradient|``. Which
    channels remain is fixed and public; those of the cut that do not are neither sent nor, where
    they have filters of their own, computed (`defenses.pruned_split`): a convolution that is read
    by nobody else, with only activations, pooling and normalisation by channel between it and the
    cut. In an open residual connection, and behind layers that mix channels, they are computed and
    left out. The server puts zeros in their place; its own filters stay.

    The client's other layers may lose the same share of their channels, with the weights that read
    them. Each layer is judged by itself, where its channels are read, and all of them before any is
    removed. A layer stays whole whose channels are added to others or concatenated with them, are
    released in the end, or are read by a grouped convolution, or whose weights are used twice: of a
    residual block only what is inside loses channels. The client's ``left`` names these layers.

    Args:
        share: Share of the channels to remove, in [0, 1), rounded down, for each tensor of the cut
            (of tokens and vectors, of their last axis), and for each layer that is pruned; 0
            turns the defense off.
        finetune_epochs: Epochs of training both sides afterwards, >= 0.
        learning_rate: First step size of the training (Adam, cosine decay), > 0.
        batch_size: Images per training step, > 0.
        layers: ``cut`` removes channels of the cut alone, ``all`` those within the client, too.

    Threat model:
        Whoever reads the messages, the server included, with the weights of both sides and the
        list of the channels that remain. Nothing is random and there is no key: secret are the
        values of the removed channels.

    Guarantee:
        Empirical. What remains is released as it is.

    Known to fall to:
        A decoder trained on the channels that remain; convolutions see neighbouring things, so
        that a few channels tell most of an image.

    Deviations from the paper:
        Pruned is the client alone, by default only its layer at the cut; once rather than channel
        by channel with training in between; the same share of every layer, where the paper ranks
        the channels of all layers together; and by the sum over positions, of which the paper takes
        the mean. Of PATROL there is the pruning alone: no Lipschitz penalty, no adversary. Batch
        normalisation keeps the undefended model's statistics.

    References:
        Molchanov, Tyree, Karras, Aila, Kautz. "Pruning convolutional neural networks for resource
        efficient inference". ICLR 2017. arXiv:1611.06440
        Ding, Zhang, Pan, Yuan. "PATROL: privacy-oriented pruning for collaborative inference
        against model inversion attacks". WACV 2024. arXiv:2307.10981

    Example:
        >>> StructuredPruning(share=0.0).changes_client
        False
    """

    stochastic: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    off: ClassVar[dict[str, object] | None] = {"share": 0.0}
    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = ("share", "up")

    def __init__(
        self,
        *,
        share: float,
        finetune_epochs: int = 5,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
        layers: Layers = "cut",
    ) -> None:
        super().__init__()
        if not 0 <= share < 1:
            raise ValueError(f"share={share}: must be in [0, 1); 0 is off")
        if layers not in get_args(Layers):
            raise ValueError(f"layers={layers!r}: choose from {get_args(Layers)}")
        check_schedule(
            finetune_epochs=finetune_epochs, learning_rate=learning_rate, batch_size=batch_size
        )
        self.share = share
        self.finetune_epochs = finetune_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.layers = layers
        self._whole: Split | None = None  # between adapt and fit

    @property
    def changes_client(self) -> bool:
        """Unless it is off."""
        return self.share > 0

    def kept(self, channels: int) -> int:
        """How many of so many channels remain."""
        return channels - floor(Fraction(str(self.share)) * channels)

    def adapt(self, split: Split) -> Split:
        """Make room for the channels that remain; `fit` says which. Both sides are copies."""
        if not self.changes_client:
            return split
        self._whole = split
        specs = split.cut.tensors
        kept = [self.kept(channels_of(spec.shape)) for spec in specs]
        client = PrunedClient(split.client, specs, self.kept, within=self.layers == "all")
        server = FillingServer(split.server, specs, kept)
        return Split(split.cut, client.eval(), server.eval())

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Choose the channels, and train both sides; nothing at share 0.

        Raises:
            TypeError: The split was not made by `adapt` of this object.
        """
        if not self.changes_client:
            return
        client, server, whole = split.client, split.server, self._whole
        if not (isinstance(client, PrunedClient) and isinstance(server, FillingServer) and whole):
            raise TypeError("fit() takes the split that adapt() returned")
        worth = importance(whole, train, batch_size=self.batch_size, groups=client.inner)
        best = [each.topk(self.kept(len(each))).indices.sort().values for each in worth]
        client.choose(whole.client, best)
        server.choose(best[: len(client.kept)])
        self._whole = None

        def loss(images: Tensor, labels: Tensor) -> Tensor:
            return functional.cross_entropy(server(client(images)), labels)

        fine_tune(
            [client, server],
            loss,
            train,
            epochs=self.finetune_epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            generator=generator,
            on_step=on_step,
        )

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Return the features: the client already sends what remains."""
        del generator
        return features

    def guarantee(self) -> Guarantee:
        """Empirical."""
        return Guarantee(
            "empirical", f"{100 * self.share:.3g} % of the channels removed; no formal guarantee"
        )
