"""What the runtime takes on this machine: to carry the releases of a model, and to start."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.console import Reporter
from offloading.cold_starts import ColdStarts
from offloading.measuring.cold import measure_cold_starts
from offloading.measuring.loopback import FAR, NEAR, measure_carrying
from offloading.measuring.result import Measured
from offloading.measuring.subject import Subject

if TYPE_CHECKING:
    from torch import Tensor

    from splitbench.split import Cut, Cuttable


def carried(
    cuttable: "Cuttable",
    cuts: Sequence["Cut"],
    images: "Tensor",
    *,
    model: Mapping[str, Any],
    classes: int,
    requests: int,
    reporter: Reporter,
) -> tuple[Measured, ...]:
    """Cut a model at releases of several sizes and run it between two processes.

    Args:
        cuttable: The model.
        cuts: Of which some are taken, by size.
        images: ``(n, c, h, w)``, float in [0, 1].
        model: The node that describes the model.
        classes: Number of classes.
        requests: Timed ones of each size.
        reporter: Says what is done.

    Raises:
        ArtefactError: The model cannot be served.
        MeasureError: A request has failed.
    """
    with tempfile.TemporaryDirectory() as room:
        subjects: list[Subject] = []
        for cut in by_size(cuts):
            folder = Path(room) / str(len(subjects))
            _write(cuttable, cut, folder, images[:1], model=model, classes=classes)
            subjects.append(Subject(name=cut.name, folder=folder, tiers=(NEAR, FAR)))
        with reporter.stage(f"sending releases of {len(subjects)} cuts to a process") as meter:
            return measure_carrying(subjects, images, requests=requests, on_request=meter)


def started(
    cuttable: "Cuttable",
    cut: "Cut",
    images: "Tensor",
    *,
    model: Mapping[str, Any],
    classes: int,
    starts: int,
    reporter: Reporter,
) -> ColdStarts:
    """Start a function that runs the model from a cut on, each time in a fresh interpreter.

    Args:
        cuttable: The model.
        cut: Where it begins; ``input`` for the whole model.
        images: ``(n, c, h, w)``, float in [0, 1].
        model: The node that describes the model.
        classes: Number of classes.
        starts: How many.
        reporter: Says what is done.

    Raises:
        ArtefactError: The model cannot be served.
        RequestFailed: An instance died or took too long.
    """
    with tempfile.TemporaryDirectory() as room:
        _write(cuttable, cut, Path(room) / "0", images[:1], model=model, classes=classes)
        with reporter.stage(f"starting a function {starts} times") as meter:
            return measure_cold_starts(Path(room) / "0", images[0], starts=starts, on_start=meter)


def _write(
    cuttable: "Cuttable",
    cut: "Cut",
    folder: Path,
    images: "Tensor",
    *,
    model: Mapping[str, Any],
    classes: int,
) -> None:
    """Both segments of the undefended model, cut once."""
    from defenses.no_defense import NoDefense
    from offloading.runtime.export import export
    from splitbench.codecs.float32 import Float32
    from splitbench.deployment import Deployment

    plain = (NoDefense(), Float32())
    deployment = Deployment(cuttable.split(cut), *plain, cut.tensors, plain)
    export(deployment, folder, model=model, images=images, classes=classes)


def by_size(cuts: Sequence["Cut"]) -> list["Cut"]:
    """The cuts with the smallest and the largest release, and one halfway between them."""
    sent = {cut.bytes: cut for cut in cuts if not cut.is_output}
    sizes = sorted(sent)
    wanted = [sizes[0], min(sizes, key=lambda size: abs(size - sizes[-1] / 2)), sizes[-1]]
    return [sent[size] for size in dict.fromkeys(wanted)]
