"""What an adversary reads off a release without rebuilding the image: a property, a person."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from splitbench.described import Described
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.threat import Access, Surface


@dataclass(frozen=True, eq=False)
class Known:
    """What the adversary knows about photographs of its own.

    Attributes:
        train: Value of the secret in each image of ``surface.auxiliary``, int64 ``(n,)``, >= 0.
        validation: In each image of ``surface.validation``.
        values: How many values the secret can have: columns of the scores.
        gallery: Where persons are to be recognised: photographs on file of those who may be under
            attack, float ``(g, c, h, w)`` in [0, 1]. `train` and `validation` then show others.
        on_file: Who is in each, int64 ``(g,)``, below `values`.
    """

    train: Tensor
    validation: Tensor
    values: int
    gallery: Tensor | None = None
    on_file: Tensor | None = None

    def __post_init__(self) -> None:
        if self.values < 2:
            raise ValueError(f"values={self.values}: what has one value only is no secret")
        if (self.gallery is None) != (self.on_file is None):
            raise ValueError("a gallery and who is in its photographs belong together")


class Inference(Described, ABC):
    """Infers a property of the image behind a release. One object attacks one surface.

    Class attributes:
        needs: Exactly what it asks of the surface; a contract check compares it with what it used.
        secret: What it infers: an ``attribute`` whose values the adversary knows for images of its
            own, or the ``identity`` of a person of whom it has photographs on file.
        side_channel: Reads something else than the values of the release, such as its length.
    """

    needs: ClassVar[frozenset[Access]]
    secret: ClassVar[Literal["attribute", "identity"]] = "attribute"
    side_channel: ClassVar[bool] = False

    fitted: bool = False

    @final
    def fit(self, surface: Surface, known: Known, *, generator: torch.Generator) -> "Inference":
        """Learn what can be learnt before any target is seen, and return self."""
        for _ in self.fitting(surface, known, generator=generator):
            pass
        return self

    @final
    def fitting(
        self, surface: Surface, known: Known, *, generator: torch.Generator
    ) -> Iterator[Progress]:
        """`fit`, one step at a time: at several cuts it can be advanced side by side."""
        yield from self.learn(surface, known, generator=generator)
        self.fitted = True

    @abstractmethod
    def learn(
        self, surface: Surface, known: Known, *, generator: torch.Generator
    ) -> Iterator[Progress]:
        """Learn, yielding after each step.

        Args:
            surface: Releases of its own images; see `Surface.labelled_pairs`,
                `Surface.labelled_examples` and `Surface.validation_pairs`.
            known: What is true of these images.
            generator: Source of all randomness.
        """

    def export_state(self) -> Mapping[str, Tensor]:
        """What was learnt, as tensors, for the store."""
        return {}

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Take back what `export_state` returned, for a surface of the same shapes."""
        del state, surface
        self.fitted = True

    def says_nothing_about(self, release: Release) -> str:
        """Why it can tell nothing from such releases; empty where it might."""
        del release
        return ""

    @abstractmethod
    def infer(self, release: Release, surface: Surface) -> Float[Tensor, "b values"]:
        """Score every value for each example; the highest is the guess."""

    @final
    def __call__(self, release: Release, surface: Surface) -> Float[Tensor, "b values"]:
        """Infer, and make sure that scores are what comes out.

        Returns:
            One row per example, detached.

        Raises:
            ValueError: The release holds NaN or infinite values, or the scores do.
            RuntimeError: It was not fitted.
            ThreatModelError: It needs more than the threat model grants.
        """
        if not self.fitted:
            raise RuntimeError(f"{type(self).__name__} must be fitted before it infers")
        scores = self.infer(surface.understood(release), surface).detach()
        if scores.ndim != 2 or len(scores) != len(release):
            raise ValueError(
                f"{self!r} gave scores {tuple(scores.shape)} for {len(release)} examples"
            )
        if not bool(torch.isfinite(scores).all()):
            raise ValueError(f"{self!r} gave NaN or infinite scores")
        return scores
