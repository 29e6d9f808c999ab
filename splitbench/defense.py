"""What the device does to its features before they leave."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from splitbench.codec import Codec
from splitbench.data.images import LabeledImages
from splitbench.described import Described
from splitbench.exits import Answered
from splitbench.guarantee import NO_GUARANTEE, Guarantee
from splitbench.key import KeyAction
from splitbench.progress import Progress
from splitbench.release import Tensors
from splitbench.split import Split

OnStep = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Ignore progress."""
    del progress


class Defense(Described, nn.Module, ABC):
    """Changes what is released; may also change or train the two sides of the split.

    A deployment calls, in this order: `adapt` once (structure), `fit` once (training, on the train
    role only), then `protect` for every message, in training and in inference alike, and
    `restore` on the server. Where it has `exits`, `answered_early` (at each of its `stops`) and
    `answered` come before every message.

    Class attributes:
        stochastic: `protect` draws fresh randomness for every message, also in eval mode.
        differentiable: Gradients flow through `protect`.
        off: Constructor keywords at which the release equals the undefended one.
        knob: The keyword that sets the strength, with the direction in which it protects more.
        nested: Whether a stronger release can be computed from a weaker one, all else being
            equal: for ``all`` settings of the knob (more noise of a self-decomposable kind), for
            ``multiples`` (a quantiser whose cells are unions of finer ones), or ``no``.
        normal: The noise that `signal_and_noise` tells of is normal, and independent from value to
            value. Several such noises in a `Chain` are one.
        keyed: `protect` and `restore` share a secret that `fit` draws, kept in buffers. It is the
            only thing about a defense that an adversary may lack (`ThreatModel.key`), and never
            what the ranked one lacks.
    """

    stochastic: ClassVar[bool]
    differentiable: ClassVar[bool]
    off: ClassVar[dict[str, object] | None] = None
    knob: ClassVar[tuple[str, Literal["up", "down"]] | None] = None
    nested: ClassVar[Literal["no", "all", "multiples"]] = "no"
    normal: ClassVar[bool] = False
    keyed: ClassVar[bool] = False

    @property
    def key_action(self) -> KeyAction | None:
        """How the key acts, where it is an element of a group that acts on the features."""
        return None

    def rekeyed(self, *, generator: torch.Generator) -> "Defense":
        """The same fitted mechanism with another key, drawn from the same distribution.

        What an adversary without the key can build for itself. A defense without a key is
        returned as it is; a keyed one returns a copy and stays as it is.
        """
        del generator
        if self.keyed:
            raise NotImplementedError(f"{type(self).__name__} is keyed: it must say how to rekey")
        return self

    @property
    def changes_client(self) -> bool:
        """Whether `adapt` or `fit` changes what the client computes, or it may stop on the way.

        The features of such a deployment cannot be shared between cuts, and what it releases does
        not follow from the undefended features at its cut.
        """
        return bool(self.stops)

    @property
    def exits(self) -> bool:
        """Whether the device answers some images by itself, and sends nothing of them.

        That nothing came is visible to the adversary; by which exit an image left is not.
        """
        return False

    @property
    def stops(self) -> tuple[str, ...]:
        """Layers of the client before the cut after which the device may answer (`split.walk`)."""
        return ()

    def answered_early(self, stop: str, values: Tensors) -> Answered:
        """Decide which images stay on the device, as `answered` does, before the cut is reached.

        Args:
            stop: One of `stops`.
            values: What comes out of that layer.
        """
        raise NotImplementedError(
            f"{type(self).__name__} stops after {stop!r}: it must say what it answers there"
        )

    def answered(self, features: Tensors) -> Answered | None:
        """Decide which images stay on the device, and answer them; None without exits.

        Like what is released, the decision about an image depends on no other one.

        Args:
            features: The client's, before `protect`.
        """
        del features
        return None

    @property
    def codec(self) -> Codec | None:
        """The codec that this defense brings; None leaves the choice to the experiment."""
        return None

    def adapt(self, split: Split) -> Split:
        """Return the split whose structure this defense needs; the default keeps it.

        New modules may initialise themselves as usual: an experiment calls this with torch's
        global generator seeded, and puts it back afterwards (`splitbench.rng.isolated`).
        """
        return split

    def fit(
        self,
        split: Split,
        train: LabeledImages,
        *,
        generator: torch.Generator,
        on_step: OnStep = silent,
    ) -> None:
        """Train or calibrate on the train role; may change the modules of `split` in place."""
        del split, train, generator, on_step

    @abstractmethod
    def protect(self, features: Tensors, *, generator: torch.Generator) -> Tensors:
        """Turn the client's features into what leaves the device (before the codec).

        Args:
            features: Live tensors of the cut, each ``(b, *shape)``; left untouched.
            generator: Source of the message's fresh randomness.

        Returns:
            Tensors that the server accepts after `restore`.
        """

    def restore(self, tensors: Tensors) -> Tensors:
        """Server side of the defense; the default is the identity."""
        return tensors

    def pool(self, observations: list[Tensors]) -> Tensors:
        """Combine several releases of the same input into one that serves the adversary best.

        The default is the mean: sufficient for Gaussian noise, and consistent for every
        zero-mean noise. Where nothing is random they are all equal, and the first is returned.
        """
        if not self.stochastic:
            return observations[0]
        return tuple(torch.stack(parts).mean(0) for parts in zip(*observations, strict=True))

    def negative_log_likelihood(
        self, observed: Tensors, features: Tensors, *, observations: int = 1
    ) -> Float[Tensor, " b"] | None:
        """Exact ``-log p(observed | features)`` up to a constant, per example.

        None for deterministic defenses, where the codec's distance is used instead.
        """
        del observed, features, observations
        return None

    def cell_surprise(
        self, low: Tensors, high: Tensors, features: Tensors
    ) -> Float[Tensor, " b"] | None:
        """``-log P`` that one release lies between these ends, which belong to it, per example.

        The likelihood where something rounds the release afterwards (`defenses.chain`).

        Args:
            low: Lower ends for each released tensor, possibly infinite.
            high: Upper ends, likewise.
            features: The client's.

        Returns:
            ``(b,)``; None where it is not known.
        """
        del low, high, features
        return None

    def place(self, features: Tensors) -> Tensors:
        """What the law of a release is around, such as clipped features; by default the features.

        Of a release without noise: what the codec is given, unless the codec's own `distance` tells
        how features explain a message. It may hold more than the means, such as variances that the
        client computes.

        Differentiable in forward mode, almost everywhere: `splitbench.fisher` pushes through it.
        """
        return features

    def expected(self, features: Tensors) -> Tensors:
        """What a release is held against where it has no likelihood, in its shapes.

        By default its `place`. Differentiable.
        """
        return self.place(features)

    def information(self, features: Tensors) -> Tensors | None:
        """Fisher information that one release carries about each value of its `place`, in order.

        For additive noise it is ``1 / variance`` if that is normal. Shapes broadcast to those of
        the place. None where the release does not depend smoothly on the features (rounding,
        erasing) or has no noise; never 0 for these.

        Args:
            features: The client's.
        """
        del features
        return None

    def signal_and_noise(self, features: Tensors) -> tuple[Tensors, Tensors] | None:
        """What noise is added to, and its variance, where both are known (`splitbench.signal`).

        A constant that is added to every message belongs to neither. Variances broadcast to the
        tensors that they belong to. None where the randomness is of another kind, and where there
        is none.
        """
        del features
        return None

    def guarantee(self) -> Guarantee:
        """What one message promises about the input behind it; the default promises nothing.

        How the client was trained has no part in it, nor has differential privacy in training:
        see `Guarantee`.
        """
        return NO_GUARANTEE
