"""The ``splitbench`` command: one word per job, heavy imports only where they are needed."""

import importlib
import sys
from collections.abc import Sequence

# Each command is the `main` of a module here: words after the command to an exit code.
COMMANDS = {
    "run": ("run", "measure: split, defend, attack, score  (hydra overrides; -m sweeps; --help)"),
    "cuts": ("cuts", "print every cut of a model with its tensors, bytes and FLOPs"),
    "leaderboard": ("leaderboard", "make tables and a page of the records"),
    "facts": ("facts", "what papers found of defenses, beside what was measured here"),
    "front": ("front", "settings of a defense that no other beats in leakage, accuracy and bytes"),
    "demo": ("demo", "the whole path on embedded real images, in minutes"),
    "profile": ("profile", "time the parts of a model on this machine"),
    "plan": ("plan", "where to cut, and where to run the parts: latency, leakage, money"),
    "export": ("export", "write the segments of a split model as artefacts, ready to be served"),
    "serve": ("serve", "run one exported segment behind an address"),
    "measure": ("measure", "run plans for real over imitated links, beside their predictions"),
    "adapt": ("adapt", "change the plan while the network changes: what that is worth"),
    "simulate": ("simulate", "a plan under load: tails, cold starts, money"),
    "explain": ("explain_plan", "what a plan rests on, and why not another placement"),
}
_LISTED = "\n".join(f"  {name:<12} {what}" for name, (_, what) in COMMANDS.items())
HELP = f"""\
SplitBench: the privacy attack and defense benchmark for split inference.

usage: splitbench COMMAND [ARGUMENTS]

{_LISTED}

examples:
  splitbench run defense=gaussian_noise defense.noise_std=1.0
  splitbench run -m defense=none,quantization defense.bits=8,4 hydra/launcher=joblib
  splitbench cuts model=resnet18
  splitbench leaderboard runs --out board
  splitbench plan model=le_net5 records=runs scenario=phone_lte limits.leakage=0.5

`splitbench COMMAND --help` says more.
"""


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
    if words[0] not in COMMANDS:
        known = ", ".join(COMMANDS)
        sys.stderr.write(f"error: there is no command '{words[0]}'; choose from: {known}\n")
        return 2
    module = importlib.import_module(f"experiments.{COMMANDS[words[0]][0]}")
    code: int = module.main(words[1:])
    return code


if __name__ == "__main__":
    sys.exit(main())
