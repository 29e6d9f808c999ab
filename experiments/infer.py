"""Evaluate the inferences of one job: attacks whose secret is a property of the image."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from experiments.compose import build
from experiments.errors import UserError
from experiments.inference_fitter import Finding, InferenceFitter
from experiments.inference_judge import InferenceJudge, InferenceVerdict
from experiments.job import Job
from experiments.recording import write_record
from experiments.secrets import Question, questions_of
from experiments.store import digest
from experiments.target import Target
from splitbench.inference import Inference
from splitbench.record import Cell, Record
from splitbench.split import Cut


@dataclass(frozen=True)
class Inquiry:
    """One cell to be.

    Attributes:
        cut: Where.
        name: Label of the inference.
        question: What it is to find out.
        cell_id: Names the cell's numbers.
    """

    cut: Cut
    name: str
    question: Question
    cell_id: str


def inquiries(job: Job, shared: Mapping[str, Any]) -> list[Inquiry]:
    """The cells of a job's inferences.

    Args:
        job: With `inferences`, by label.
        shared: What determines the numbers of all cells of the job.

    Raises:
        UserError: The data says nothing that an inference could be after.
    """
    nodes = job.config.get("inferences") or {}
    built = {name: inference_of(name, nodes) for name in nodes}
    questions = questions_of(job.roles) if nodes else []
    found = [
        Inquiry(cut, name, question, digest({
            **shared, "cut": cut.name, "inference": nodes[name], "name": name,
            "secret": question.secret.name,
        }))
        for name, inference in built.items()
        for question in questions
        if question.secret.kind == inference.secret
        for cut in job.cuts
    ]  # fmt: skip
    if nodes and not found:
        raise UserError(
            "the data names nothing that these inferences could find out: choose data with "
            "attributes or persons, such as data=fashion_mnist_coarse, or inferences=null"
        )
    return found


def inference_of(name: str, nodes: Mapping[str, Mapping[str, Any]]) -> Inference:
    """Build one.

    Raises:
        UserError: It is something else.
    """
    inference = build(dict(nodes[name]))
    if not isinstance(inference, Inference):
        raise UserError(f"inference '{name}' is a {type(inference).__name__}, not an Inference")
    return inference


class Inferring:
    """The state of one job's inferences while its cells are computed."""

    def __init__(self, job: Job, common: Mapping[str, Any], names: Mapping[str, str]) -> None:
        """Begin.

        Args:
            job: Whose.
            common: Fields that all its records share.
            names: Labels of ``data``, ``model`` and ``defense``.
        """
        self.job = job
        self.common = common
        self.names = names
        self.nodes: Mapping[str, Mapping[str, Any]] = job.config["inferences"]

    def run(self, missing: list[Inquiry], threat: Mapping[str, Any]) -> list[Record]:
        """Compute cells, those at all cuts of an inference side by side."""
        records = []
        questions = {i.question.secret.name: i.question for i in missing}
        for secret, question in questions.items():
            judge = InferenceJudge(self.job, question)
            mine = [i for i in missing if i.question.secret.name == secret]
            for name in dict.fromkeys(i.name for i in mine):
                todo = [i for i in mine if i.name == name]
                for inquiry, outcome in self._outcomes(todo, question):
                    records.append(self._judge(inquiry, outcome, judge, threat))
        return records

    def _outcomes(
        self, todo: list[Inquiry], question: Question
    ) -> list[tuple[Inquiry, Finding | Exception | str]]:
        inference = inference_of(todo[0].name, self.nodes)
        refused = inference.needs - self.job.threat.grants()
        if refused:
            reason = f"the threat model does not grant: {', '.join(sorted(refused))}"
            return [(inquiry, reason) for inquiry in todo]
        known = question.known(self.job.auxiliary_feed)
        if known is None:
            return [
                (i, f"the adversary's images do not say {i.question.secret.name}") for i in todo
            ]
        targets = {i.cut.name: self.job.target(i.cut) for i in todo}
        idle = {cut: _idle(inference, target) for cut, target in targets.items()}
        chosen = {cut: target for cut, target in targets.items() if not idle[cut]}
        findings = InferenceFitter(self.job).fit(inference, known, chosen, question.secret.name)
        return [(i, idle[i.cut.name] or findings[i.cut.name]) for i in todo]

    def _judge(
        self,
        inquiry: Inquiry,
        outcome: Finding | Exception | str,
        judge: InferenceJudge,
        threat: Mapping[str, Any],
    ) -> Record:
        inference = inference_of(inquiry.name, self.nodes)
        target = self.job.target(inquiry.cut)
        record = Record(
            cell_id=inquiry.cell_id,
            cell=self._cell(inquiry, inference, target, threat),
            status="not_applicable",
            targets=0,
            **self.common,
        )
        if isinstance(outcome, str):
            record = replace(record, error=outcome)
            return write_record(self.job.store, record, None)
        if isinstance(outcome, Exception):
            text = f"{type(outcome).__name__}: {outcome}"
            where = f"{inquiry.name} at {inquiry.cut.name}"
            self.job.reporter.fail(f"{where}: {text}")
            return write_record(self.job.store, replace(record, status="failed", error=text), None)
        known = inquiry.question.known(self.job.auxiliary_feed)
        if known is None:
            raise RuntimeError("inferred what the adversary knows nothing of")
        verdict: InferenceVerdict = judge.verdict(outcome.scores, inference, known, target)
        record = replace(
            record,
            status="ok",
            targets=len(outcome.scores),
            leakage=verdict.leakage,
            floors=verdict.floors,
            ceilings=verdict.ceilings,
            cost={"attack_seconds": outcome.seconds, "queries": float(outcome.queries)},
        )
        return write_record(self.job.store, record, verdict.scores)

    def _cell(
        self, inquiry: Inquiry, inference: Inference, target: Target, threat: Mapping[str, Any]
    ) -> Cell:
        return Cell(
            **{key: self.names[key] for key in ("data", "model")},
            cut=inquiry.cut.name,
            cut_index=inquiry.cut.index,
            defense=repr(target.deployment.defense),
            defense_name=self.names["defense"],
            codec=repr(target.deployment.codec),
            attack=repr(inference),
            attack_name=inquiry.name,
            floor=False,
            target_role=self.job.config["target_role"],
            threat=threat,
            seed=self.job.seed,
            secret=inquiry.question.secret.name,
        )


def _idle(inference: Inference, target: Target) -> str:
    """Why an inference can tell nothing from these releases; empty where it might."""
    reasons = {inference.says_nothing_about(part) for part in target.parts()}
    return "" if "" in reasons else reasons.pop()
