"""What a row of a board holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitbench.guarantee import NO_GUARANTEE, Guarantee
from splitbench.leaderboard.simulable import Message
from splitbench.record import Interval

QUALITY = ("psnr_db", "ssim", "lpips", "top1")
COSTS = (
    "client_params",
    "client_flops",
    "client_flops_mean",
    "client_ms",
    "client_ms_mean",
    "encode_ms",
    "client_memory_bytes",
    "server_params",
    "server_flops",
    "server_ms",
    "decode_ms",
    "server_memory_bytes",
    "payload_bytes_mean",
    "payload_bytes_entropy",
    "defense_seconds",
)
RECOGNITION = ("rank1_faces", "rank1_pixels")  # whether guesses still show who it is


@dataclass(frozen=True)
class Quality:
    """How near guesses come to the truth by one measure, under the attack that is best by it.

    Attributes:
        attack: Its name.
        value: Mean of the measure over the targets.
        normalised: The same, 0 for the better blind guess and 1 for the true image; None where
            these two are not clearly apart.
    """

    attack: str
    value: Interval
    normalised: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """How often a recogniser finds the person in the guesses of the attack it does so most for.

    Attributes:
        attack: Its name.
        rate: Share of the targets.
        blind: The same for the better blind guess.
        ceiling: The same for the true images.
    """

    attack: str
    rate: Interval
    blind: float
    ceiling: float


@dataclass(frozen=True, kw_only=True)
class Exit:
    """Where a device answers images by itself.

    Attributes:
        share: Of the targets, that leave there.
        accuracy: Of these; None where there are none.
    """

    share: Interval
    accuracy: Interval | None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One attack in a row.

    Attributes:
        name: Label of the attack in its suite.
        expression: What builds it.
        floor: It never sees the release.
        leakage: L, the fraction of variance explained above a blind guess.
        excess: L above the class-conditional floor.
        failed: At least one of its cells did.
        note: Why there is no number; empty where there is one.
        flags: Warnings of its records.
        cells: Ids of its records.
    """

    name: str
    expression: str
    floor: bool
    leakage: Interval | None = None
    excess: Interval | None = None
    failed: bool = False
    note: str = ""
    flags: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Lead:
    """What an adversary recovers beyond one that knows less.

    Attributes:
        over: The other's threat model.
        gain: Difference of the leakages L of their best attacks, on the same images and seeds.
    """

    over: Mapping[str, Any]
    gain: Interval


@dataclass(frozen=True, kw_only=True)
class Inferred:
    """What one inference finds out besides the image. What is not known is None, never NaN.

    Attributes:
        secret: ``attribute NAME`` or ``identity``.
        name: Label of the inference.
        expression: What builds it.
        seeds: Behind the numbers.
        rate: Balanced accuracy over the values of an attribute; for persons, how often the first
            of the ranking is right.
        advantage: ``(rate - floor) / (pixels - floor)``, the floor being the better of `prior` and
            `prediction`; None where floor and ceiling are not clearly apart.
        prior: Rate of a guess without a release.
        prediction: Rate of the best guess from the server's prediction alone; None for a side
            channel, whose reader is not told.
        pixels: Rate of the same inference on raw pixels, the ceiling; None for a side channel,
            whose ceiling is 1.
        failed: At least one of its cells did.
        note: Why there is no number; empty where there is one.
        cells: Ids of its records.
    """

    secret: str
    name: str
    expression: str
    seeds: int = 0
    rate: Interval | None = None
    advantage: Interval | None = None
    prior: float | None = None
    prediction: float | None = None
    pixels: float | None = None
    failed: bool = False
    note: str = ""
    cells: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One defended system under one adversary. What is not known is None, never NaN.

    Attributes:
        message: Cut, defense, codec and threat.
        defense_name: Kind of the defense; ``none`` is the undefended release.
        kind: The same for the reader: ``undefended``, ``gaussian noise``.
        setting: What tells it from others of its kind: ``noise_std=0.5``.
        guarantee: What the defense promises over all messages that the adversary observes.
        certificates: Least errors of any guess under a named prior, from those messages.
        seeds: Seeds behind the numbers.
        targets: Images under attack (the most that any attack took on).
        rank: First and last place within the cut that the intervals allow.
        accuracy: Of the task, with the defense on.
        share_sent: Of the images of which a message comes; None where all are sent.
        raw_sent: L of these images under the attack that recovers most of them.
        exits: Where the device answers the others, by the layer, the cut last.
        accuracy_drop: Against the undefended model; positive is worse.
        raw: Leakage L of the best single attack.
        best: Name of that attack.
        closed: `raw`, raised to what follows from this release.
        closed_by: The row that raised it, in words; None where nothing did.
        excess: L of the best attack above the class-conditional floor.
        quality: Other measures of guesses by key, each of the attack that is best by it.
        recognition: Whether guesses still show who it is, by metric; empty where nobody asked.
        oracle_max: Leakage if the truth chose the best guess per image: no adversary can.
        oracle_null: The same choice among guesses that were made for other images.
        oracle_corrected: What is left of `oracle_max` beyond `oracle_null`.
        p95: Leakage that one image in twenty exceeds, under the best attack.
        p99: Leakage that one image in a hundred exceeds.
        cvar5: Mean leakage of the worst twentieth of the images.
        share_above_half: Fraction of images with a leakage above 0.5.
        payload_bytes_mean: Bytes of one message.
        payload_bytes_max: Of the longest.
        payload_ratio: Mean over the bytes of the raw uint8 image.
        client_ms: Median time of the client with its defense and encoder, as measured.
        server_ms: Median time of the decoder and the server, as measured.
        end_to_end_ms: Both, with the modelled time on the link: the mean over images, those that
            end on the device included.
        costs: What a request costs on either side, and the defense to make, by the keys of
            `Record.cost` that are in `COSTS`; mean over the records.
        dependence: Squared distance correlation of images and releases, corrected for bias.
        snr_db: Mean square of what messages say over the variance of their noise; None where they
            have none.
        training_gap: L of images that the model was trained on, attacked alike, minus `raw`; None
            where they were not attacked.
        learning: As `raw`, by the number of auxiliary images, few first, if several were tried;
            at the seeds that all of these have.
        adaptive_gain: Naive rows: what knowing the defense adds to L, on the same images.
        leads: Over each adversary that knows less, and is next to this one among those measured.
        attacks: Every attack, floors first.
        inferred: What the release tells besides the image, by secret; rows are not ranked by it.
        flags: Warnings about the row and its best attack.
        missing: Why a value is None, by field or metric.
        guesses: First guesses of the best attack, uint8 ``(g, c, h, w)``.
        truths: The images behind them.
        shown: Leakage of each of these.
    """

    message: Message
    defense_name: str
    kind: str
    setting: str = ""
    guarantee: Guarantee = NO_GUARANTEE
    certificates: tuple[Guarantee, ...] = ()
    seeds: int = 0
    targets: int = 0
    rank: tuple[int, int] | None = None
    accuracy: Interval | None = None
    accuracy_drop: Interval | None = None
    share_sent: Interval | None = None
    raw_sent: Interval | None = None
    exits: Mapping[str, Exit] = field(default_factory=dict)
    raw: Interval | None = None
    best: str | None = None
    closed: Interval | None = None
    closed_by: str | None = None
    excess: Interval | None = None
    quality: Mapping[str, Quality] = field(default_factory=dict)
    recognition: Mapping[str, Recognition] = field(default_factory=dict)
    oracle_max: Interval | None = None
    oracle_null: Interval | None = None
    oracle_corrected: Interval | None = None
    p95: Interval | None = None
    p99: Interval | None = None
    cvar5: Interval | None = None
    share_above_half: Interval | None = None
    payload_bytes_mean: float | None = None
    payload_bytes_max: float | None = None
    payload_ratio: float | None = None
    client_ms: float | None = None
    server_ms: float | None = None
    end_to_end_ms: float | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    dependence: float | None = None
    snr_db: float | None = None
    training_gap: Interval | None = None
    learning: tuple[tuple[int, Interval], ...] = ()
    adaptive_gain: Interval | None = None
    leads: tuple[Lead, ...] = ()
    attacks: tuple[Entry, ...] = ()
    inferred: tuple[Inferred, ...] = ()
    flags: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    guesses: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)
    truths: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)
    shown: tuple[float, ...] = ()

    @property
    def cut(self) -> str:
        """Where the model is split."""
        return self.message.cut

    @property
    def label(self) -> str:
        """Kind and setting: unique within a cut and threat."""
        return f"{self.kind} {self.setting}".strip()

    @property
    def naive(self) -> bool:
        """Attacked by an adversary that does not expect the defense: never ranked."""
        return self.message.threat.get("defense") == "hidden"

    @property
    def keyless(self) -> bool:
        """Attacked by an adversary that lacks the secret key: never ranked."""
        return self.message.threat.get("key") == "secret"

    @property
    def best_single(self) -> Interval | None:
        """The largest mean leakage of any one attack; the same as `raw`."""
        return self.raw

    @property
    def worst_channel(self) -> tuple[str, Quality] | None:
        """The measure that is nearest to the true image, between 0 and 1, and its name.

        One of `quality`, or ``L``, which is the squared error between these ends; before closure.
        None where no attack succeeded.
        """
        if self.raw is None or self.best is None:
            return None
        channels = {**self.quality, "L": Quality(self.best, self.raw, self.raw)}
        scaled = [(one.normalised.mean, name) for name, one in channels.items() if one.normalised]
        name = max(scaled)[1]
        return name, channels[name]

    @property
    def undefended(self) -> bool:
        """No defense, whatever the codec."""
        return self.defense_name == "none"
