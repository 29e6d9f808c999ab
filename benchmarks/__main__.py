"""Run every benchmark of speed and print its ratios; choices only where they are named."""

import sys
import time
from importlib import import_module

NAMES = (
    "startup",
    "shared_forward",
    "likelihood_batching",
    "published_loop",
    "training_rate",
    "memory",
    "cached_rerun",
    "exact_front",
    "runtime_overhead",
    "payload_formats",
)


def main(chosen: list[str]) -> int:
    """Run the named benchmarks, or all."""
    known = (*NAMES, "choices", "shadow_choice", "small_decoder")
    unknown = set(chosen) - set(known)
    if unknown:
        print(f"no benchmark {sorted(unknown)}; choose from {', '.join(known)}", file=sys.stderr)
        return 2
    for name in chosen or NAMES:
        began = time.perf_counter()
        for line in import_module(f"benchmarks.{name}").measure():
            print(f"{name:20} {line}", flush=True)
        print(f"{name:20} took {time.perf_counter() - began:.0f} s", flush=True)
    return 0


sys.exit(main(sys.argv[1:]))
