"""A distilled bottleneck of whole numbers, paid by the bit and entropy-coded."""

import math
from functools import partial
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from defenses.distillation import Distilled, Teacher
from defenses.fine_tuning import fine_tune
from defenses.learned_prior import LearnedPrior
from splitbench.codecs.entropy_coded import EntropyCoded
from splitbench.data.images import LabeledImages
from splitbench.defense import OnStep, silent
from splitbench.guarantee import Guarantee
from splitbench.release import Tensors
from splitbench.rng import uniform_like
from splitbench.split import Split

LIMIT = 15  # largest magnitude that is sent


class EntropicStudent(Distilled):
    """Sends few channels, rounded, in as many bits as a learnt prior finds them surprising.

    Client and server start from the undefended model, the teacher, with a linear bottleneck after
    the cut and an adapter before the server. First both sides and the prior are trained, with
    uniform noise in place of the rounding, on::

        temperature^2 KL(teacher || student) + alpha CE(labels) + beta bits

    where the bits are those of one message under the prior, which knows each channel but no
    neighbours. Then the client is left as it is, and the server learns to read what is really sent:
    rounded values, from the coder's bytes. What the task does not need costs bits, and what is
    not sent no attack can rebuild.

    The message is as long as it is surprising. That is a side channel; it is part of the release.

    Args:
        beta: Price of a bit, > 0.
        channels: Released channels (image-like features) or values per token or vector, >= 1,
            and at most as many as the cut has.
        stride: Side of the patches that become one released position, >= 1.
        epochs: Epochs of the first stage, >= 1.
        finetune_epochs: Epochs of the second stage, >= 0.
        learning_rate: First step size of each stage (Adam, cosine decay), > 0.
        batch_size: Images per step, > 0.
        temperature: Softens both predictions, > 0.
        alpha: Weight of the cross-entropy with the labels, >= 0.

    Threat model:
        Whoever reads the messages, the server included, with the weights, the prior and the
        length of each message. Rounding is without randomness and there is no key: secret is
        what the bits leave out. The training is trusted.

    Guarantee:
        Empirical. A message of n bits tells n bits at most, of an image like those that it was
        trained on some n on average; but a single image may take more.

    Known to fall to:
        A decoder trained on the release, as far as the bits go; generative priors, which restore
        what is typical of the class.

    Deviations from the paper:
        The student's client is the full client plus a linear bottleneck rather than a slimmer
        network with normalisation by divisive gains. The first stage matches the teacher's
        predictions (and the labels) rather than its features behind the cut, which would keep more
        of the image than the task needs. The prior is a table for each channel, interpolated
        between the numbers, where the paper has a small network for a cumulative distribution.
        Numbers end at 15. Batch normalisation keeps the teacher's statistics.

    References:
        Matsubara, Yang, Levorato, Mandt. "Supervised compression for resource-constrained edge
        computing systems". WACV 2022. arXiv:2108.11898
        Balle, Minnen, Singh, Hwang, Johnston. "Variational image compression with a scale
        hyperprior". ICLR 2018. arXiv:1802.01436

    Example:
        >>> EntropicStudent(beta=0.001).codec.limit
        15
    """

    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = ("beta", "up")

    def __init__(
        self,
        *,
        beta: float,
        channels: int = 8,
        stride: int = 1,
        epochs: int = 4,
        finetune_epochs: int = 2,
        learning_rate: float = 2e-3,
        batch_size: int = 64,
        temperature: float = 2.0,
        alpha: float = 1.0,
    ) -> None:
        super().__init__(
            channels=channels,
            stride=stride,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            temperature=temperature,
            alpha=alpha,
        )
        if not 0 < beta < math.inf:
            raise ValueError(f"beta={beta}: must be positive and finite")
        if finetune_epochs < 0:
            raise ValueError(f"finetune_epochs={finetune_epochs}: must not be negative; 0 is off")
        self.beta = beta
        self.finetune_epochs = finetune_epochs
        self.priors = nn.ModuleList()  # made once the cut is known

    @property
    def codec(self) -> EntropyCoded:
        """What rounds, and codes with the prior as it was learnt."""
        return EntropyCoded(limit=LIMIT).fitted([prior.rows() for prior in self._tables])

    def adapt(self, split: Split) -> Split:
        """Put the bottleneck at the cut, and a prior for each tensor that comes out of it.

        Raises:
            ValueError: A tensor of the cut is neither image-like nor tokens nor a vector, or has
                fewer channels.
        """
        priors = (LearnedPrior(channels=self.channels, limit=LIMIT) for _ in split.cut.tensors)
        self.priors = nn.ModuleList(priors)
        return super().adapt(split)

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Train both sides and the prior under noise, then the server on what is sent.

        Raises:
            TypeError: The split was not made by `adapt`.
        """
        teacher = Teacher(split)
        client, server = teacher.client, teacher.server

        def taught(released: Tensors, images: Tensor, labels: Tensor) -> Tensor:
            _, wanted = teacher(images)
            return self.distillation(server(released), wanted, labels)

        def first(images: Tensor, labels: Tensor) -> Tensor:
            noisy = tuple(f + uniform_like(f, generator) - 0.5 for f in client(images))
            return taught(noisy, images, labels) + self.beta * self.bits(noisy).mean()

        def second(images: Tensor, labels: Tensor) -> Tensor:
            with torch.no_grad():
                sent = codec.transform(tuple(client(images)))
            return taught(sent, images, labels)

        train_on = partial(
            fine_tune,
            train=train,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            generator=generator,
            on_step=on_step,
        )
        train_on([client, server, self.priors], first, epochs=self.epochs)
        for prior in self._tables:
            prior.settle()
        codec = self.codec
        train_on([server], second, epochs=self.finetune_epochs)

    def bits(self, noisy: Tensors) -> Float[Tensor, " b"]:
        """Information of a message in training, for each image."""
        parts = [prior.bits(f) for prior, f in zip(self._tables, noisy, strict=True)]
        return torch.stack(parts).sum(0)

    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Return the features: the client ends in the bottleneck, and the codec rounds."""
        del generator
        return features

    def guarantee(self) -> Guarantee:
        """Empirical."""
        return Guarantee("empirical", f"a message at {self.beta:g} per bit; no formal guarantee")

    @property
    def _tables(self) -> list[LearnedPrior]:
        return [prior for prior in self.priors if isinstance(prior, LearnedPrior)]
