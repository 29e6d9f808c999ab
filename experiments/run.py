"""``splitbench run``: one job, or a sweep of them."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from experiments.compose import plain, source_digest, without
from experiments.console import Reporter
from experiments.errors import UserError
from experiments.explain import sentence
from experiments.objectives import Objectives, check_one_cut, objectives, searching
from experiments.protocols import CUSTOM, protocol
from experiments.settings import check_settings
from experiments.store import Store, digest
from hydra_plugins.applicable_sweeper import as_sweep

# Keys that say where and how loudly a job runs, not what it computes.
_NOT_NUMERIC = ("paths", "tracking", "threads", "device", "claimed")


def job_id(config: dict[str, Any]) -> str:
    """Names a job: the resolved configuration without machine paths, and the source code."""
    sources = {
        key: without(config[key], "root", "download")
        for key in ("data", "auxiliary")
        if config.get(key)
    }
    return digest({**without(config, *_NOT_NUMERIC), **sources, "code": source_digest()})


def job(config: DictConfig) -> Objectives | None:
    """Run one job, unless all its cells are there already.

    Returns:
        What a sweeper that searches wants to know of it, read from the records, also where the job
        was finished earlier; None where nobody asks.

    Raises:
        UnrankedError: A search asks, and a cell failed or the row would not be ranked: to Optuna a
            failed trial. Other jobs end as ever, with a record that says so.
    """
    began = time.monotonic()
    choices = dict(HydraConfig.get().runtime.choices)
    overrides = list(HydraConfig.get().overrides.task)
    values = plain(config)
    check_settings(values)
    asked = searching(HydraConfig.get())
    if asked:
        check_one_cut(values)
    values["protocol"] = protocol(values)
    store = Store(Path(values["paths"]["runs"]))
    name = job_id(values)
    reporter = Reporter(label(values, choices, overrides))
    if values["protocol"] == CUSTOM:
        reporter.say("not the attacks of a frozen suite: on a board of its own, named custom")
    with store.lock(f"job-{name}"):
        done = store.read_json("jobs", name)
        if done is not None and all(store.has_cell(cell) for cell in done["cells"]):
            cells = list(done["cells"])
            reporter.say(f"finished earlier: {len(cells)} cells, nothing to do")
        else:
            # Imports torch; a finished job needs none of it.
            from experiments.evaluate import evaluate

            cells = evaluate(values, choices, name, store, reporter)
            store.write_json("jobs", name, {"cells": cells, "overrides": overrides})
            reporter.say(f"{len(cells)} cells in {time.monotonic() - began:.0f} s")
    if not asked:
        return None
    from experiments.leaderboard import load

    return objectives(load(store.root / "cells", cells))


def job_of_sweep(config: DictConfig) -> Objectives | None:
    """As `job`; says at once what went wrong, which Hydra does after the last job only."""
    try:
        return job(config)
    except Exception as error:
        overrides = " ".join(HydraConfig.get().overrides.task)
        Reporter(overrides).fail(f"the whole job; the others go on: {sentence(error)}")
        raise


def label(config: dict[str, Any], choices: dict[str, Any], overrides: Sequence[str]) -> str:
    """A short name for the console: the defense with its overridden keywords, and the threat."""
    knobs = [o.split(".", 1)[1] for o in overrides if o.startswith("defense.")]
    words = [str(choices["defense"]), *knobs]
    if choices["threat"] != "white_box":
        words.append(str(choices["threat"]))
    return " ".join([*words, f"seed={config['seed']}"] if config["seed"] else words)


def main(arguments: Sequence[str]) -> int:
    """Run with Hydra's command line; user errors end in one sentence and exit code 2."""
    words = list(arguments)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach the lines below
    if {"-m", "--multirun"} & set(words):
        words = as_sweep(words)
    sys.argv = ["splitbench run", *words]
    mistakes: list[UserError | OmegaConfBaseException | OSError] = []

    def task(config: DictConfig) -> Objectives | None:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return job_of_sweep(config)
        try:
            return job(config)
        except (UserError, OmegaConfBaseException, OSError) as error:
            mistakes.append(error)  # Hydra would announce it as well: say it once
            return None

    try:
        hydra.main(version_base="1.3", config_path="pkg://configs", config_name="run")(task)()
        if mistakes:
            raise mistakes[0]
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        sys.stderr.write(f"error: {sentence(error)}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("stopped; finished cells are kept, run the same command to go on\n")
        return 130
    return 0
