"""Says what an inference is worth: above chance and prediction, below what pixels would tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.job import Job
from experiments.judge import RESAMPLES, interval
from experiments.secrets import Question
from experiments.store import Product, digest
from experiments.target import Target
from splitbench.advantage import Trials, judged
from splitbench.described import Described
from splitbench.inference import Inference, Known
from splitbench.record import Interval, Scores
from splitbench.rng import stream
from splitbench.statistics import Resampler


@dataclass(frozen=True)
class InferenceVerdict:
    """What one inference at one cut is worth."""

    leakage: Mapping[str, Interval]
    floors: Mapping[str, float]
    ceilings: Mapping[str, float]
    scores: Scores


TRUSTED = 2.0  # calibration images that outweigh what a class means in training


class PredictionAlone(Described):
    """Names the surface on which the judge learns what the server's prediction tells."""


class InferenceJudge:
    """Holds the truth about one secret, and its floors and ceilings."""

    def __init__(self, job: Job, question: Question) -> None:
        """Judge inferences of one secret of the job's targets."""
        self.job = job
        self.question = question
        self.truth = question.numbers(job.roles.target)
        self._ceilings: dict[str, Tensor] = {}
        self._predictions: dict[str, Tensor] = {}
        self._resampler = Resampler(resamples=RESAMPLES)

    @property
    def prior(self) -> float:
        """Score of whoever always names the same value: 1 over those that occur, or on file."""
        if self.question.persons is not None:
            return 1 / self.question.count
        return 1 / len(self.truth.unique())

    def verdict(
        self, scores: Tensor, inference: Inference, known: Known, target: Target
    ) -> InferenceVerdict:
        """Judge the scores ``(n, values)`` of all targets.

        Who reads a side channel is told no prediction, and pixels have none: it is measured from
        the prior to being always right.
        """
        right = (scores.argmax(1) == self.truth).cpu().numpy()
        side = inference.side_channel
        prediction = (self._prediction(target) == self.truth).cpu().numpy() & (not side)
        pixels = np.ones_like(right) if side else self._ceiling(inference, known).cpu().numpy()
        groups: NDArray[np.int64] = self.truth.cpu().numpy()
        if self.question.persons is not None:
            groups = np.zeros_like(groups)
        found = judged(
            [Trials(groups, right, prediction, pixels)],
            prior=self.prior,
            resampler=self._resampler,
        )
        leakage = {self.question.secret.measure: interval(found.score)}
        if found.advantage is not None:
            leakage["advantage"] = interval(found.advantage)
        nothing = np.zeros((0, *self.job.roles.target.shape), np.uint8)
        return InferenceVerdict(
            leakage=leakage,
            floors={"prior": self.prior} | ({} if side else {"prediction": found.prediction}),
            ceilings={} if side else {"pixels": found.pixels},
            scores=Scores(
                {
                    "right": right.astype(np.float64),
                    "group": groups.astype(np.float64),
                    "pixels": pixels.astype(np.float64),
                },
                {"prediction": prediction.astype(np.float64)},
                nothing,
                nothing,
            ),
        )

    def _prediction(self, target: Target) -> Tensor:
        """The value that suits the class predicted for each target best, as calibration has it."""
        if target.key not in self._predictions:
            surface = self.job.judges_surface(target, PredictionAlone())
            values = self.question.numbers(self.job.calibration_feed.train)
            times = self._taken_at_its_word(surface.classes)
            for numbers, release in surface.labelled_pairs(values):
                predicted, known = surface.outcome(release), numbers >= 0
                ones = torch.ones(int(known.sum()))
                times.index_put_((predicted[known], numbers[known]), ones, accumulate=True)
            if self.question.persons is None:  # every value has the same say
                times = times / times.sum(0).clamp(min=1)
            best = times.argmax(1)
            self._predictions[target.key] = best[target.outcomes()]
        return self._predictions[target.key]

    def _taken_at_its_word(self, classes: int) -> Tensor:
        """What values a class has in the training images: worth a few calibration images.

        A class that the server never names there, or once by mistake, would else tell nothing.
        """
        train = self.job.roles.train
        times = torch.zeros(classes + 1, self.question.count)  # the last: nothing was sent
        if self.question.secret.values(train) is not None:
            places = train.labels, self.question.numbers(train)
            times.index_put_(places, torch.ones(len(train)), accumulate=True)
        return TRUSTED * times / times.sum(1, keepdim=True).clamp(min=1)

    def _ceiling(self, inference: Inference, known: Known) -> Tensor:
        """Whether a fresh copy of the inference is right about each target from its pixels."""
        name = repr(inference)
        if name not in self._ceilings:
            product = self.job.store.product(
                "ceiling", self._ceiling_key(name), lambda: self._from_pixels(inference, known)
            )
            self._ceilings[name] = product.tensors["right"].bool()
        return self._ceilings[name]

    def _ceiling_key(self, name: str) -> str:
        parts: dict[str, Any] = {
            "inference": name,
            "secret": self.question.secret.name,
            "roles": self.job.roles.fingerprints(),
            "seed": self.job.seed,
            "code": self.job.code,
        }
        return digest(parts)

    def _from_pixels(self, inference: Inference, known: Known) -> Product:
        fresh = type(inference)(**inference.arguments())
        pixels = self.job.pixels()
        surface = self.job.ceilings_surface(pixels, fresh)
        name = f"{type(fresh).__name__} on pixels"
        with self.job.reporter.stage(f"{name}, {self.question.secret.name}") as meter:
            generator = stream(self.job.seed, "ceiling", repr(fresh), self.question.secret.name)
            for progress in fresh.fitting(surface, known, generator=generator):
                meter(progress.step, progress.steps, progress.loss)
        scores = torch.cat([fresh(part, surface) for part in pixels.parts()])
        right = scores.argmax(1) == self.truth
        return Product({"right": right.to(torch.uint8)})
