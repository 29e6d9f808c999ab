"""``splitbench serve``: one exported segment behind an address."""

from collections.abc import Sequence

from offloading.runtime.options import parser

DESCRIPTION = (
    "Run one segment of a split model behind an address (gRPC). When it takes requests it prints "
    "one line, a JSON object with its address, the id of its plan, its segment and its process. "
    "Ctrl-C ends it. All but the last segment need the address of the next one."
)


def main(arguments: Sequence[str]) -> int:
    """Serve until interrupted; return the exit code."""
    options = parser(prog="splitbench serve", description=DESCRIPTION).parse_args(list(arguments))
    from offloading.runtime.serve_process import run  # imports torch

    return run(options)
