"""Training of the task model under differential privacy of its training images."""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from splitbench.data.images import LabeledImages
from splitbench.progress import Progress
from splitbench.rng import isolated
from splitbench.training import Augmentation, TrainingReport, augmented


@dataclass(frozen=True, kw_only=True)
class PrivateTraining:
    """DP-SGD: every image's gradient is clipped, and noise is added to their sum.

    The promise is about the images that the model was *trained* on: whether any one of them was
    among them changes the probability of any trained model by no more than a factor ``e^epsilon``,
    but for a probability of delta. It says nothing about an image that the model is *used* on: a
    release at inference is the same function of its image as ever, and its epsilon is infinite
    (`splitbench.guarantee.Guarantee`). It is here to show that.

    Batches are drawn as the accountant assumes, each image by a coin of its own; noise and clipping
    are those of Opacus, and so is the accountant (Renyi differential
    privacy, an upper bound that costs about a twentieth more noise than the tightest one).

    Attributes:
        epsilon: Of the whole training, > 0.
        delta: Likewise, in (0, 1 / images).
        clip: Bound of the norm of one image's gradient, > 0.
        epochs: Expected passes over the images, >= 1.
        batch_size: Expected images of a batch, >= 1.
        learning_rate: First step size of Adam, falling to zero along a cosine, > 0.
        augment: Of each image on its own; see `splitbench.training.Training`.

    References:
        Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang. "Deep learning with differential
        privacy". CCS 2016. arXiv:1607.00133
        Mironov, Talwar, Zhang. "Renyi differential privacy of the sampled Gaussian mechanism".
        2019. arXiv:1908.10530

    Raises:
        ValueError: A value is out of its range.
    """

    epsilon: float = 8.0
    delta: float = 1e-5
    clip: float = 1.0
    epochs: int = 30
    batch_size: int = 256
    learning_rate: float = 5e-3
    augment: Augmentation = "none"

    def __post_init__(self) -> None:
        for name in ("epsilon", "clip", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)}: must be positive")
        if not 0 < self.delta < 1:
            raise ValueError(f"delta={self.delta}: must be in (0, 1), below one over the images")
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(f"epochs={self.epochs}, batch_size={self.batch_size}: at least 1")

    @property
    def label(self) -> str:
        """How a model that was trained so is told from one that was not."""
        return f"DP-SGD epsilon={self.epsilon:g} delta={self.delta:g}"

    def fit(
        self,
        model: nn.Module,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: Callable[[Progress], None] | None = None,
    ) -> TrainingReport:
        """Train a classifier in place, on the device of the images, and leave it in eval mode.

        Args:
            model: Images in [0, 1] to logits ``(b, classes)``, without layers that couple the
                examples of a batch.
            train: Labelled images; nothing is held out, for a choice by them would have a price.
            generator: Decides the batches, the augmentation and the noise.
            on_step: Called after every step.

        Raises:
            ValueError: The model couples the examples of a batch, or delta is too large for so
                many images.
        """
        began = time.monotonic()
        _refuse_coupled(model)
        if self.delta >= 1 / len(train):
            raise ValueError(
                f"delta={self.delta:g}: with {len(train)} images it must be below "
                f"{1 / len(train):.2g}, or publishing one of them outright would be allowed"
            )
        model.to(train.pixels.device).train()
        with isolated(generator):
            loss = self._descend(model, train, generator, on_step or (lambda _: None))
        model.eval()
        return TrainingReport(self.epochs, self.epochs, loss, None, time.monotonic() - began)

    def noise_multiplier(self, images: int) -> float:
        """Standard deviation of the noise on a sum of gradients, in units of `clip`."""
        from opacus.accountants.utils import get_noise_multiplier

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of orders at the end of its grid
            found: float = get_noise_multiplier(
                target_epsilon=self.epsilon,
                target_delta=self.delta,
                sample_rate=self._rate(images),
                steps=self._steps(images),
                accountant="rdp",
            )
        return found

    def _rate(self, images: int) -> float:
        return min(1.0, self.batch_size / images)

    def _steps(self, images: int) -> int:
        return self.epochs * max(1, round(1 / self._rate(images)))

    def _descend(
        self,
        model: nn.Module,
        train: LabeledImages,
        generator: torch.Generator,
        on_step: Callable[[Progress], None],
    ) -> float:
        from opacus.grad_sample import GradSampleModule
        from opacus.optimizers import DPOptimizer

        each = GradSampleModule(model)
        steps, device = self._steps(len(train)), train.pixels.device
        seed = int(torch.randint(2**62, (), generator=generator))
        optimizer = DPOptimizer(
            torch.optim.Adam(model.parameters(), lr=self.learning_rate),
            noise_multiplier=self.noise_multiplier(len(train)),
            max_grad_norm=self.clip,
            expected_batch_size=max(1, round(self._rate(len(train)) * len(train))),
            generator=torch.Generator(device).manual_seed(seed),
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        value = 0.0
        try:
            for step, (images, labels) in enumerate(self._batches(train, steps, generator), 1):
                optimizer.zero_grad()
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "Full backward hook")  # images need none
                    loss = F.cross_entropy(each(images), labels)
                    loss.backward()
                optimizer.step()
                schedule.step()
                value = loss.item()
                on_step(Progress(step, steps, value))
        finally:
            each.to_standard_module()
        return value

    def _batches(
        self, train: LabeledImages, steps: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches in which each image is with the same probability, whoever else is."""
        for _ in range(steps):
            drawn = torch.rand(len(train), generator=generator) < self._rate(len(train))
            index = drawn.nonzero()[:, 0].to(train.labels.device)
            yield augmented(train.images(index), self.augment, generator), train.labels[index]


def _refuse_coupled(model: nn.Module) -> None:
    from opacus.validators import ModuleValidator

    if ModuleValidator.validate(model, strict=False):
        kinds = {type(m).__name__ for m in model.modules() if _coupled(m)}
        raise ValueError(
            f"{', '.join(sorted(kinds)) or type(model).__name__}: no promise about one image can "
            "be made where a layer couples the images of a batch; choose a model without batch "
            "normalisation, such as le_net5 or six_conv, or replace it by torch.nn.GroupNorm"
        )


def _coupled(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)  # noqa: SLF001 (its only name)
