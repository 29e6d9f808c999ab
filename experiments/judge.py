"""Says what guesses are worth: above what is known without a release, and with which doubts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attacks.class_mean import ClassMean
from attacks.constant_color import ConstantColor
from attacks.mean_image import MeanImage
from experiments.certificates import certificates_of, prior_of
from experiments.costs import costs_of
from experiments.doubts import Findings, depends_on_batch, flags_of, payload_class_p
from experiments.errors import UserError
from experiments.job import Job
from experiments.scoring import Arrays, Scoring
from experiments.target import Target
from splitbench.attack import Attack
from splitbench.codec import Codec
from splitbench.data.images import ROLES
from splitbench.defense import Defense
from splitbench.dependence import LEAST, distance_correlation
from splitbench.leakage import excess_leakage, leakage, normalised
from splitbench.metrics.mean_squared_error import MeanSquaredError
from splitbench.null_channel import other_targets
from splitbench.record import Interval, Scores
from splitbench.rng import stream
from splitbench.signal import snr_db
from splitbench.statistics import Resampler, Summary, hierarchical_bootstrap, wilson
from splitbench.training import accuracy

# The headline floor is the better of the first two; the third is what the prediction alone tells.
FLOORS: Mapping[str, type[Attack]] = {
    "constant_color": ConstantColor,
    "mean_image": MeanImage,
    "class_mean": ClassMean,
}
BLIND = ("constant_color", "mean_image")
# Standard errors between floor and ceiling below which a ratio to their distance means nothing.
CLEARLY = 5.0
RESAMPLES = 1000
DEPENDENT = 500  # targets behind the distance correlation
NOISY = 200  # targets behind the signal-to-noise ratio


@dataclass(frozen=True)
class Verdict:
    """What one attack's guesses at one cut are worth."""

    scores: Scores
    leakage: Mapping[str, Interval]
    normalised: Mapping[str, Interval]
    diagnostics: Mapping[str, float]
    flags: tuple[str, ...]
    cost: Mapping[str, float]
    targets: int


class Judge:
    """Holds the truth, and the floors and facts of every cut it has seen."""

    def __init__(self, job: Job) -> None:
        """Score the truth itself: the ceiling of every metric."""
        self.job = job
        self.truth = job.roles.target.images()
        self.labels = job.roles.target.labels
        self.scoring = Scoring(job)
        try:
            self._ceiling = self.scoring(self.truth)
        except ValueError as error:  # a metric that such images are not for
            raise UserError(f"metrics: {error}") from error
        self._prior = prior_of(job)
        self._floors: dict[str, Arrays] = {}
        self._facts: dict[str, dict[str, Any]] = {}
        self._mixing: dict[str, bool] = {}
        self._sent: dict[str, NDArray[np.bool_] | None] = {}
        self._resampler = Resampler(resamples=RESAMPLES)

    def see(self, target: Target) -> None:
        """Learn the floors of one cut, and what holds for every attack on it."""
        deployment = target.deployment
        cut = deployment.split.cut.name
        self._floors[cut] = self._floor_scores(target)
        self._mixing[cut] = depends_on_batch(deployment, self.truth)
        sent = target.sent()
        self._sent[cut] = None if sent is None else sent.cpu().numpy()
        payload = target.payload_bytes()
        right = target.logits().argmax(1) == self.labels
        left = by_exit(target, right)
        observations = self.job.threat.observations
        promise = deployment.defense.guarantee().over(messages=observations)
        certified = certificates_of(
            deployment, self._prior, observations=observations, seed=self.job.seed
        )
        self._facts[cut] = {
            "utility": {
                "accuracy": interval(wilson(int(right.sum()), len(right))),
                "accuracy_undefended": interval(accuracy(self.job.model, self.job.roles.target)),
                **_share(self._sent[cut]),
                **left,
            },
            "floors": {k: float(v.mean()) for k, v in self._floors[cut].items()},
            "ceilings": {k: float(v.mean()) for k, v in self._ceiling.items()},
            "unavailable": {**self.scoring.unavailable, **certified["unavailable"]},
            "guarantee": promise.to_record(),
            "certificates": certified["certificates"],
            "diagnostics": {
                "payload_class_p": payload_class_p(
                    payload.cpu().numpy(), self.labels.cpu().numpy()
                ),
                **_dependence(target),
                **_noise(target),
            },
            "traits": traits(deployment.defense, deployment.codec),
            "data_fingerprints": self.job.roles.fingerprints(),
            "images": {role: len(getattr(self.job.roles, role)) for role in ROLES},
            "cost": {
                "payload_bytes_mean": float(payload.double().mean()),
                "payload_bytes_max": float(payload.max()),
                "payload_bytes_min": float(payload.min()),
                "defense_seconds": deployment.seconds,
                **costs_of(
                    deployment,
                    self.truth,
                    leaving=[left[f"share_exit/{name}"].mean for name in deployment.exits],
                    timing=self.job.config["latency"],
                    generator=stream(self.job.seed, "latency"),
                ),
            },
        }

    def facts(self, cut: str) -> dict[str, Any]:
        """Fields of every record of one cut."""
        return dict(self._facts[cut])

    def verdict(
        self,
        guess: Tensor,
        cut: str,
        attack: Attack,
        cost: Mapping[str, float],
        diagnostics: Mapping[str, float],
    ) -> Verdict:
        """Judge one attack's guesses at one cut."""
        scores = self.scoring(guess)
        floors = {k: v[: len(guess)] for k, v in self._floors[cut].items()}
        leaks = self._leaks(scores, floors, self._sent[cut])
        kept = slice(0, min(int(self.job.config["gallery"]), len(guess)))
        return Verdict(
            scores=Scores(
                scores,
                floors,
                _bytes(guess[kept]),
                _bytes(self.truth[kept]),
                self._null_scores(guess, cut),
            ),
            leakage=leaks,
            normalised=self._normalised(scores, floors),
            diagnostics=diagnostics,
            flags=self._flags(cut, attack, leaks["L"], len(guess), diagnostics),
            cost=cost,
            targets=len(guess),
        )

    def _null_scores(self, guess: Tensor, cut: str) -> Arrays:
        """The same guesses, and the blind ones, where they can know nothing."""
        if len(self.truth) < 2:
            return {}
        other = other_targets(len(self.truth))[: len(guess)]
        floors = self._floors[cut]
        return {
            "mse": MeanSquaredError()(guess, self.truth[other]).cpu().numpy(),
            **{f"{name}/mse": floors[f"{name}/mse"][other.cpu().numpy()] for name in BLIND},
        }

    def _floor_scores(self, target: Target) -> Arrays:
        scores: Arrays = {}
        for name, kind in FLOORS.items():
            attack = kind()
            generator = stream(self.job.seed, "floor", name)
            surface = self.job.judges_surface(target, attack)
            attack.fit(surface, generator=generator)
            guess = target.guessed_by(attack, surface, generator=generator)
            scores |= {f"{name}/{key}": v for key, v in self.scoring(guess).items()}
        return scores

    def _leaks(
        self, scores: Arrays, floors: Arrays, sent: NDArray[np.bool_] | None
    ) -> dict[str, Interval]:
        blind = np.stack([floors[f"{name}/mse"] for name in BLIND], axis=1)
        by_class = floors["class_mean/mse"]
        leaks = {
            "L": interval(leakage(scores["mse"], blind, resampler=self._resampler)),
            "excess": interval(excess_leakage(scores["mse"], by_class, resampler=self._resampler)),
        }
        some = None if sent is None else sent[: len(blind)]
        if some is not None and some.any():
            among = leakage(scores["mse"][some], blind[some], resampler=self._resampler)
            leaks["L_sent"] = interval(among)
        for key, values in scores.items():
            leaks[key] = interval(hierarchical_bootstrap([values], resampler=self._resampler))
        return leaks

    def _normalised(self, scores: Arrays, floors: Arrays) -> dict[str, Interval]:
        """Metrics between floor and ceiling, where these are clearly apart."""
        scaled = {}
        for metric in self.scoring.metrics:
            if metric.key not in scores:
                continue
            values = scores[metric.key]
            candidates = [floors[f"{name}/{metric.key}"][: len(values)] for name in BLIND]
            choose = max if metric.leaks == "up" else min
            best = choose(candidates, key=lambda v: float(v.mean()))
            ceiling = self._ceiling[metric.key][: len(values)]
            span = ceiling - best
            if abs(span.mean()) > CLEARLY * span.std() / np.sqrt(len(span)):
                scaled[metric.key] = interval(
                    normalised(values, best, ceiling, resampler=self._resampler)
                )
        return scaled

    def _flags(
        self,
        cut: str,
        attack: Attack,
        leak: Interval,
        targets: int,
        diagnostics: Mapping[str, float],
    ) -> tuple[str, ...]:
        facts = self._facts[cut]
        findings = Findings(
            floor=attack.floor,
            gradient_free=attack.gradient_free,
            knows_class=isinstance(attack, ClassMean),
            targets=targets,
            leak=leak,
            accuracy=facts["utility"]["accuracy"],
            majority=float(torch.bincount(self.labels).max()) / len(self.labels),
            lengths=(facts["cost"]["payload_bytes_min"], facts["cost"]["payload_bytes_max"]),
            batch_dependent=self._mixing[cut],
            diagnostics={**facts["diagnostics"], **diagnostics},
        )
        return flags_of(findings)


def traits(defense: Defense, codec: Codec) -> dict[str, Any]:
    """What decides which releases follow from which (`splitbench.leaderboard.simulable`)."""
    chosen = defense.arguments()
    off = defense.off is not None and all(chosen[k] == v for k, v in defense.off.items())
    knob, protects = defense.knob or (None, None)
    return {
        "exact": off and codec.lossless and not defense.changes_client,
        "lossless": codec.lossless,
        "changes_client": defense.changes_client,
        "stochastic": defense.stochastic and not off,
        "keyed": defense.keyed,
        "knob": knob,
        "protects": protects,
        "nested": "no" if defense.changes_client else defense.nested,
    }


def _dependence(target: Target) -> dict[str, float]:
    """Squared distance correlation of some targets and their releases, corrected for bias."""
    released = next(target.parts(DEPENDENT)).tensors
    count = len(released[0])
    if count < LEAST["unbiased"]:
        return {}
    rows = torch.cat([t.flatten(1).float() for t in released], dim=1)
    found = distance_correlation(target.images[:count], rows, estimator="unbiased")
    return {"distance_correlation": float(found)}


def _noise(target: Target) -> dict[str, float]:
    """Signal-to-noise ratio of some targets' messages; nothing where they are not random."""
    deployment = target.deployment
    features = deployment.features(target.images[:NOISY])
    found = snr_db(deployment.defense, features, generator=stream(target.seed, "snr"))
    return {} if found is None else {"snr_db": found}


def interval(summary: Summary) -> Interval:
    """The part of a summary that a record keeps."""
    return Interval(mean=summary.mean, low=summary.low, high=summary.high, n=summary.n)


def _share(sent: NDArray[np.bool_] | None) -> dict[str, Interval]:
    """Of the targets of which a message comes; nothing where all are sent."""
    return {} if sent is None else {"share_sent": interval(wilson(int(sent.sum()), len(sent)))}


def by_exit(target: Target, right: Tensor) -> dict[str, Interval]:
    """Share of the targets that leave by each exit of the device, and how many of them rightly.

    Args:
        target: One cut.
        right: Whether the user is told the truth about each target, bool ``(n,)``.
    """
    left, found = target.left(), dict[str, Interval]()
    if left is None:
        return found
    for place, name in enumerate(target.deployment.exits):
        here = left == place
        count = int(here.sum())
        found[f"share_exit/{name}"] = interval(wilson(count, len(left)))
        if count:
            correct = int((right & here).sum())
            found[f"accuracy_exit/{name}"] = interval(wilson(correct, count))
    return found


def _bytes(images: Tensor) -> NDArray[np.uint8]:
    quantised: NDArray[np.uint8] = (images * 255).round().to(torch.uint8).cpu().numpy()
    return quantised
