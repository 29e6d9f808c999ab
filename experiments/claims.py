"""What papers and their critics found of defenses, and how to look for it among rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from splitbench.leaderboard import Row

Seen = tuple[str, Row]  # of which model

SMALL = 0.01  # of L: no difference that anybody would care about
CLOSE = 0.05  # of L and of accuracy: about the same
STOPPED = "stopped early"  # in the name of a model that was trained for less accuracy
FROZEN = "finetune_epochs=0"
NEARLY = 0.9  # share of L that counts as nearly all
PRIVATE = 0.5  # L below which a release looks private
MUCH = 0.1  # of L: what somebody would care about


@dataclass(frozen=True)
class Finding:
    """One measurement.

    Attributes:
        what: What was measured, and the figures.
        holds: Whether it is as the fact says.
    """

    what: str
    holds: bool


@dataclass(frozen=True)
class Fact:
    """A claim of the literature, and how to look for it among rows.

    Attributes:
        claim: In one sentence.
        source: Where it is from.
        means: What has to be measured for it to hold here.
        find: All measurements of it; none where it was not run.
    """

    claim: str
    source: str
    means: str
    find: Callable[[Sequence[Seen]], Iterator[Finding]]


def hides_from_the_naive(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Attacks that do not expect erasing and noise, and those that do."""
    for _, row in seen:
        if row.defense_name not in ("dropout", "gaussian_noise") or row.raw is None:
            continue
        gain, lost = row.adaptive_gain, row.accuracy_drop
        if gain and lost:
            yield Finding(
                f"{row.label} at {row.cut}: L {row.raw.mean:.2f} for an attacker who does not, "
                f"{gain.mean:+.2f} ({gain.low:+.2f} to {gain.high:+.2f}) for one who does, "
                f"{100 * lost.mean:.1f} points of accuracy lost",
                row.raw.high < PRIVATE and gain.low > MUCH and lost.mean <= CLOSE,
            )


def retraining_recovers_part(seen: Sequence[Seen]) -> Iterator[Finding]:
    """NoPeek before attacks that learnt from the undefended client, and from the released one."""
    for model, plain, row in _beside(seen, "no_peek"):
        naive = _before(seen, model, row, defense="hidden")
        if row.dependence is None or plain.dependence is None or not (row.raw and plain.raw):
            continue
        if naive and naive.raw and naive.adaptive_gain:
            yield Finding(
                f"{row.label} at {row.cut}: distance correlation {plain.dependence:.2f} to "
                f"{row.dependence:.2f}; L {naive.raw.mean:.2f} of attacks that learnt from the "
                f"undefended client, {row.raw.mean:.2f} of retrained ones, {plain.raw.mean:.2f} "
                "undefended",
                row.dependence < plain.dependence
                and naive.adaptive_gain.low > 0
                and row.raw.high < plain.raw.low,
            )


def learnt_noise_costs_less(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Shredder against plain Laplace noise of equal strength, both before a frozen server."""
    rivals = [(m, r) for m, r in _named(seen, "laplace_noise") if FROZEN in r.message.defense]
    for model, row in _named(seen, "shredder"):
        if FROZEN not in row.message.defense or row.accuracy is None or row.snr_db is None:
            continue
        plain = [r for name, r in rivals if (name, r.cut) == (model, row.cut)]
        cost = _accuracy_at(row.snr_db, plain)
        if cost is not None:
            fresh = bool(row.message.traits.get("stochastic"))
            yield Finding(
                f"{row.label} at {row.cut}, {row.snr_db:.1f} dB: accuracy {row.accuracy.mean:.1%} "
                f"({row.accuracy.low:.1%} to {row.accuracy.high:.1%}) under learnt noise, "
                f"{cost:.1%} under Laplace noise; "
                f"{'fresh' if fresh else 'the same'} noise in every message",
                fresh and row.accuracy.low > cost,
            )


def eight_bits_hide_nothing(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Leakage under 8-bit quantisation against the undefended one."""
    for _, plain, row in _beside(seen, "quantization"):
        if "bits=8" in row.message.defense and row.raw and plain.raw:
            yield Finding(
                f"{row.cut}: L {row.raw.mean:.3f} at 8 bits, {plain.raw.mean:.3f} undefended",
                row.raw.mean > plain.raw.mean - SMALL,
            )


def known_key_hides_nothing(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Features under a secret key before who has it, and before who has not."""
    for name in ("secret_rotation", "secret_permutation"):
        for model, plain, row in _beside(seen, name):
            keyless = _before(seen, model, row, key="secret")
            if row.raw and plain.raw:
                without = f"{keyless.raw.mean:.3f}" if keyless and keyless.raw else "not measured"
                yield Finding(
                    f"{row.label} at {row.cut}: L {row.raw.mean:.3f} with the key, "
                    f"{plain.raw.mean:.3f} undefended; without the key {without}",
                    abs(row.raw.mean - plain.raw.mean) <= SMALL,
                )


def training_privacy_is_another(seen: Sequence[Seen]) -> Iterator[Finding]:
    """A model trained by DP-SGD, and one that was stopped at about the same accuracy."""
    plain = [(model, row) for model, row in _named(seen, "none") if row.message.exact]
    for model, row in plain:
        for name, other in plain:
            if "DP-SGD" not in model or STOPPED not in name or row.cut != other.cut:
                continue
            if not (row.raw and row.accuracy and other.raw and other.accuracy):
                continue
            equal = abs(row.accuracy.mean - other.accuracy.mean) <= CLOSE
            yield Finding(
                f"{row.cut}: L {row.raw.mean:.2f} with {model} at {row.accuracy.mean:.0%}, "
                f"{other.raw.mean:.2f} with {name} at {other.accuracy.mean:.0%}"
                + ("" if equal else " (not the same accuracy: nothing follows)"),
                equal and row.raw.mean > other.raw.mean - CLOSE,
            )


def places_tell_nearly_all(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Top-k with and without the magnitudes; behind a ReLU, signs are alike and tell nothing."""
    rows = [row for _, row in _named(seen, "none") if row.message.codec.startswith("TopK")]
    for full in [row for row in rows if "value_bits=32" in row.message.codec]:
        for row in [row for row in rows if "value_bits=1," in row.message.codec]:
            if row.cut == full.cut and row.raw and full.raw:
                yield Finding(
                    f"{row.cut}: L {row.raw.mean:.2f} of places and signs, {full.raw.mean:.2f} "
                    "with the values",
                    row.raw.mean > NEARLY * full.raw.mean,
                )


FACTS = (
    Fact(
        "Dropout and noise on features look private only to an attack that does not expect them.",
        "He, Zhang, Lee 2019 and 2020 report the defenses against attacks that do not",
        f"L of the naive attack is below {PRIVATE} and knowing the defense adds more than {MUCH}, "
        f"both with their intervals, at a loss of at most {100 * CLOSE:.0f} points of accuracy",
        hides_from_the_naive,
    ),
    Fact(
        "NoPeek lowers the distance correlation, and a retrained decoder recovers part.",
        "Vepakomma et al. 2020; critics such as Pasquini et al. 2021",
        "the distance correlation falls, and L of retrained attacks is above that of attacks that "
        "learnt from the undefended client, and below the undefended one, beyond the intervals",
        retraining_recovers_part,
    ),
    Fact(
        "Shredder's noise, learnt and drawn afresh for every message, costs less accuracy than "
        "plain Laplace noise that is as strong.",
        "Mireshghallah et al. 2020",
        "at an equal ratio of signal to noise, and with a frozen server, the interval of the "
        "accuracy lies above that under Laplace noise (interpolated between settings in dB)",
        learnt_noise_costs_less,
    ),
    Fact(
        "8-bit quantisation is no privacy.",
        "folklore",
        f"L is within {SMALL} of the undefended one",
        eight_bits_hide_nothing,
    ),
    Fact(
        "Features under a secret key have no privacy against who has the key.",
        "Kerckhoffs 1883; Liu, Kargupta, Ryan 2006 rotate tables that are to be mined",
        f"L with the key is within {SMALL} of the undefended one; what the attacks here find "
        "without it stands beside it",
        known_key_hides_nothing,
    ),
    Fact(
        "DP-SGD does not change what releases at inference leak.",
        "what its neighbouring relation says: it protects training images",
        f"at an accuracy within {CLOSE:.0%}, L is no more than {CLOSE} below",
        training_privacy_is_another,
    ),
    Fact(
        "The positions of the largest values leak nearly as much as the values.",
        "Hoefler, Mueller, Samek, A Privacy Study of Sparse Collaborative Inference: learnt "
        "decoders of ResNet-18 at layer2 reach an SSIM of 0.428 from positions, 0.435 with values "
        "(TinyImageNet)",
        f"L of places and signs is above {NEARLY:.0%} of that with magnitudes; the cut is behind a "
        "ReLU, else signs tell more than places",
        places_tell_nearly_all,
    ),
)


def _named(seen: Sequence[Seen], name: str) -> list[Seen]:
    """Rows of one defense that the headline adversary attacked."""
    return [
        (model, row)
        for model, row in seen
        if row.defense_name == name and not (row.naive or row.keyless)
    ]


def _accuracy_at(snr_db: float, rows: Sequence[Row]) -> float | None:
    """Accuracy at a ratio of signal to noise, between the two nearest rows; None beyond them."""
    known = sorted((r.snr_db, r.accuracy.mean) for r in rows if r.accuracy and r.snr_db is not None)
    for (low, worse), (high, better) in pairwise(known):
        if low <= snr_db <= high:
            share = (snr_db - low) / (high - low) if high > low else 0.0
            return worse + share * (better - worse)
    return None


def _beside(seen: Sequence[Seen], name: str) -> Iterator[tuple[str, Row, Row]]:
    """Each row of a defense, after its model and the undefended row at the same cut of it."""
    for model, row in _named(seen, name):
        for other, plain in _named(seen, "none"):
            if (other, plain.cut) == (model, row.cut) and plain.message.exact:
                yield model, plain, row


def _before(seen: Sequence[Seen], model: str, row: Row, **knows: str) -> Row | None:
    """The same system of a model before an adversary that differs in this; None if not run."""
    threat = {**row.message.threat, **knows}
    wanted = (model, row.cut, row.message.defense, row.message.codec, threat)
    for name, other in seen:
        found = other.message
        if (name, other.cut, found.defense, found.codec, found.threat) == wanted:
            return other
    return None
