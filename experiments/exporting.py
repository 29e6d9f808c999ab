"""Artefacts of the plans of a file, from what its records were made with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.compose import build, configured, plain
from experiments.console import Reporter
from experiments.expressions import node_of
from experiments.settings import check_settings
from experiments.store import Store
from offloading.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor, nn

    from experiments.job import Job
    from splitbench.deployment import Deployment

IMAGES = 32  # sent in turn
CHECKED = 4  # on which what was written is compared with what it was written from
WHOLE = (
    "output",
    "NoDefense()",
    "Float32()",
)  # cut, defense and codec of a device that sends nothing


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A plan that was written.

    Attributes:
        folder: Of its artefacts.
        expected: Logits ``(n, classes)`` that it must answer for the images, bit for bit; None
            where something is lost or drawn on the way, so that no answer is the only right one.
        not_compared: What that is.
    """

    folder: Path
    expected: "Tensor | None"
    not_compared: str


def exported(
    plans: Mapping[str, Plan],
    run: Sequence[str],
    settings: Mapping[str, Any],
    room: Path,
    reporter: Reporter,
) -> tuple[dict[str, Exported], "Tensor"]:
    """Write the segments of every plan, and find images to send and what is to be answered.

    Models and defenses come from the store where a run has put them; else they are made now.

    Args:
        plans: By name.
        run: Overrides of `splitbench run` that name model and data, and perhaps ``--config-dir``.
        settings: Of the command: ``paths``, ``device``, ``threads`` and ``trust`` are used.
        room: Folder to write to.
        reporter: Says what is made.

    Returns:
        What was written of each plan, and images ``(n, c, h, w)`` that nothing was trained on.

    Raises:
        UserError: A plan has no defense or codec that can be built.
        ArtefactError: A plan cannot be exported.
    """
    import torch

    from offloading.runtime.export import export
    from splitbench.placement import on_the_cpu

    config = plain(configured("run", run))
    config |= {name: settings[name] for name in ("paths", "device", "threads")}
    torch.set_num_threads(int(settings["threads"]))
    store = Store(Path(config["paths"]["runs"]))
    written: dict[str, Exported] = {}
    images = torch.zeros(0)
    for number, (name, plan) in enumerate(plans.items()):
        job = _job(plan, config, store, reporter)
        cut, *later = job.cuts
        images = job.roles.calibration.images(slice(0, IMAGES))
        folder = room / str(number)
        with on_the_cpu():
            deployment = job.deployment(cut)
            export(
                deployment,
                folder,
                model=config["model"],
                images=images[:CHECKED],
                classes=len(job.roles.train.classes),
                later_cuts=[far.name for far in later],
                seed=job.seed,
                trust=settings["trust"],
            )
            why = why_not_compared(deployment)
            expected = None if why else expected_answers(deployment, job.model, images)
        written[name] = Exported(folder=folder, expected=expected, not_compared=why)
    return written, images.cpu()


def why_not_compared(deployment: "Deployment") -> str:
    """Why the parts may answer otherwise than the whole; empty where they must not."""
    if deployment.defense.stochastic:
        return "its defense is random"
    if not deployment.codec.lossless:
        return "its codec is lossy"
    return ""


def expected_answers(deployment: "Deployment", model: "nn.Module", images: "Tensor") -> "Tensor":
    """Logits of the uncut model, or of the two sides in one process where a defense changes it.

    One image at a time, and with the threads of a measurement, so that every sum has its order.

    Args:
        deployment: Of which nothing is lost or drawn on the way.
        model: The uncut one.
        images: ``(n, c, h, w)``.

    Returns:
        ``(n, classes)``.
    """
    import torch

    from defenses.no_defense import NoDefense
    from offloading.measuring.processes import THREADS
    from splitbench.rng import stream

    def answer(image: "Tensor") -> "Tensor":
        if isinstance(deployment.defense, NoDefense):
            logits: Tensor = model(image)
            return logits
        release = deployment.release(image, generator=stream(0, "nobody draws"))
        return deployment.answer(image, release)

    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with torch.no_grad():
            return torch.cat([answer(image) for image in images.split(1)])
    finally:
        torch.set_num_threads(threads)


def _job(plan: Plan, config: Mapping[str, Any], store: Store, reporter: Reporter) -> "Job":
    """The job whose deployment is the plan's."""
    from experiments.job import Job

    option = plan.placement.option
    cut, defense, codec = WHOLE if option is None else (option.cut, option.defense, option.codec)
    chain = [cut] if option is None else [s.end for s in plan.placement.segments[:-1]]
    values = {**config, "defense": node_of(defense), "cuts": chain}
    if build(values["defense"]).codec is None:  # else what it was recorded with is its own
        values["codec"] = node_of(codec)
    check_settings(values)
    return Job(values, store, reporter)
