"""``splitbench cuts``: where a model can be cut, and what would cross."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from experiments.compose import build, configured, plain
from experiments.errors import UserError
from experiments.explain import sentence

if TYPE_CHECKING:
    from splitbench.split import Cut

HELP = """\
Print the cuts of a model: the tensors that would cross, their size, and the client's share.

usage: splitbench cuts [KEY=VALUE ...]

  model=NAME                 which model; model.KEY=VALUE sets its keywords
  data=NAME                  whose image shape and number of classes
  image_shape=[3,32,32]      image shape, without loading any data
  classes=10                 number of classes, likewise
  granularity=tensor         module: ends of blocks; tensor: one live tensor; all: every cut
"""
WIDTH = 140  # where there is no terminal to ask


def main(arguments: Sequence[str]) -> int:
    """Print the table; user errors end in one sentence and exit code 2."""
    words = list(arguments)
    if {"-h", "--help"} & set(words):
        sys.stdout.write(HELP)
        return 0
    try:
        table = cuts_table(_cuts(plain(configured("cuts", words))))
    except (UserError, HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        sys.stderr.write(f"error: {sentence(error)}\n")
        return 2
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
    return 0


def cuts_table(cuts: Sequence["Cut"]) -> Table:
    """One row for each cut.

    Args:
        cuts: Of one model; the total of operations is taken from the first.

    Returns:
        Columns: index, name, the shape of each tensor without the batch axis (joined by ``+``),
        bytes per image in the tensors' own type, the client's share of the floating point
        operations, and the client's parameters.
    """
    total = cuts[0].head_flops + cuts[0].tail_flops if cuts else 0
    table = Table(caption=f"{total:,} floating point operations per image, one multiply-add is 2")
    table.add_column("index", justify="right")
    table.add_column("cut", overflow="fold")
    table.add_column("tensors", overflow="fold")
    for name in ("bytes", "client FLOPs", "client parameters"):
        table.add_column(name, justify="right")
    for cut in cuts:
        shapes = ("x".join(map(str, spec.shape)) for spec in cut.tensors)
        share = cut.head_flops / total if total else 0.0
        table.add_row(
            str(cut.index),
            cut.name,
            " + ".join(shapes),
            f"{cut.bytes:,}",
            f"{share:.1%}",
            f"{cut.head_params:,}",
        )
    return table


def _cuts(config: dict[str, Any]) -> list["Cut"]:
    import torch

    from splitbench.rng import isolated, stream
    from splitbench.split import UntraceableError, cuts

    shape, classes = config["image_shape"], config["classes"]
    if shape is None or classes is None:
        train = build(config["data"]).load().train
        shape = shape or train.shape
        classes = classes or len(train.classes)
    with isolated(stream(config["seed"], "model", "initialisation")):
        model = build(config["model"])(image_shape=tuple(shape), classes=classes)
    try:
        return cuts(model, torch.zeros(1, *shape), granularity=config["granularity"])
    except UntraceableError as error:
        raise UserError(str(error)) from error
