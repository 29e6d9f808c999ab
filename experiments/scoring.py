"""Compares guesses with the truth, which no attack ever sees, by every metric of a job."""

import hashlib
from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.compose import build
from experiments.job import Job
from experiments.store import Product, digest
from splitbench.metric import Metric, MetricUnavailableError
from splitbench.metrics.evaluator import EvaluatorNet
from splitbench.placement import here
from splitbench.rng import isolated, stream
from splitbench.training import Training

BATCH = 500  # images scored at a time

Arrays = dict[str, NDArray[np.float64]]


class Scoring:
    """The metrics of a job, ready for its targets.

    Attributes:
        metrics: All of them.
        unavailable: Metric to why it cannot be had here.
    """

    def __init__(self, job: Job) -> None:
        """Build the metrics; the classifier that some need learns from the calibration role."""
        self.job = job
        self.truth = job.roles.target.images()
        self.limits: Mapping[str, int] = job.config["metric_examples"]
        self.unavailable: dict[str, str] = {}
        self._known: dict[str, Arrays] = {}
        self.metrics: list[Metric] = []
        for node in job.config["metrics"].values():
            metric: Metric = build(dict(node))
            self.metrics.append(metric.bind(self.evaluator) if metric.needs_evaluator else metric)
            if metric.needs_gallery:
                self._enroll(metric)

    @cached_property
    def evaluator(self) -> nn.Module:
        """A classifier that shares neither data nor architecture with the task model."""
        job, calibration = self.job, self.job.roles.calibration
        with isolated(stream(job.seed, "evaluator", "initialisation")):
            net = EvaluatorNet(image_shape=calibration.shape, classes=len(calibration.classes))

        def make() -> Product:
            with job.reporter.stage("training the independent classifier") as meter:
                # A small data set (faces) has fewer images here than a usual batch.
                Training(epochs=20, batch_size=min(64, len(calibration))).fit(
                    net,
                    calibration,
                    generator=stream(job.seed, "evaluator", "training"),
                    on_step=lambda p: meter(p.step, p.steps, p.loss),
                )
            return Product(net.state_dict())

        key = digest([calibration.fingerprint(), job.seed, job.code])
        net.load_state_dict(dict(job.store.product("evaluator", key, make).tensors))
        return net.to(here()).eval().requires_grad_(False)

    def __call__(self, guess: Tensor) -> Arrays:
        """Every available metric on guesses for the first ``len(guess)`` targets.

        Blind guesses are the same at every cut; equal guesses are scored once.
        """
        key = hashlib.sha256(guess.cpu().contiguous().numpy().tobytes()).hexdigest()
        if key not in self._known:
            self._known[key] = self._score(guess)
        return dict(self._known[key])

    def _score(self, guess: Tensor) -> Arrays:
        scores: Arrays = {}
        for metric in self.metrics:
            if metric.key in self.unavailable:
                continue
            n = min(len(guess), self.limits.get(metric.key, len(guess)))
            try:
                pairs = zip(
                    guess[:n].split(BATCH), self._truth_for(metric)[:n].split(BATCH), strict=True
                )
                scores[metric.key] = torch.cat([metric(*pair) for pair in pairs]).cpu().numpy()
            except MetricUnavailableError as error:
                self.unavailable[metric.key] = str(error)
        return scores

    def _enroll(self, metric: Metric) -> None:
        """Put the victim's training photographs on file, where they say whom they show."""
        train = self.job.roles.train
        if train.identities is None:
            self.unavailable[metric.key] = "the data set does not say who is in the picture"
            return
        try:
            metric.enroll(train.images(), train.identities)
        except MetricUnavailableError as error:
            self.unavailable[metric.key] = str(error)

    def _truth_for(self, metric: Metric) -> Tensor:
        if metric.compares_with == "images":
            return self.truth
        target = self.job.roles.target
        if metric.compares_with == "identities" and target.identities is not None:
            return target.identities
        return target.labels
