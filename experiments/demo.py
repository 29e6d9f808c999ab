"""``splitbench demo``: the whole path on embedded real images."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Run the demo's experiment, then make the leaderboard; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="splitbench demo",
        description="Measure how much each layer of LeNet-5 leaks on Fashion-MNIST, undefended and "
        "under three defenses, and make a leaderboard. Finished cells are kept: a second run "
        "takes seconds.",
    )
    parser.add_argument("--runs", default="runs/demo", help="folder of the results (%(default)s)")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    options = parser.parse_args(list(arguments))
    began = time.monotonic()
    from experiments.run import main as run

    code = run(["experiment=demo", f"paths.runs={options.runs}"])
    if code:
        return code
    from experiments.leaderboard import main as leaderboard

    code = leaderboard([options.runs, *(["--open"] if options.open else [])])
    sys.stderr.write(f"the demo took {time.monotonic() - began:.0f} s\n")
    sys.stderr.write(f"records: {Path(options.runs) / 'cells'}\n")
    return code
