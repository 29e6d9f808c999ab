"""Easy images are answered on the device and never sent."""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.exit_head import ExitHead, best_temperature, log_odds, moments, pooled
from defenses.fine_tuning import check_schedule, fine_tune
from splitbench.data.images import LabeledImages
from splitbench.defense import Defense, OnStep, silent
from splitbench.exits import Answered
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors
from splitbench.rng import isolated
from splitbench.split import Split

BATCH = 256  # images that pass the client at once where nothing is trained


class EarlyExit(Defense):
    """Answers on the device what a small classifier at the cut is sure of; sends the rest.

    The classifier is linear in the features, standardised and averaged over a coarse grid. It is
    trained behind the frozen client; on a part of the train role that is held out, a temperature
    makes its probabilities honest and a threshold is chosen that the wanted share of images
    reaches. Of images above it no message is sent, which anybody sees; the others are released as
    they are.

    Args:
        share: Of the images that stay on the device, in [0, 1]; 0 turns the defense off. Other
            images than those held out may reach the threshold more or less often.
        side: Side of the grid over which image-like features are averaged, >= 1; tokens are
            averaged over all of them.
        held_out: Share of the train role that chooses temperature and threshold, in (0, 1).
        head_epochs: Epochs of training the classifier on the others, >= 0.
        learning_rate: First step size (Adam, cosine decay), > 0.
        batch_size: Images per training step, > 0.

    Threat model:
        Whoever reads the messages, the server included, with the weights of the client and the
        classifier, its temperature and threshold: of images that stay they see nothing but that
        they stay. For images that are sent nobody is kept out, and nothing is secret.

    Guarantee:
        Empirical, and none for what is sent. That an image stays tells that the device is sure.

    Known to fall to:
        Every attack on the undefended release, for the images that are sent: these are the
        unusual ones. The decision itself, a side channel: some classes stay more often.

    Deviations from the paper:
        One exit, at the cut; trained afterwards, not with the model; the decision is by the
        largest calibrated probability instead of the entropy; the threshold follows from a share.

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
    """

    stochastic: ClassVar[bool] = False
    differentiable: ClassVar[bool] = True
    off: ClassVar[dict[str, object] | None] = {"share": 0.0}
    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = ("share", "up")
    nested: ClassVar[Literal["no", "all", "multiples"]] = "all"  # one classifier for all shares

    def __init__(
        self,
        *,
        share: float,
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
        self.side = side
        self.held_out = held_out
        self.head_epochs = head_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.head = ExitHead()

    @property
    def exits(self) -> bool:
        """Unless it is off."""
        return self.share > 0

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Train the classifier, then calibrate it; nothing where the defense is off.

        Raises:
            ValueError: Too few images to hold any out, or to train on the others.
        """
        if not self.exits:
            return
        few = math.ceil(self.held_out * len(train))
        if not 0 < few < len(train):
            raise ValueError(f"held_out={self.held_out} of {len(train)} images leaves nothing")
        rows = self._rows(split, train)
        order = torch.randperm(len(train), generator=generator).to(rows.device)
        labels = train.labels.to(rows.device)
        held, used = order[:few], order[few:]
        mean, scale = moments(rows[used])
        standard = (rows - mean) / scale
        linear = self._trained(
            LabeledImages(standard[used][..., None, None], labels[used], train.classes),
            generator,
            on_step,
        )
        with torch.no_grad():
            temperature = best_temperature(linear(standard[held]), labels[held])
        self.head.take(linear, mean, scale, temperature)
        odds = log_odds(self.head(rows[held])).sort(descending=True).values
        self.head.be_sure_from(odds[max(0, round(self.share * few) - 1)])

    def answered(self, features: Tensors) -> Answered | None:
        """Of which images the classifier is sure, and what it says.

        Raises:
            RuntimeError: `fit` was not called and no fitted state was loaded.
        """
        if not self.exits:
            return None
        logits = self.head(pooled(features, self.side))
        return Answered(self.head.sure(logits), logits)

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

    @torch.no_grad()
    def _rows(self, split: Split, train: LabeledImages) -> Tensor:
        """Pooled features of all images, ``(n, width)``: the client is frozen."""
        device = next((p.device for p in split.client.parameters()), torch.device("cpu"))
        parts = torch.arange(len(train)).split(BATCH)
        images = (train.images(index).to(device) for index in parts)
        return torch.cat([pooled(tuple(split.client(batch)), self.side) for batch in images])

    def _trained(
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
