"""What an adversary does with a release."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from splitbench.described import Described
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.threat import Access, Surface


class Attack(Described, ABC):
    """Recovers a secret from releases. One object attacks one surface: fit it once.

    Class attributes:
        needs: Exactly what it asks of the surface; a contract check compares it with what it used.
        secret: What it recovers; decides which metrics apply.
        floor: Ignores the release it is asked about (or was trained to): what it scores is known
            without any leak, and bounds leakage from below.
        gradient_free: Could have followed gradients of the client and does not, to show where these
            mislead: a row on which it is the best attack is flagged.
        per_example: Guesses for a part of a batch equal that part of the guesses for the whole.
        max_targets: Attack only this many targets (the first ones); None attacks all.
    """

    needs: ClassVar[frozenset[Access]]
    secret: ClassVar[Literal["image"]] = "image"
    floor: ClassVar[bool] = False
    gradient_free: ClassVar[bool] = False
    per_example: ClassVar[bool] = True
    max_targets: int | None = None

    fitted: bool = False

    def parts(self) -> tuple["Attack", ...]:
        """Attacks that this one builds on; whoever runs it fits them first."""
        return ()

    def with_parts(self, parts: tuple["Attack", ...]) -> "Attack":
        """A copy that builds on these (fitted) parts; called only where `parts` is not empty."""
        del parts
        return self

    @final
    def fit(self, surface: Surface, *, generator: torch.Generator) -> "Attack":
        """Learn what can be learnt before any target is seen, and return self."""
        for _ in self.fitting(surface, generator=generator):
            pass
        return self

    @final
    def fitting(self, surface: Surface, *, generator: torch.Generator) -> Iterator[Progress]:
        """`fit`, one step at a time: several attacks can be advanced side by side."""
        for part in self.parts():
            if not part.fitted:
                yield from part.fitting(surface, generator=generator)
        yield from self.learn(surface, generator=generator)
        self.fitted = True

    def learn(self, surface: Surface, *, generator: torch.Generator) -> Iterator[Progress]:
        """Learn, yielding after each step; the default learns nothing."""
        del surface, generator
        yield from ()

    def export_state(self) -> Mapping[str, Tensor]:
        """What was learnt, as tensors, for the store."""
        return {}

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Take back what `export_state` returned, for a surface of the same shapes."""
        del state, surface
        self.fitted = True

    def diagnostics(
        self, guess: Float[Tensor, "b c h w"], release: Release, surface: Surface
    ) -> Mapping[str, float]:
        """What this attack can say about its own guesses without the truth; finite numbers.

        They go into the record and may raise flags there; they never change a guess. The default
        says nothing.

        Args:
            guess: What the attack returned.
            release: What it was asked about.
            surface: As in `recover`.
        """
        del guess, release, surface
        return {}

    @abstractmethod
    def recover(
        self, release: Release, surface: Surface, *, generator: torch.Generator
    ) -> Float[Tensor, "b c h w"]:
        """Guess the secret of each example of a release."""

    @final
    def __call__(
        self, release: Release, surface: Surface, *, generator: torch.Generator
    ) -> Float[Tensor, "b c h w"]:
        """Guess, and make sure that a guess is what comes out.

        Returns:
            Images in [0, 1], one per example, detached.

        Raises:
            ValueError: The release holds NaN or infinite values, or the guess does.
            RuntimeError: The attack was not fitted.
            ThreatModelError: The attack needs more than the threat model grants.
        """
        if not self.fitted:
            raise RuntimeError(f"{type(self).__name__} must be fitted before it recovers")
        understood = surface.understood(release)
        guess = self.recover(understood, surface, generator=generator).detach()
        wanted = (len(release), *surface.image_shape)
        if tuple(guess.shape) != wanted:
            raise ValueError(f"{self!r} guessed shape {tuple(guess.shape)}, wanted {wanted}")
        if not bool(torch.isfinite(guess).all()):
            raise ValueError(f"{self!r} guessed NaN or infinite pixels")
        return guess.clamp(0, 1)
