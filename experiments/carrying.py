"""What the runtime takes on this machine: to carry the releases of a model, and to start."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Served:
    """A model that is to be served for a while.

    Attributes:
        cuttable: The model.
        node: Describes it, for who builds it again.
        images: ``(n, c, h, w)``, float in [0, 1], to send.
        classes: Number of classes.
    """

    cuttable: "Cuttable"
    node: Mapping[str, Any]
    images: "Tensor"
    classes: int

    def write(self, cut: "Cut", folder: Path) -> None:
        """Both segments of the undefended model, cut once."""
        from defenses.no_defense import NoDefense
        from offloading.runtime.export import export
        from splitbench.codecs.float32 import Float32
        from splitbench.deployment import Deployment

        plain = (NoDefense(), Float32())
        deployment = Deployment(self.cuttable.split(cut), *plain, cut.tensors, plain)
        export(deployment, folder, model=self.node, images=self.images[:1], classes=self.classes)


def carried(
    served: Served, cuts: Sequence["Cut"], *, requests: int, reporter: Reporter
) -> tuple[Measured, ...]:
    """Cut a model at releases of several sizes and run it between two processes.

    Args:
        served: The model.
        cuts: Of which some are taken, by size.
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
            served.write(cut, folder)
            subjects.append(Subject(name=cut.name, folder=folder, tiers=(NEAR, FAR)))
        with reporter.stage(f"sending releases of {len(subjects)} cuts to a process") as meter:
            return measure_carrying(subjects, served.images, requests=requests, on_request=meter)


def started(served: Served, cut: "Cut", *, starts: int, reporter: Reporter) -> ColdStarts:
    """Start a function that runs the model from a cut on, each time in a fresh interpreter.

    Args:
        served: The model.
        cut: Where it begins; ``input`` for the whole model.
        starts: How many.
        reporter: Says what is done.

    Raises:
        ArtefactError: The model cannot be served.
        RequestFailed: An instance died or took too long.
    """
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room) / "0"
        served.write(cut, folder)
        with reporter.stage(f"starting a function {starts} times") as meter:
            return measure_cold_starts(folder, served.images[0], starts=starts, on_start=meter)


def by_size(cuts: Sequence["Cut"]) -> list["Cut"]:
    """The cuts with the smallest and the largest release, and one halfway between them."""
    sent = {cut.bytes: cut for cut in cuts if not cut.is_output}
    sizes = sorted(sent)
    wanted = [sizes[0], min(sizes, key=lambda size: abs(size - sizes[-1] / 2)), sizes[-1]]
    return [sent[size] for size in dict.fromkeys(wanted)]
