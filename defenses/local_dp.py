"""What the locally private defenses have in common: a piece, not a defense."""

import copy
import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from defenses.bottleneck import NarrowingClient, WideningServer
from defenses.fine_tuned_server import FineTunedServer
from defenses.fine_tuning import fine_tune
from defenses.learnt_buffers import LearntBuffers
from splitbench.data.images import LabeledImages
from splitbench.defense import OnStep, silent
from splitbench.release import Tensors
from splitbench.split import Split

COMPANIONS = 4  # of one image, in batches that show whether the client couples images
SAME = 1e-4  # of the largest feature: what arithmetic may change
QUANTILE = 0.5  # of the norms on the train role: the bound where none is given


class LocalDp(LearntBuffers, FineTunedServer, ABC):
    """Clips the features of each example to a norm, all live tensors together, and adds noise.

    Any two inputs are then at most two norms apart, which is the sensitivity that the noise is
    calibrated to. Subclasses give the norm and the noise.
    """

    stochastic: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    # However large epsilon is, features are still clipped: there is no setting at which it is off.
    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = ("epsilon", "down")
    # At the same bound: both kinds of noise are self-decomposable.
    nested: ClassVar[Literal["no", "all", "multiples"]] = "all"
    order: ClassVar[Literal[1, 2]]

    def __init__(
        self,
        *,
        epsilon: float,
        clip: float | None,
        channels: int | None,
        stride: int,
        finetune_epochs: int,
        learning_rate: float,
        batch_size: int,
    ) -> None:
        super().__init__(
            finetune_epochs=finetune_epochs, learning_rate=learning_rate, batch_size=batch_size
        )
        for name, value in (("epsilon", epsilon), ("clip", clip)):
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name}={value}: must be positive and finite")
        if stride < 1 or (channels is not None and channels < 1):
            raise ValueError(f"channels={channels}, stride={stride}: must be at least 1")
        if channels is None and stride != 1:
            raise ValueError(f"stride={stride}: is that of a bottleneck, which needs channels")
        if channels is not None and finetune_epochs == 0:
            raise ValueError(f"channels={channels}: a bottleneck is learnt; set finetune_epochs")
        self.epsilon = epsilon
        self.clip = clip
        self.channels = channels
        self.stride = stride

    @property
    @abstractmethod
    def relative_std(self) -> float:
        """Standard deviation of the noise on each value, in units of the bound."""

    @abstractmethod
    def noise(self, like: Tensor, *, generator: torch.Generator) -> Tensor:
        """Independent noise of mean 0 and variance 1, shaped like a tensor."""

    @property
    def changes_client(self) -> bool:
        """Whether there is a bottleneck, which is learnt on both sides."""
        return self.channels is not None

    @property
    def bound(self) -> float:
        """The norm that features are clipped to.

        Raises:
            RuntimeError: It is to be measured, and nothing was fitted or loaded yet.
        """
        if self.clip is not None:
            return self.clip
        if "norm" not in self._buffers:
            raise RuntimeError("the bound of the norm is unknown: call fit() before protect()")
        return float(self.get_buffer("norm"))

    def snr_db(self, *, values: int) -> float:
        """Power of clipped features over that of the noise, at best where evenly spread.

        Args:
            values: That the norm is spread over: released values of one example, >= 1.
        """
        each = values ** (-1 / self.order)
        return 20 * math.log10(each / self.relative_std)

    def adapt(self, split: Split) -> Split:
        """Put a bottleneck between copies of both sides, where there is one.

        Raises:
            ValueError: A tensor of the cut is neither image-like nor tokens nor a vector, or has
                fewer channels.
        """
        if self.channels is None:
            return split
        specs, size = split.cut.tensors, {"channels": self.channels, "stride": self.stride}
        client = NarrowingClient(copy.deepcopy(split.client), specs, **size)
        server = WideningServer(copy.deepcopy(split.server), specs, **size)
        return Split(split.cut, client.eval(), server.eval())

    @torch.no_grad()
    def calibrate(self, split: Split, train: LabeledImages) -> None:
        """Measure the bound, where none is given: the median norm on the train role.

        Nothing else is looked at; that the bound depends on these images says nothing about those
        that are sent later.

        Raises:
            ValueError: The median is zero, or not finite.
        """
        if self.clip is not None:
            return
        device = next((p.device for p in split.client.parameters()), torch.device("cpu"))
        parts = torch.arange(len(train)).split(256)
        norms = [self.norms(split.client(train.images(part).to(device))) for part in parts]
        median = torch.cat(norms).quantile(QUANTILE)
        if not (torch.isfinite(median) and median > 0):
            raise ValueError(
                f"the features have a median norm of {float(median)} on the train role: there is "
                "nothing to clip; choose another cut"
            )
        self.register_buffer("norm", median)

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Measure the bound; train the server under noise, and the bottleneck where there is one.

        The bottleneck and what lies around it learn by cross-entropy to make most of the norm.

        Raises:
            ValueError: The client couples the images of a batch; or as `calibrate`.
        """
        refuse_coupled(split.client, train, generator=generator)
        if not self.changes_client:
            super().fit(split, train, generator=generator, on_step=on_step)
            return
        self.calibrate(split, train)

        def loss(images: Tensor, labels: Tensor) -> Tensor:
            sent = self.protect(tuple(split.client(images)), generator=generator)
            return functional.cross_entropy(split.server(sent), labels)

        fine_tune(
            [split.client, split.server],
            loss,
            train,
            epochs=self.finetune_epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            generator=generator,
            on_step=on_step,
        )

    def norms(self, features: Tensors) -> Tensor:
        """Norm of each example over all its tensors, ``(b,)``, in double precision."""
        parts = [
            torch.linalg.vector_norm(f.flatten(1), self.order, dim=1, dtype=torch.float64)
            for f in features
        ]
        norms: Tensor = torch.linalg.vector_norm(torch.stack(parts), self.order, dim=0)
        return norms

    def clipped(self, features: Tensors) -> Tensors:
        """Features of at most the bound's norm; shorter ones as they are, directions kept.

        Args:
            features: Finite tensors, each ``(b, *shape)``.

        Raises:
            RuntimeError: As `bound`.
        """
        scale = self.bound / self.norms(features).clamp(min=self.bound)
        return tuple(f * scale.to(f.dtype).view(-1, *[1] * (f.ndim - 1)) for f in features)

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Clip each example, and add noise, which is drawn in double precision.

        Returns:
            Tensors of the same shapes.

        Raises:
            RuntimeError: As `bound`.
        """
        std = self.relative_std * self.bound
        return tuple(
            (f + std * self.noise(f.double(), generator=generator)).to(f.dtype)
            for f in self.clipped(features)
        )

    def place(self, features: Tensors) -> Tensors:
        """The clipped features."""
        return self.clipped(features)

    def stds(self, features: Tensors) -> Tensors:
        """Standard deviation of the noise on each tensor, shaped to multiply it."""
        return tuple(f.new_tensor(self.relative_std * self.bound) for f in features)

    def signal_and_noise(self, features: Tensors) -> tuple[Tensors, Tensors]:
        """The clipped features, and the variance of the noise on them."""
        return self.clipped(features), tuple(std.square() for std in self.stds(features))


@torch.no_grad()
def refuse_coupled(client: nn.Module, train: LabeledImages, *, generator: torch.Generator) -> None:
    """Look whether the features of an image change with the others of its batch.

    Args:
        client: Images to features; what it draws, it draws from the generator.
        train: The train role; the first images are looked at.
        generator: Left as it was.

    Raises:
        ValueError: They do.
    """
    device = next((p.device for p in client.parameters()), torch.device("cpu"))
    shown = train.images(torch.arange(1 + 2 * COMPANIONS) % len(train)).to(device)
    first, others = shown[:1], shown[1:]
    before = generator.get_state()
    seen = []
    for beside in (first.repeat(COMPANIONS, 1, 1, 1), *others.split(COMPANIONS)):
        generator.set_state(before)  # the same draws for the first image of each batch
        seen.append(tuple(f[0] for f in client(torch.cat([first, beside]))))
    generator.set_state(before)
    alone, *together = seen
    pairs = [pair for found in together for pair in zip(found, alone, strict=True)]
    if any(bool((one - by).abs().max() > SAME * by.abs().max()) for one, by in pairs):
        raise ValueError(
            "no promise about one input can be made where the client couples the images of a "
            "batch; choose a model without statistics of the batch, such as le_net5, or replace "
            "batch normalisation that keeps none by torch.nn.GroupNorm"
        )
