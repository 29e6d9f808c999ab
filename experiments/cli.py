"""The ``splitbench`` command: one word per job, heavy imports only where they are needed."""

import sys
from collections.abc import Callable, Sequence

HELP = """\
SplitBench: the privacy attack and defense benchmark for split inference.

usage: splitbench COMMAND [ARGUMENTS]

  run          measure: split, defend, attack, score  (hydra overrides; -m sweeps; --help)
  cuts         print every cut of a model with its tensors, bytes and FLOPs
  export       write the segments of a split model as artefacts, ready to be served
  serve        run one exported segment behind an address
  leaderboard  make tables and a page of the records
  facts        what papers found of defenses, beside what was measured here
  demo         the whole path on embedded real images, in minutes
  profile      time the parts of a model on this machine
  plan         where to cut, and where to run the parts: latency, leakage, money
  adapt        change the plan while the network changes: what it is worth
  measure      run plans for real over imitated links, and compare with their predictions

examples:
  splitbench run defense=gaussian_noise defense.noise_std=1.0
  splitbench run -m defense=none,quantization defense.bits=8,4 hydra/launcher=joblib
  splitbench cuts model=resnet18
  splitbench leaderboard runs --out board

`splitbench COMMAND --help` says more.
"""


def _run(arguments: Sequence[str]) -> int:
    from experiments.run import main

    return main(arguments)


def _cuts(arguments: Sequence[str]) -> int:
    from experiments.cuts import main

    return main(arguments)


def _export(arguments: Sequence[str]) -> int:
    from experiments.export import main

    return main(arguments)


def _serve(arguments: Sequence[str]) -> int:
    from experiments.serve import main

    return main(arguments)


def _leaderboard(arguments: Sequence[str]) -> int:
    from experiments.leaderboard import main

    return main(arguments)


def _facts(arguments: Sequence[str]) -> int:
    from experiments.facts import main

    return main(arguments)


def _profile(arguments: Sequence[str]) -> int:
    from experiments.profile import main

    return main(arguments)


def _plan(arguments: Sequence[str]) -> int:
    from experiments.plan import main

    return main(arguments)


def _adapt(arguments: Sequence[str]) -> int:
    from experiments.adapt import main

    return main(arguments)


def _measure(arguments: Sequence[str]) -> int:
    from experiments.measure import main

    return main(arguments)


def _demo(arguments: Sequence[str]) -> int:
    from experiments.demo import main

    return main(arguments)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "run": _run,
    "cuts": _cuts,
    "export": _export,
    "serve": _serve,
    "leaderboard": _leaderboard,
    "facts": _facts,
    "demo": _demo,
    "profile": _profile,
    "plan": _plan,
    "adapt": _adapt,
    "measure": _measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(HELP)
        return 0
    if words[0] == "--version":
        from splitbench import __version__

        sys.stdout.write(f"splitbench {__version__}\n")
        return 0
    command = COMMANDS.get(words[0])
    if command is None:
        known = ", ".join(COMMANDS)
        sys.stderr.write(f"error: there is no command '{words[0]}'; choose from: {known}\n")
        return 2
    return command(words[1:])


if __name__ == "__main__":
    sys.exit(main())
