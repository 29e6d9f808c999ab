"""Evaluate the cells of one job that are not in the store yet."""

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.attack_fitter import AttackFitter, Fitted
from experiments.compose import build, source_digest, without
from experiments.console import Reporter
from experiments.errors import UserError
from experiments.infer import Inferring, Inquiry, inquiries
from experiments.job import Job
from experiments.judge import Judge, Verdict
from experiments.recording import write_record
from experiments.store import Store, digest
from experiments.target import Target
from experiments.tracking import Tracking
from splitbench import __version__
from splitbench.attack import Attack
from splitbench.data.images import ROLES
from splitbench.placement import computing_on, found, here, name_of
from splitbench.record import Cell, Record, Scores
from splitbench.rng import stream
from splitbench.split import Cut
from splitbench.threat import Access

FLOORS = ("constant_color", "mean_image", "class_mean")


@dataclass(frozen=True)
class Plan:
    """One cell to be.

    Attributes:
        cut: Where.
        attack_name: Label of the attack in its suite.
        cell_id: Names the cell's numbers.
    """

    cut: Cut
    attack_name: str
    cell_id: str


def evaluate(
    config: Mapping[str, Any],
    choices: Mapping[str, Any],
    job_id: str,
    store: Store,
    reporter: Reporter,
) -> list[str]:
    """Evaluate a job and return the ids of all its cells; finished ones are not computed again."""
    if config["threads"]:
        torch.set_num_threads(int(config["threads"]))
    with computing_on(_device(str(config["device"]))):
        return _evaluate(config, choices, job_id, store, reporter)


def _device(name: str) -> torch.device:
    """Where to compute, repeatably as far as that is possible there."""
    try:
        device = found(name)
    except ValueError as error:
        raise UserError(str(error)) from error
    # cuBLAS wants to be told before it is first used; not every function of CUDA can do it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
    return device


def _evaluate(
    config: Mapping[str, Any],
    choices: Mapping[str, Any],
    job_id: str,
    store: Store,
    reporter: Reporter,
) -> list[str]:
    job = Job(config, store, reporter)
    attacks = chosen_attacks(config, choices, job.threat.grants())
    _check(job, attacks)
    plans = plan(job, attacks)
    asked = inquiries(job, shared_parts(job))
    missing = [p for p in plans if not store.has_cell(p.cell_id)]
    open_questions = [i for i in asked if not store.has_cell(i.cell_id)]
    if missing or open_questions:
        done = len(plans) + len(asked) - len(missing) - len(open_questions)
        _Evaluation(job, attacks, choices, job_id).run(missing, open_questions, done=done)
    return [p.cell_id for p in plans] + [i.cell_id for i in asked]


def _check(job: Job, attacks: Mapping[str, Mapping[str, Any]]) -> None:
    """Build everything that is cheap, so that a wrong setting fails before any work."""
    _ = job.threat, job.protection()
    for name in attacks:
        _attack(name, attacks)
    _ = job.training
    job.check_fit()


def _attack(name: str, attacks: Mapping[str, Mapping[str, Any]]) -> Attack:
    attack = build(dict(attacks[name]))
    if not isinstance(attack, Attack):
        raise UserError(f"attack '{name}' is a {type(attack).__name__}, not an Attack")
    return attack


def chosen_attacks(
    config: Mapping[str, Any], choices: Mapping[str, Any], granted: frozenset[Access]
) -> dict[str, Mapping[str, Any]]:
    """The suite's attacks, or its floors and the one attack that ``attack=`` names.

    Of the suite those are left out that are there for who lacks what this adversary has.
    """
    suite = dict(config["attacks"])
    if not config.get("attack"):
        spare = {name for name, access in config["without"].items() if access in granted}
        return {name: node for name, node in suite.items() if name not in spare}
    floors = {name: node for name, node in suite.items() if name in FLOORS}
    return {**floors, str(choices.get("attack", "attack")): config["attack"]}


def plan(job: Job, attacks: Mapping[str, Mapping[str, Any]]) -> list[Plan]:
    """The cells of a job; each is named by what determines its numbers, not by its neighbours."""
    shared = shared_parts(job)
    return [
        Plan(cut, name, digest({**shared, "cut": cut.name, "attack": node, "name": name}))
        for name, node in attacks.items()
        for cut in job.cuts
    ]


def shared_parts(job: Job) -> dict[str, Any]:
    """What determines the numbers of every cell of a job."""
    irrelevant = (
        "without",
        "inferences",
        "cuts",
        "attacks",
        "attack",
        "paths",
        "tracking",
        "threads",
        "device",
        "claimed",
        "gallery",
    )
    return {
        **without(dict(job.config), *irrelevant, "data", "auxiliary"),
        "code": job.code,
        "data": job.roles.fingerprints(),
    }


class _Evaluation:
    """The state of one job while its cells are computed."""

    def __init__(
        self,
        job: Job,
        attacks: Mapping[str, Mapping[str, Any]],
        choices: Mapping[str, Any],
        job_id: str,
    ) -> None:
        self.job = job
        self.attacks = attacks
        self.choices = choices
        self.job_id = job_id
        self.environment = environment()

    def run(self, missing: list[Plan], asked: list[Inquiry], *, done: int) -> None:
        job = self.job
        count = len(missing) + len(asked)
        job.reporter.say(f"{count} cells to compute, {done} finished earlier")
        tracking: Tracking = build(job.config["tracking"])
        tracking.start(job.config, f"{job.reporter.label} {self.job_id[:6]}")
        records = self._images(missing, tracking) if missing else []
        records += self._inferences(asked, tracking) if asked else []
        tracking.finish(records)

    def _images(self, missing: list[Plan], tracking: Tracking) -> list[Record]:
        job = self.job
        judge = Judge(job)
        needed = {p.cut.name: p.cut for p in missing}
        targets: dict[str, Target] = {}
        for cut in needed.values():
            targets[cut.name] = job.target(cut)
            judge.see(targets[cut.name])
        fitter = AttackFitter(job, targets, lambda name, p: tracking.curve(name, p.step, p.loss))
        records = []
        for name in dict.fromkeys(p.attack_name for p in missing):
            todo = {p.cut.name: p for p in missing if p.attack_name == name}
            for record, scores in self._attack(name, todo, targets, fitter, judge):
                tracking.cell(record, scores)
                records.append(record)
        return records

    def _inferences(self, asked: list[Inquiry], tracking: Tracking) -> list[Record]:
        job = self.job
        common = {
            "protocol": str(job.config["protocol"]),
            "job_id": self.job_id,
            "environment": self.environment,
            "data_fingerprints": job.roles.fingerprints(),
            "images": {role: len(getattr(job.roles, role)) for role in ROLES},
        }
        names = {key: str(self.choices[key]) for key in ("data", "defense")}
        names["model"] = self._model()
        records = Inferring(job, common, names).run(asked, self._threat())
        for record in records:
            tracking.cell(record, None)
        return records

    def _attack(
        self,
        name: str,
        todo: Mapping[str, Plan],
        targets: Mapping[str, Target],
        fitter: AttackFitter,
        judge: Judge,
    ) -> list[tuple[Record, Scores | None]]:
        """Fit one attack at all its cuts together, then guess, score and write each cell."""
        fresh = {cut: _attack(name, self.attacks) for cut in todo}
        needs = next(iter(fresh.values())).needs
        refused = needs - self.job.threat.grants()
        outcomes: Mapping[str, Fitted | Exception | str]
        if refused:
            lacking = ", ".join(sorted(refused))
            outcomes = dict.fromkeys(todo, f"the threat model does not grant: {lacking}")
        else:
            outcomes = fitter.fit(fresh)
        results = []
        for cut, outcome in outcomes.items():
            verdict: Verdict | Exception | str
            if isinstance(outcome, Fitted):
                verdict = self._judge(outcome, targets[cut], judge)
            else:
                verdict = outcome
            record, scores = self._record(todo[cut], fresh[cut], targets[cut], judge, verdict)
            write_record(self.job.store, record, scores)
            results.append((record, scores))
        return results

    def _judge(self, fitted: Fitted, target: Target, judge: Judge) -> Verdict | Exception:
        attack, cut = fitted.attack, target.deployment.split.cut.name
        try:
            guess, seconds, queries = self._recover(fitted, target)
            surface = self.job.surface(target, attack, "diagnose")
            first = next(target.parts(len(guess)))  # enough to say whether a search succeeds
            diagnostics = attack.diagnostics(guess[: len(first)], first, surface)
        except Exception as error:  # noqa: BLE001  # becomes the record of a failed cell
            return error
        cost = {
            "attack_seconds": fitted.seconds + seconds,
            "queries": fitted.spent.queries + queries,
        }
        return judge.verdict(guess, cut, attack, cost, diagnostics)

    def _recover(self, fitted: Fitted, target: Target) -> tuple[Tensor, float, int]:
        attack = fitted.attack
        surface = self.job.surface(target, attack, "recover", spent=fitted.spent)
        cut = target.deployment.split.cut.name
        generator = stream(self.job.seed, "attack", repr(attack), cut, "recover")
        began = time.perf_counter()
        guess = target.guessed_by(attack, surface, generator=generator)
        return guess, time.perf_counter() - began, surface.queries

    def _record(
        self,
        plan: Plan,
        attack: Attack,
        target: Target,
        judge: Judge,
        verdict: "Verdict | Exception | str",
    ) -> tuple[Record, Scores | None]:
        config = self.job.config
        cell = Cell(
            data=str(self.choices["data"]),
            model=self._model(),
            cut=plan.cut.name,
            cut_index=plan.cut.index,
            defense=repr(target.deployment.defense),
            defense_name=str(self.choices["defense"]),
            codec=repr(target.deployment.codec),
            attack=repr(attack),
            attack_name=plan.attack_name,
            floor=attack.floor,
            target_role=config["target_role"],
            threat=self._threat(),
            seed=self.job.seed,
        )
        common = judge.facts(plan.cut.name) | {
            "protocol": str(config["protocol"]),
            "cell_id": plan.cell_id,
            "job_id": self.job_id,
            "cell": cell,
            "claimed": dict(config["claimed"]),
            "environment": self.environment,
        }
        if isinstance(verdict, Verdict):
            cost = {**common.pop("cost"), **verdict.cost}
            diagnostics = {**common.pop("diagnostics"), **verdict.diagnostics}
            return Record(
                status="ok",
                targets=verdict.targets,
                leakage=verdict.leakage,
                normalised=verdict.normalised,
                diagnostics=diagnostics,
                flags=verdict.flags,
                cost=cost,
                **common,
            ), verdict.scores
        if isinstance(verdict, str):
            return Record(status="not_applicable", error=verdict, targets=0, **common), None
        text = f"{type(verdict).__name__}: {verdict}"
        self.job.reporter.fail(f"{plan.attack_name} at {plan.cut.name}: {text}")
        return Record(status="failed", error=text, targets=0, **common), None

    def _model(self) -> str:
        """What the leaderboard calls it: by its name, and how it was trained if that matters."""
        if self.job.config["model_name"]:
            return str(self.job.config["model_name"])
        return ", ".join(filter(None, (str(self.choices["model"]), self.job.training.label)))

    def _threat(self) -> dict[str, Any]:
        """The adversary, with the name of its images where they are others."""
        threat = dict(self.job.config["threat"])
        if self.job.threat.auxiliary == "shifted":
            threat["auxiliary_data"] = str(self.choices["data@auxiliary"])
        return threat


def environment() -> dict[str, str]:
    """What the numbers were computed with."""
    return {
        "splitbench": __version__,
        "code": source_digest(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "machine": platform.machine(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "device": name_of(here()),
    }
