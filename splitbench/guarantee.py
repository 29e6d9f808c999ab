"""What a defense promises to whoever sends an input through it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from splitbench.gaussian_dp import delta_of, epsilon_of
from splitbench.guessing import bounded_guess, gaussian_guess, gaussian_reconstruction

Kind = Literal["none", "empirical", "local_dp", "certified"]
SLACK = 1e-9  # relative: what rounding may take from a delta


@dataclass(frozen=True)
class Guarantee:
    """A promise about one input at inference: what its messages tell, whoever reads them.

    Local differential privacy is the formal kind: the messages of any two inputs satisfy
    ``P(S) <= e^epsilon P'(S) + delta`` for every set S of messages.

    A certificate is the other proof: a least error of every guess, over images that are drawn from
    a named prior (`splitbench.certificate`). Where the images are not drawn from it, the number
    describes the message under an assumption, and no attack may be held against it: `applies`
    says so.

    **Training with differential privacy is no such promise.** DP-SGD, PATE and their like promise
    that the *weights* hardly depend on any one *training* example. An image that is sent through
    the trained client is none of these, and its release is as deterministic a function of it as
    that of any other client: for inputs at inference epsilon is infinite, whatever was spent in
    training. Clients of equal weights promise the same, however they were trained. Therefore
    nothing about training enters here, and `NO_GUARANTEE` is what every defense promises that
    has no mechanism of its own.

    Attributes:
        kind: ``none`` (nothing is claimed), ``empirical`` (only the attacks of this benchmark speak
            for it), ``local_dp``, or ``certified``.
        statement: One sentence for the leaderboard.
        epsilon: Of all `messages` together; infinite where no local privacy is promised.
        delta: Of all `messages` together, in [0, 1].
        mu: Parameter of Gaussian differential privacy, for mechanisms that have one: it says more
            than one pair (epsilon, delta), and composes exactly.
        neighbours: Which inputs cannot be told apart.
        unit: Of what there are `messages`.
        messages: How many of them about one input the promise is about.
        least_mse: Certificates only: no guess has a smaller mean squared error per pixel of
            images in [0, 1], on average over the prior; >= 0.
        prior: From which images are drawn for that to hold, in words.
        assumptions: What else is taken for granted, in short sentences.
        applies: True where the images under attack are drawn from the prior; else a sentence that
            says why they are not.

    Raises:
        ValueError: The numbers contradict the kind or each other.
    """

    kind: Kind
    statement: str
    epsilon: float = math.inf
    delta: float = 0.0
    mu: float | None = None
    neighbours: str = ""
    unit: str = "message"
    messages: int = 1
    least_mse: float | None = None
    prior: str = ""
    assumptions: tuple[str, ...] = ()
    applies: bool | str = True

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind={self.kind!r}: choose from {get_args(Kind)}")
        if (self.kind == "local_dp") != math.isfinite(self.epsilon):
            raise ValueError(
                f"kind={self.kind!r} with epsilon={self.epsilon}: local privacy has a finite "
                "epsilon, and nothing else has; build it with local_privacy()"
            )
        if not (self.epsilon >= 0 and 0 <= self.delta <= 1 and self.messages >= 1):
            raise ValueError(
                f"epsilon={self.epsilon}, delta={self.delta}, messages={self.messages}: want "
                "epsilon >= 0, delta in [0, 1], messages >= 1"
            )
        if self.mu is not None and not self._curve_allows(self.mu):
            raise ValueError(
                f"mu={self.mu} is not ({self.epsilon}, {self.delta})-private: it needs delta = "
                f"{delta_of(epsilon=self.epsilon, mu=self.mu):.3g}"
            )
        self._check_certificate()

    def _check_certificate(self) -> None:
        least = self.least_mse
        if (self.kind == "certified") != (least is not None):
            raise ValueError(
                f"kind={self.kind!r} with least_mse={least}: a certificate has a least error, and "
                "nothing else has"
            )
        if least is None:
            return
        if not (least >= 0 and math.isfinite(least) and self.prior):
            raise ValueError(
                f"least_mse={least}, prior={self.prior!r}: want a finite error that is not "
                "negative, and the prior over which it is the mean"
            )
        if not self.applies:
            raise ValueError(f"applies={self.applies!r}: want True, or why it does not apply")

    @property
    def formal(self) -> bool:
        """Whether messages are provably alike: a bound that holds for every input."""
        return self.kind == "local_dp"

    @property
    def binds(self) -> bool:
        """Whether an attack on these images that beats the promise proves an error."""
        return self.formal or (self.kind == "certified" and self.applies is True)

    def over(self, *, messages: int) -> "Guarantee":
        """What is left of the promise for whoever sees several messages of the same input.

        Gaussian mechanisms compose exactly: ``mu sqrt(k)``, turned back into epsilon at the same
        delta. All others add up: k epsilon, k delta. Of a certificate nothing is left but words:
        how much more several messages say depends on what they have in common. What promises
        nothing stays as it is.

        Args:
            messages: How many as large as this promise is about, each with fresh randomness, >= 1.

        Raises:
            ValueError: Fewer than one.
        """
        if messages < 1:
            raise ValueError(f"messages={messages}: must be at least 1")
        if self.kind == "certified" and messages > 1:
            return Guarantee("empirical", f"{self.statement}; of one message, not of {messages}")
        if not self.formal or messages == 1:
            return self
        mu, epsilon, delta = None, messages * self.epsilon, min(messages * self.delta, 1.0)
        if self.mu is not None:
            mu, delta = self.mu * math.sqrt(messages), self.delta
            epsilon = epsilon_of(delta=delta, mu=mu)
        return local_privacy(
            epsilon=epsilon,
            delta=delta,
            mu=mu,
            neighbours=self.neighbours,
            unit=self.unit,
            messages=messages * self.messages,
        )

    def best_guess(self, *, candidates: int) -> float:
        """How often anybody can at best name which of N equally likely inputs was sent.

        The same bounds the mean, over N values of an attribute, of how often each is recognised.

        Args:
            candidates: N, >= 1.

        Returns:
            A rate in [1 / N, 1]; 1 where nothing formal is promised.
        """
        if self.mu is not None:
            return gaussian_guess(mu=self.mu, candidates=candidates)
        return bounded_guess(epsilon=self.epsilon, delta=self.delta, candidates=candidates)

    def best_reconstruction(self, *, prior: float) -> float:
        """How often anybody can at best rebuild an input well enough, whatever that means.

        Args:
            prior: How often the best guess without any message is good enough, in [0, 1].

        Returns:
            A rate from `prior` to 1; 1 where nothing formal is promised.

        Raises:
            ValueError: A prior that is no rate.
        """
        if not 0 <= prior <= 1:
            raise ValueError(f"prior={prior}: must lie between 0 and 1")
        if not self.formal:
            return 1.0
        if self.mu is not None:
            return gaussian_reconstruction(mu=self.mu, prior=prior)
        # By how much likelier right guesses become, and by how much rarer wrong ones.
        right = self.delta + (math.exp(min(self.epsilon + math.log(prior), 0.0)) if prior else 0.0)
        wrong = math.exp(-self.epsilon) * (1 - prior - self.delta)
        return min(right, 1 - wrong, 1.0)

    def to_record(self) -> dict[str, Any]:
        """Plain values for a record; what is infinite or not defined is None."""
        found = {**asdict(self), "assumptions": list(self.assumptions)}
        if not self.formal:
            found |= dict.fromkeys(("epsilon", "delta", "mu", "neighbours", "unit", "messages"))
        if self.kind != "certified":
            found |= dict.fromkeys(("prior", "assumptions", "applies"))
        return found

    @classmethod
    def from_record(cls, found: Mapping[str, Any]) -> "Guarantee":
        """What `to_record` wrote; a record without any promises nothing.

        Raises:
            ValueError: It was not written by `to_record`, or its numbers contradict each other.
        """
        if not found:
            return NO_GUARANTEE
        unknown = sorted({*found} - {f.name for f in fields(cls)})
        if unknown or not {"kind", "statement"} <= {*found}:
            raise ValueError(f"a promise with {sorted(found)}: unknown {unknown}")
        known = {k: v for k, v in found.items() if v is not None}
        return cls(**{**known, "assumptions": tuple(known.get("assumptions", ()))})

    def _curve_allows(self, mu: float) -> bool:
        return delta_of(epsilon=self.epsilon, mu=mu) <= self.delta * (1 + SLACK)


# What every client promises that releases its features as they are, also one that was trained with
# differential privacy.
NO_GUARANTEE = Guarantee("none", "no formal guarantee")


def local_privacy(
    *,
    epsilon: float,
    delta: float = 0.0,
    mu: float | None = None,
    neighbours: str = "any two inputs",
    unit: str = "message",
    messages: int = 1,
) -> Guarantee:
    """Local differential privacy of the inputs at inference, in numbers and in a sentence.

    Args:
        epsilon: Finite, >= 0; of all `messages` together, as is everything else.
        delta: In [0, 1].
        mu: Where the mechanism is mu-GDP.
        neighbours: Which inputs cannot be told apart, in the plural.
        unit: Of what there are `messages`, in the singular.
        messages: >= 1.

    Raises:
        ValueError: A value is out of its range, or `mu` needs a larger delta.

    Example:
        >>> local_privacy(epsilon=8, delta=1e-5).statement
        '(8, 1e-05)-local differential privacy of any two inputs, per message'
    """
    seen = f"per {unit}" if messages == 1 else f"over {messages} {unit}s"
    statement = f"({epsilon:.4g}, {delta:.3g})-local differential privacy of {neighbours}, {seen}"
    return Guarantee("local_dp", statement, epsilon, delta, mu, neighbours, unit, messages)
