"""Easy images are answered on the device and never sent."""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.exit_head import (
    ExitHead,
    best_temperature,
    log_odds,
    moments,
    pooled,
    thresholds,
)
from defenses.fine_tuning import check_schedule, fine_tune
from splitbench.data.images import LabeledImages
from splitbench.defense import Defense, OnStep, silent
from splitbench.exits import Answered
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors
from splitbench.rng import isolated
from splitbench.split import Split, stops, walk

BATCH = 256  # images that pass the client at once where nothing is trained


class EarlyExit(Defense):
    """Answers on the device what a small classifier at an exit is sure of; sends the rest.

    There is an exit at the cut, and one after each of some layers before it: an image that leaves
    there costs no more of the client. A classifier is linear in what it sees, standardised and
    averaged over a coarse grid, and trained behind the frozen client. On a part of the train role
    that is held out, a temperature makes its probabilities honest and a threshold says who is sure:
    every exit takes an equal part of `share`, the surest of the images that no exit before it took.
    An image leaves at the first exit that is sure. Of it no message is sent, which anybody sees;
    the others are released as they are. With a larger share no threshold rises, so that every image
    that stayed stays.

    Args:
        share: Of the images that stay on the device, in [0, 1]; 0 turns the defense off. Other
            images than those held out may reach the thresholds more or less often.
        after: Layers before the cut that have an exit, too, in the order in which they run: names
            of cuts of one tensor or of modules, at whose ends it is.
        side: Side of the grid over which image-like features are averaged, >= 1; tokens are
            averaged over all of them.
        held_out: Share of the train role that chooses temperatures and thresholds, in (0, 1).
        head_epochs: Epochs of training each classifier on the others, >= 0.
        learning_rate: First step size (Adam, cosine decay), > 0.
        batch_size: Images per training step, > 0.

    Threat model:
        Whoever reads the messages, the server included, with the weights of the client and the
        classifiers, their temperatures and thresholds: of images that stay they see nothing but
        that they stay. By which exit is no part of any message, for whatever is sent has passed
        all of them: it is seen by who sees when the device answers, who is not in this model. For
        images that are sent nobody is kept out, and nothing is secret.

    Guarantee:
        Empirical, and none for what is sent. That an image stays tells that the device is sure.

    Known to fall to:
        Every attack on the undefended release, for the images that are sent: these are the
        unusual ones. The decision itself, a side channel: some classes stay more often, and with
        exits before the cut it depends on more than the features that are sent. A clock beside the
        device, which tells the exit and so more about the class.

    Deviations from the paper:
        Exits are linear; trained afterwards, each by itself, not with the model; the decision is by
        the largest calibrated probability instead of the entropy; thresholds follow from a share.

    References:
        Teerapittayanon, McDanel, Kung. "BranchyNet: fast inference via early exiting from deep
        neural networks". ICPR 2016. arXiv:1709.01686
        Teerapittayanon, McDanel, Kung. "Distributed deep neural networks over the cloud, the edge
        and end devices". ICDCS 2017. arXiv:1709.01921
        Guo, Pleiss, Sun, Weinberger. "On calibration of modern neural networks". ICML 2017.
        arXiv:1706.04599

    Example:
        >>> EarlyExit(share=0.3).exits, EarlyExit(share=0.0).exits
        (True, False)
        >>> EarlyExit(share=0.3, after=["layer1", "layer2"]).stops
        ('layer1', 'layer2')
    """

    stochastic: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    off: ClassVar[dict[str, object] | None] = {"share": 0.0}
    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = ("share", "up")
    # The classifiers are the same for all shares. Not nested for who lacks the inner layers: see
    # `Defense.changes_client`, which such exits imply.
    nested: ClassVar[Literal["no", "all", "multiples"]] = "all"

    def __init__(
        self,
        *,
        share: float,
        after: Sequence[str] = (),
        side: int = 4,
        held_out: float = 0.2,
        head_epochs: int = 10,
        learning_rate: float = 1e-2,
        batch_size: int = 64,
    ) -> None:
        super().__init__()
        if not 0 <= share <= 1:
            raise ValueError(f"share={share}: must be in [0, 1]; 0 is off")
        if side < 1:
            raise ValueError(f"side={side}: must be at least 1")
        if not 0 < held_out < 1:
            raise ValueError(f"held_out={held_out}: must be between 0 and 1")
        check_schedule(
            finetune_epochs=head_epochs, learning_rate=learning_rate, batch_size=batch_size
        )
        self.share = share
        self.after = after
        self.side = side
        self.held_out = held_out
        self.head_epochs = head_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.heads = nn.ModuleList(ExitHead() for _ in (*after, "the cut"))

    @property
    def exits(self) -> bool:
        """Unless it is off."""
        return self.share > 0

    @property
    def stops(self) -> tuple[str, ...]:
        """The layers that have an exit before the cut."""
        return tuple(self.after) if self.exits else ()

    def adapt(self, split: Split) -> Split:
        """Return the split as it is.

        Raises:
            ValueError: A layer is not before the cut.
        """
        stops(split.client, self.stops)
        return split

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Train the classifiers, then calibrate them; nothing where the defense is off.

        Raises:
            ValueError: Too few images to hold any out, or to train on the others.
        """
        if not self.exits:
            return
        few = math.ceil(self.held_out * len(train))
        if not 0 < few < len(train):
            raise ValueError(f"held_out={self.held_out} of {len(train)} images leaves nothing")
        rows = self._rows(split, train)
        order = torch.randperm(len(train), generator=generator).to(rows[0].device)
        for head, seen in zip(self._heads, rows, strict=True):
            self._train(head, seen, train, order.split([few, len(train) - few]), generator, on_step)
        odds = [
            log_odds(head(seen[order[:few]])) for head, seen in zip(self._heads, rows, strict=True)
        ]
        total = max(1, round(self.share * few))
        for head, least in zip(self._heads, thresholds(odds, total), strict=True):
            head.be_sure_from(least)

    def answered(self, features: Tensors) -> Answered | None:
        """Of which images the classifier at the cut is sure, and what it says.

        Raises:
            RuntimeError: `fit` was not called and no fitted state was loaded.
        """
        return self._answered(self._heads[-1], features) if self.exits else None

    def answered_early(self, stop: str, values: Tensors) -> Answered:
        """Of which images the classifier after a layer is sure, and what it says.

        Raises:
            RuntimeError: `fit` was not called and no fitted state was loaded.
        """
        return self._answered(self._heads[self.stops.index(stop)], values)

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Return the features: what is sent is sent as it is."""
        del generator
        return features

    def guarantee(self) -> Guarantee:
        """Empirical."""
        return Guarantee(
            "empirical",
            f"nothing is sent of about {self.share:.0%} of the images, all features of the others",
        )

    @property
    def _heads(self) -> list[ExitHead]:
        return [head for head in self.heads if isinstance(head, ExitHead)]

    def _answered(self, head: ExitHead, values: Tensors) -> Answered:
        logits = head(pooled(values, self.side))
        return Answered(head.sure(logits), logits)

    @torch.no_grad()
    def _rows(self, split: Split, train: LabeledImages) -> list[Tensor]:
        """Pooled values of all images at each exit, ``(n, width)``: the client is frozen."""
        device = next((p.device for p in split.client.parameters()), torch.device("cpu"))
        parts = torch.arange(len(train)).split(BATCH)
        images = (train.images(index).to(device) for index in parts)
        rows = (
            [pooled(values, self.side) for values in walk(split.client, batch, self.stops)]
            for batch in images
        )
        return [torch.cat(seen) for seen in zip(*rows, strict=True)]

    def _train(
        self,
        head: ExitHead,
        rows: Tensor,
        train: LabeledImages,
        parts: Sequence[Tensor],
        generator: torch.Generator,
        on_step: OnStep,
    ) -> None:
        """Fit one classifier, and its temperature on the held-out images, the first part."""
        held, used = parts
        labels = train.labels.to(rows.device)
        mean, scale = moments(rows[used])
        standard = (rows - mean) / scale
        dressed = LabeledImages(standard[used][..., None, None], labels[used], train.classes)
        linear = self._classifier(dressed, generator, on_step)
        with torch.no_grad():
            temperature = best_temperature(linear(standard[held]), labels[held])
        head.take(linear, mean, scale, temperature)

    def _classifier(
        self, rows: LabeledImages, generator: torch.Generator, on_step: OnStep
    ) -> nn.Linear:
        """A linear classifier of rows that are dressed as images of one pixel."""
        with isolated(generator):
            linear = nn.Linear(rows.shape[0], len(rows.classes))
        linear.to(rows.pixels.device)
        fine_tune(
            [linear],
            lambda row, labels: functional.cross_entropy(linear(row.flatten(1)), labels),
            rows,
            epochs=self.head_epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            generator=generator,
            on_step=on_step,
        )
        return linear
