"""Fits the inferences of a job, those at all cuts side by side, and asks them."""

import copy
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.job import Job
from experiments.store import Product, digest
from experiments.target import Target
from splitbench.fitting import Fit, fit_together
from splitbench.inference import Inference, Known
from splitbench.pool import Spent
from splitbench.progress import Progress
from splitbench.rng import stream
from splitbench.threat import Surface, ThreatModelError


@dataclass(frozen=True)
class Finding:
    """What a fitted inference said about the targets, and what that took."""

    scores: Tensor
    seconds: float
    queries: int


class InferenceFitter:
    """Fits one inference at all cuts side by side; what is in the store is not fitted again."""

    def __init__(self, job: Job) -> None:
        """Fit for the targets of a job."""
        self.job = job

    def fit(
        self, inference: Inference, known: Known, targets: Mapping[str, Target], secret: str
    ) -> dict[str, Finding | Exception | str]:
        """Fit a copy at each cut, all side by side, and let each infer.

        Args:
            inference: Not fitted; left as it is.
            known: What the adversary knows.
            targets: By cut.
            secret: Name of what is to be found out.

        Returns:
            By cut the finding, what went wrong, or why the threat model rules it out.
        """
        found: dict[str, Finding | Exception | str] = {}
        fresh: dict[str, tuple[Inference, Surface]] = {}
        for cut, target in targets.items():
            one = copy.deepcopy(inference)
            surface = self.job.surface(target, one, f"infer {secret}")
            key = self._key(inference, target, secret)
            if self.job.store.has("inference", key):
                product = self.job.store.product("inference", key, Product)
                one.import_state(product.tensors, surface)
                found[cut] = self._ask(one, target, product.facts)
            else:
                fresh[cut] = one, surface
        for cut, fit in self._fitted(fresh, known, secret).items():
            one, surface = fresh[cut]
            if isinstance(fit.error, ThreatModelError):
                found[cut] = str(fit.error)
            elif fit.error is not None:
                found[cut] = fit.error
            else:
                facts = {"seconds": fit.seconds, **asdict(surface.spent)}
                key = self._key(inference, targets[cut], secret)
                self.job.store.put("inference", key, Product(one.export_state(), facts))
                found[cut] = self._ask(one, targets[cut], facts)
        return found

    def _fitted(
        self, fresh: Mapping[str, tuple[Inference, Surface]], known: Known, secret: str
    ) -> dict[str, Fit]:
        if not fresh:
            return {}
        fittings = {
            cut: one.fitting(
                surface,
                known,
                generator=stream(self.job.seed, "inference", repr(one), secret, cut),
            )
            for cut, (one, surface) in fresh.items()
        }
        last = list(fresh)[-1]
        kind = type(fresh[last][0]).__name__
        with self.job.reporter.stage(f"fitting {kind} at {len(fresh)} cuts, {secret}") as meter:

            def on_step(cut: str, progress: Progress) -> None:
                if cut == last:
                    meter(progress.step, progress.steps, progress.loss)

            return fit_together(fittings, on_step)

    def _key(self, inference: Inference, target: Target, secret: str) -> str:
        """Names what was learnt."""
        parts = {
            "deployment": target.key,
            "threat": self.job.config["threat"],
            "seed": self.job.seed,
            "inference": repr(inference),
            "secret": secret,
            "roles": self.job.roles.fingerprints(),
        }
        return digest(parts)

    def _ask(
        self, inference: Inference, target: Target, facts: Mapping[str, Any]
    ) -> Finding | Exception:
        spent = Spent(queries=int(facts["queries"]), pooled=int(facts["pooled"]))
        surface = self.job.surface(target, inference, "infer", spent=spent)
        began = time.perf_counter()
        try:
            scores = torch.cat([inference(part, surface) for part in target.parts()])
        except Exception as error:  # noqa: BLE001  # becomes the record of a failed cell
            return error
        seconds = float(facts["seconds"]) + time.perf_counter() - began
        return Finding(scores, seconds, surface.spent.queries)
