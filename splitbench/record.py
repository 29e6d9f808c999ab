"""The result of one cell, and the per-example scores that it summarises."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from splitbench.guarantee import Guarantee

SCHEMA = 2
Status = Literal["ok", "failed", "not_applicable"]
_LATER = frozenset({"secret", "certificates"})  # may be lacking: their default is what was meant


class SchemaError(ValueError):
    """A record on disk does not have the form that this version reads."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its 95 % interval.

    Attributes:
        mean: The estimate.
        low: Lower end.
        high: Upper end.
        n: Examples behind it.
    """

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What was evaluated. Two records of equal cells may be averaged over their seeds.

    `defense`, `codec`, `attack` are full constructor expressions; the `*_name` fields are the
    short labels of the leaderboard. `target_role` is the data role that was attacked: ``target``,
    or ``train`` for images that the model was trained on. `secret` is what was to be found out:
    the ``image``, an ``attribute NAME``, or the ``identity`` of the person in it.
    """

    data: str
    model: str
    cut: str
    cut_index: int
    defense: str
    defense_name: str
    codec: str
    attack: str
    attack_name: str
    floor: bool
    threat: Mapping[str, Any]
    seed: int
    target_role: Literal["target", "train"] = "target"
    secret: str = "image"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row of evidence.

    Attributes:
        protocol: Suite with its version; leaderboards never mix protocols.
        cell_id: Hash of everything that determines the numbers, and of the source code.
        status: ``failed`` cells are rows too, with their `error`; ``not_applicable`` where the
            threat model does not grant what the attack needs.
        utility: ``accuracy`` with the defense on, the device's own answers included,
            ``accuracy_undefended``, and, where the device answers some images by itself,
            ``share_sent``, of the targets of which a message comes, and for each exit, the cut the
            last, ``share_exit/NAME`` and ``accuracy_exit/NAME`` (of those that leave there).
        leakage: ``L`` (fraction of explained variance above the floor), ``excess`` (above the
            class-conditional floor), ``L_sent`` (L of the targets of which a message comes, where
            these are not all), raw metrics by key. Where the secret is not the image,
            ``balanced_accuracy`` or ``rank1``, and ``advantage`` where it is defined.
        normalised: Metrics scaled to 0 at the floor and 1 at the ceiling.
        floors: Mean score of each blind guess, by ``floor/metric``; of an inference ``prior`` and
            ``prediction`` (of a side channel the prior only).
        ceilings: Score of the secret itself, by metric; of an inference ``pixels``
            (of a side channel nothing).
        unavailable: Metrics that could not be computed here, with the reason.
        cost: ``payload_bytes_mean/min/max`` (0 where nothing is sent) and ``_entropy`` (mean after
            entropy coding); for ``client`` (with the defense) and ``server``: ``_flops``,
            ``_params``, ``_memory_bytes`` (at the worst moment of one request), ``_ms`` and
            ``_ms_p95``; ``encode_ms`` and ``decode_ms`` likewise (medians); all of an image that
            is sent; where the device answers some, ``client_flops_mean`` and ``client_ms_mean``
            (over all images, by the exit at which each leaves); ``defense_seconds`` (fitting it),
            ``attack_seconds``, ``queries``.
        guarantee: What the defense promises over all messages that the adversary observes
            (`splitbench.guarantee.Guarantee.to_record`).
        certificates: Least errors that follow from how much those messages can say, under a named
            prior (`splitbench.certificate`), in the same form.
        traits: What says which releases can be computed from which others: ``exact`` (the
            undefended features, and a lossless codec), ``lossless`` (the codec),
            ``changes_client``, ``stochastic`` (fresh randomness in every message), ``keyed`` (a
            secret is shared with the server), and the defense's ``knob``, the direction in which
            it ``protects`` and whether its settings are ``nested`` (``no``, ``all``,
            ``multiples``).
        diagnostics: What the attack says about its own guesses without the truth
            (`Attack.diagnostics`), ``payload_class_p``, the probability that lengths of
            messages differ so much between classes by chance, ``distance_correlation``
            (squared, bias-corrected) of target images and their releases, and ``snr_db``
            (`splitbench.signal`) where messages are random.
        images: How many each data role holds.
        flags: Warnings, explained on the leaderboard.
        claimed: Numbers of a paper that this cell reproduces.
        data_fingerprints: SHA-256 of the four roles.
        environment: Versions, threads, processor.
        scores_file: Per-example scores, relative to the record's file.
        scores_sha256: Checksum of that file.
    """

    schema: int = SCHEMA
    protocol: str
    cell_id: str
    job_id: str
    status: Status
    error: str | None = None
    cell: Cell
    targets: int
    utility: Mapping[str, Interval] = field(default_factory=dict)
    leakage: Mapping[str, Interval] = field(default_factory=dict)
    normalised: Mapping[str, Interval] = field(default_factory=dict)
    floors: Mapping[str, float] = field(default_factory=dict)
    ceilings: Mapping[str, float] = field(default_factory=dict)
    unavailable: Mapping[str, str] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    guarantee: Mapping[str, Any] = field(default_factory=dict)
    certificates: tuple[Mapping[str, Any], ...] = ()
    traits: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    images: Mapping[str, int] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    claimed: Mapping[str, float] = field(default_factory=dict)
    data_fingerprints: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    scores_file: str | None = None
    scores_sha256: str | None = None

    def to_json(self) -> str:
        """One JSON document; NaN is refused."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Read a record back.

        Raises:
            SchemaError: Not JSON, or another schema, or keys that are missing or unknown.
        """
        try:
            raw = json.loads(text, parse_constant=_not_finite)
        except json.JSONDecodeError as error:
            raise SchemaError(f"not a JSON document: {error}") from error
        if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
            found = raw.get("schema") if isinstance(raw, dict) else type(raw).__name__
            raise SchemaError(f"record has schema {found!r}, this version reads {SCHEMA}")
        keywords = _keywords(cls, raw, "record")
        for name in ("utility", "leakage", "normalised"):
            if not isinstance(raw[name], dict):
                raise SchemaError(f"{name} is not an object")
            keywords[name] = {
                key: Interval(**_keywords(Interval, value, f"{name}.{key}"))
                for key, value in raw[name].items()
            }
        if not isinstance(raw.get("certificates", []), list):
            raise SchemaError("certificates is not an array")
        keywords["certificates"] = tuple(raw.get("certificates", []))
        for promise in (raw["guarantee"], *keywords["certificates"]):
            _check_promise(promise)
        if raw["status"] not in get_args(Status):
            raise SchemaError(f"status is {raw['status']!r}, must be one of {get_args(Status)}")
        keywords["cell"] = Cell(**_keywords(Cell, raw["cell"], "cell"))
        return cls(**{**keywords, "flags": tuple(raw["flags"])})


def _keywords(cls: type, raw: Any, where: str) -> dict[str, Any]:
    """The object `raw`, if it has exactly the fields of a dataclass, perhaps but for late ones."""
    if not isinstance(raw, dict):
        raise SchemaError(f"{where} is not an object")
    wanted = {f.name for f in dataclasses.fields(cls)}
    missing, unknown = sorted(wanted - _LATER - set(raw)), sorted(set(raw) - wanted)
    if missing or unknown:
        raise SchemaError(f"{where} lacks {missing}, has unknown {unknown}")
    return dict(raw)


def _check_promise(raw: Any) -> None:
    try:
        Guarantee.from_record(raw)
    except (ValueError, TypeError) as error:
        raise SchemaError(f"guarantee: {error}") from error


def _not_finite(constant: str) -> float:
    raise SchemaError(f"record holds {constant}: numbers are finite")


@dataclass(frozen=True)
class Scores:
    """Per-example arrays of one cell.

    Attributes:
        metrics: Metric key to ``(n,)`` scores of the guesses.
        floors: ``floor/metric`` to ``(n,)`` scores of the blind guesses on the same targets.
        guesses: First few guesses, uint8 ``(g, c, h, w)``, for the gallery.
        truths: The images behind them.
        null: Squared errors ``(n,)`` of the same guesses against the image of another target, as
            ``mse``, and those of the blind guesses there (`splitbench.null_channel`).
    """

    metrics: Mapping[str, NDArray[np.float64]]
    floors: Mapping[str, NDArray[np.float64]]
    guesses: NDArray[np.uint8]
    truths: NDArray[np.uint8]
    null: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Flat names for a safetensors file."""
        named: dict[str, NDArray[Any]] = {"guesses": self.guesses, "truths": self.truths}
        named |= {f"metric:{key}": np.asarray(v) for key, v in self.metrics.items()}
        named |= {f"floor:{key}": np.asarray(v) for key, v in self.floors.items()}
        named |= {f"null:{key}": np.asarray(v) for key, v in self.null.items()}
        return named

    @classmethod
    def load(cls, path: Path, sha256: str | None = None) -> "Scores":
        """Read what `arrays` named.

        Raises:
            SchemaError: The file is missing, damaged, or not what the record's checksum says.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SchemaError(f"cannot read the scores {path}: {error.strerror}") from error
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise SchemaError(f"{path} is damaged (checksum): delete its cell and run it again")
        try:
            named = load(content)
            guesses, truths = named["guesses"], named["truths"]
        except (SafetensorError, KeyError) as error:
            raise SchemaError(f"{path} holds no scores: {error}") from error

        def part(prefix: str) -> dict[str, NDArray[np.float64]]:
            return {k.removeprefix(prefix): v for k, v in named.items() if k.startswith(prefix)}

        return cls(part("metric:"), part("floor:"), guesses, truths, part("null:"))
