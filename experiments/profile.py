"""``splitbench profile``: what a model takes on this machine, cut by cut."""

import dataclasses
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from experiments.compose import build, configured, plain
from experiments.console import Reporter
from experiments.errors import UserError
from experiments.explain import sentence
from experiments.leaderboard import write
from offloading.carrying import Carrying
from offloading.cold_starts import ColdStarts
from offloading.profile import Profile

if TYPE_CHECKING:
    from experiments.carrying import Served
    from splitbench.split import Cut

HELP = """\
Time the head and the tail of every cut of a model on this machine, and write a JSON file.

usage: splitbench profile [KEY=VALUE ...]

  model=NAME                 which model; model.KEY=VALUE sets its keywords
  data=NAME                  whose image shape and number of classes
  image_shape=[3,32,32]      image shape, without loading any data
  classes=10                 number of classes, likewise
  granularity=module         module: ends of blocks; tensor: one live tensor; all: every cut
  runs=100 warmup=10         timed runs, and runs before them that are thrown away
  threads=1                  threads of torch
  carrying=true              time also what the runtime takes to carry messages here
  cold=10                    start so many fresh interpreters of a function with the model, and time
                             import, load and first request; 0 leaves it out
  --config-dir=DIR           a folder of yours with more models and data: DIR/model/mine.yaml
  out=profile.json           where to write

Run it on each kind of machine that shall take part, and name the files when planning:
scenario.tiers.phone.profile=phone.json
"""
WIDTH = 140  # where there is no terminal to ask


def main(arguments: Sequence[str]) -> int:
    """Measure and write; user errors end in one sentence and exit code 2."""
    words = list(arguments)
    if {"-h", "--help"} & set(words):
        sys.stdout.write(HELP)
        return 0
    try:
        config = plain(configured("profile", words))
        profile = profile_of(config, Reporter("profile"))
        write(Path(config["out"]), profile.to_json())
    except (UserError, HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        sys.stderr.write(f"error: {sentence(error)}\n")
        return 2
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(profile_table(profile))
    console.print(f"profile: {config['out']}")
    return 0


def profile_of(config: dict[str, Any], reporter: Reporter) -> Profile:
    """Build the model, untrained (which takes as long), and time its parts."""
    import torch

    from experiments.carrying import Served
    from offloading.profiling import measure_profile
    from splitbench.rng import isolated, stream
    from splitbench.split import Cuttable, UntraceableError

    shape, classes = image_shape_and_classes(config)
    with isolated(stream(config["seed"], "model", "initialisation")):
        model = build(config["model"])(image_shape=shape, classes=classes).eval()
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(config["seed"]))
    try:
        cuttable = Cuttable(model, image)
        cuts = cuttable.cuts(config["granularity"])
    except (UntraceableError, ValueError) as error:
        raise UserError(str(error)) from error
    served = Served(cuttable, config["model"], image, classes)
    carrying = _carrying(config, served, cuts, reporter)
    with reporter.stage(f"timing {len(cuts)} cuts") as meter:
        found = measure_profile(
            model,
            image,
            cuts,
            name=describe(config["model"], shape),
            machine=machine(),
            runs=config["runs"],
            warmup=config.get("warmup", 10),
            threads=config["threads"],
            seed=config["seed"],
            on_run=meter,
        )
    cold = _cold(config, served, cuts, reporter)
    return dataclasses.replace(found, carrying=carrying, cold=cold)


def _carrying(
    config: dict[str, Any], served: "Served", cuts: Sequence["Cut"], reporter: Reporter
) -> Carrying | None:
    """What the runtime takes here; None, with the reason, where it cannot be measured."""
    from experiments.carrying import carried
    from offloading.emulation.emulation import EmulationError
    from offloading.measuring.loopback import carrying_of
    from offloading.measuring.processes import MeasureError
    from offloading.runtime.errors import ArtefactError

    if not config["carrying"]:
        return None
    try:
        found = carried(served, cuts, requests=config["runs"], reporter=reporter)
    except (ArtefactError, EmulationError, MeasureError) as error:
        reporter.say(f"plans will leave out what the runtime takes: {sentence(error)}")
        return None
    return carrying_of(found)


def _cold(
    config: dict[str, Any], served: "Served", cuts: Sequence["Cut"], reporter: Reporter
) -> ColdStarts | None:
    """What cold starts take here; None where nobody asks.

    Raises:
        UserError: They cannot be measured.
    """
    from experiments.carrying import started
    from offloading.runtime.errors import ArtefactError, RequestFailed

    starts = config.get("cold", 0)
    if isinstance(starts, bool) or not isinstance(starts, int) or starts < 0:
        raise UserError(f"cold={starts!r}: want a whole number, at least 0")
    if not starts:
        return None
    try:
        return started(served, cuts[0], starts=starts, reporter=reporter)
    except (ArtefactError, RequestFailed) as error:
        raise UserError(f"cold starts cannot be measured: {sentence(error)}") from error


def image_shape_and_classes(config: dict[str, Any]) -> tuple[tuple[int, int, int], int]:
    """As the configuration says, or else as the data has them."""
    shape, classes = config["image_shape"], config["classes"]
    if shape is None or classes is None:
        train = build(config["data"]).load().train
        shape = shape or train.shape
        classes = classes or len(train.classes)
    channels, height, width = shape
    return (int(channels), int(height), int(width)), int(classes)


def describe(node: dict[str, Any], shape: tuple[int, int, int]) -> str:
    """A model for a reader: ``resnet18 1x28x28``."""
    name = str(node.get("_target_", "model")).rpartition(".")[2]
    return f"{name} {'x'.join(map(str, shape))}"


def machine() -> dict[str, str]:
    """What this machine is."""
    import torch

    return {
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def profile_table(profile: Profile) -> Table:
    """One row for each cut."""
    apart = abs(profile.again_ms.p50 - profile.whole_ms.p50)
    table = Table(
        title=f"{profile.model} on {profile.machine.get('processor', 'this machine')}",
        caption=f"medians of {profile.whole_ms.n} interleaved runs, {profile.threads} thread(s); "
        f"whole model {profile.whole_ms.p50:.3g} ms, timed twice {apart:.2g} ms apart"
        f"{_runtime(profile)}{_starts(profile)}",
    )
    table.add_column("cut", overflow="fold")
    for name in ("bytes", "head ms", "p95", "tail ms", "p95", "head + tail", "head memory"):
        table.add_column(name, justify="right")
    for cut in profile.cuts:
        both = cut.head_ms.p50 + cut.tail_ms.p50
        table.add_row(
            cut.name,
            f"{cut.bytes:,}",
            f"{cut.head_ms.p50:.3g}",
            f"{cut.head_ms.p95:.3g}",
            f"{cut.tail_ms.p50:.3g}",
            f"{cut.tail_ms.p95:.3g}",
            f"{both / profile.whole_ms.p50 - 1:+.1%}",
            f"{cut.head_memory_bytes / 1e6:.2f} MB",
        )
    return table


def _runtime(profile: Profile) -> str:
    found = profile.carrying
    if found is None:
        return ""
    both = found.up_ms + found.down_ms
    return f"; the runtime takes {both:.3g} ms a request and {found.up_ms_per_mb:.3g} ms per MB"


def _starts(profile: Profile) -> str:
    found = profile.cold
    if found is None:
        return ""
    parts = (
        ("import", found.import_ms),
        ("load", found.load_ms),
        ("first request", found.first_ms),
    )
    told = ", ".join(f"{name} {ms.p50:,.0f} (p90 {ms.p90:,.0f})" for name, ms in parts)
    return f"; {found.ready_ms.n} cold starts, ms: {found.ready_ms.p50:,.0f} until ready, {told}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
