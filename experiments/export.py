"""``splitbench export``: the segments of a deployment as artefacts."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from experiments.compose import configured, plain, without
from experiments.console import Reporter
from experiments.errors import UserError
from experiments.explain import sentence
from experiments.settings import check_settings
from experiments.store import Store
from offloading.runtime.errors import ArtefactError
from offloading.runtime.manifest import Deployed, OnFailure

HELP = """\
Write the segments of a split model as artefacts that `splitbench serve` runs.

usage: splitbench export [KEY=VALUE ...] cuts=[NAME] out=DIR

  cuts=[NAME]                where the device's segment ends; `splitbench cuts` prints the names
  segments=[NAME,NAME,...]   instead: where each segment ends but the last one, which ends the model
  on_failure=fail            a request without an answer fails
  on_failure=local_exit      the device then answers by itself, and says so: by the exit of its
                             defense, or else with a copy of the whole model
  out=DIR                    makes DIR/segment0 for the device, DIR/segment1, ... for servers
  trust=[MODULE]             modules or packages of yours that model, defense or codec are from
  KEY=VALUE                  anything else that `splitbench run` takes: model, data, defense, ...
  --config-dir=DIR           a folder of yours with more of these: DIR/model/mine.yaml

What was trained and fitted by a run with the same overrides is taken from its store; else it is
made now. An artefact holds a manifest and weights (safetensors), and no code. Before the command
ends, the artefacts are loaded and compared with the deployment, bit for bit.

example:
  splitbench export defense=quantization defense.bits=4 cuts=[relu2] out=plan
  splitbench serve plan/segment1
"""
CHECKED = 4  # images on which what was written is compared with what it was written from


OWN = ("out", "trust", "segments", "on_failure")


@dataclass(frozen=True, kw_only=True)
class Own:
    """What `splitbench run` knows nothing of.

    Attributes:
        out: Where to write.
        trust: Modules of the user that may be named.
        segments: Where each segment ends but the last one; None takes the cut of the run.
        on_failure: What a request without an answer comes to.
    """

    out: Path
    trust: tuple[str, ...]
    segments: tuple[str, ...] | None
    on_failure: OnFailure


def main(arguments: Sequence[str]) -> int:
    """Export; user errors end in one sentence and exit code 2."""
    words = list(arguments)
    if {"-h", "--help"} & set(words):
        sys.stdout.write(HELP)
        return 0
    try:
        config = plain(configured("export", words))
        own = _own(config, words)
        deployed = _export(without(config, *OWN), own)
    except (
        UserError,
        ArtefactError,
        HydraException,
        OmegaConfBaseException,
        OSError,
        ValueError,
    ) as error:
        sys.stderr.write(f"error: {sentence(error)}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("stopped; what was trained is kept, run the same command to go on\n")
        return 130
    folders = [str(own.out / f"segment{k}") for k in range(deployed.segments)]
    line = {"plan": deployed.id, "cuts": deployed.cuts, "segments": folders}
    sys.stdout.write(json.dumps(line) + "\n")
    return 0


def _own(config: dict[str, Any], words: Sequence[str]) -> Own:
    """What is for this command alone.

    Raises:
        UserError: A setting is wrong, or says otherwise than another one.
    """
    if not config["out"]:
        raise UserError("say where to write: out=DIR")
    if config["on_failure"] not in get_args(OnFailure):
        raise UserError(
            f"on_failure={config['on_failure']}: choose from {', '.join(get_args(OnFailure))}"
        )
    cuts, trust = config["segments"], config["trust"]
    if cuts is not None and not (isinstance(cuts, list) and cuts and all(cuts)):
        raise UserError("segments: want the names of cuts, such as segments=[relu1,relu3]")
    if cuts is not None and any(word.startswith("cuts=") for word in words):
        raise UserError("segments says where to cut: leave cuts out")
    if not isinstance(trust, list):
        raise UserError(f"trust={trust}: want a list, such as trust=[my_package]")
    return Own(
        out=Path(config["out"]),
        trust=tuple(trust),
        segments=cuts and tuple(cuts),
        on_failure=config["on_failure"],
    )


def _export(config: dict[str, Any], own: Own) -> Deployed:
    out = own.out
    if own.segments:
        config = {**config, "cuts": [own.segments[0]]}
    check_settings(config)
    if isinstance(config["cuts"], list) and len(config["cuts"]) != 1:
        raise UserError(f"cuts={config['cuts']}: export one cut, such as cuts=[relu2]")
    if config["cuts"] in ("module", "tensor", "all"):
        raise UserError("say where to cut, such as cuts=[relu2]; `splitbench cuts` prints all")
    if any((out / f"segment{k}").exists() for k in range(2)):
        raise UserError(f"{out} holds a plan already: choose another folder")
    import torch

    from experiments.job import Job
    from offloading.runtime.export import export
    from splitbench.placement import computing_on, found, on_the_cpu

    device = found(str(config["device"]))
    if config["threads"] is not None:
        torch.set_num_threads(config["threads"])
    store = Store(Path(config["paths"]["runs"]))
    cuts = [*own.segments] if own.segments else config["cuts"]
    job = Job({**config, "cuts": cuts}, store, Reporter("export"))
    cut, *later = job.cuts
    if any(far.index <= near.index for near, far in pairwise([cut, *later])):
        raise UserError(f"segments={cuts}: want cuts in the order of the model")
    torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")  # as a run does
    if device.type != "cpu":  # fitted there, written from here
        with computing_on(device):
            Job(config, store, job.reporter).deployment(cut)
    with on_the_cpu():
        return export(
            job.deployment(cut),
            out,
            model=config["model"],
            images=job.roles.calibration.images(slice(0, CHECKED)),
            classes=len(job.roles.train.classes),
            later_cuts=[far.name for far in later],
            seed=job.seed,
            on_failure=own.on_failure,
            trust=own.trust,
        )
