"""Measuring what the parts of a model take, on this machine."""

import random
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from offloading.profile import CutProfile, Profile
from offloading.spread import Spread
from splitbench.latency import pinned_threads
from splitbench.memory import peak_bytes
from splitbench.release import Tensors
from splitbench.split import Cut, Cuttable, Split

OnRun = Callable[[int, int], None]
WHOLE, AGAIN = "whole", "again"


def _silent(done: int, total: int) -> None:
    del done, total


def measure_profile(
    model: nn.Module,
    image: Tensor,
    cuts: list[Cut],
    *,
    name: str,
    machine: dict[str, str],
    runs: int = 100,
    warmup: int = 10,
    threads: int = 1,
    seed: int = 0,
    on_run: OnRun = _silent,
) -> Profile:
    """Time head and tail of every cut, and the whole model twice, for one image.

    In each run every part is timed once, in a new random order: what disturbs the machine
    meanwhile disturbs all of them. A head or tail is one module that is timed as a whole, not a sum
    over layers: caches and fused kernels make such sums wrong by tens of percent.

    Args:
        model: Takes one batch of images; not changed.
        image: One image ``(1, c, h, w)``, in [0, 1].
        cuts: Of this model, in order; ``input`` and ``output`` among them.
        name: Of the model, for a reader.
        machine: What is measured here, for a reader.
        runs: Timed runs, >= 1.
        warmup: Runs before them that are thrown away, >= 0.
        threads: Of torch meanwhile.
        seed: Of the order.
        on_run: Told after each run how many are done, and of how many.

    Raises:
        ValueError: No runs, or no threads.
    """
    if runs < 1 or warmup < 0:
        raise ValueError(f"runs={runs}, warmup={warmup}: want at least 1 run, no negative warm-up")
    cuttable = Cuttable(model, image)
    splits = {cut.name: cuttable.split(cut) for cut in cuts}
    whole = splits["input"].server
    order = random.Random(seed)  # noqa: S311 (an order, not a secret)
    times: dict[tuple[str, str], list[float]] = {}
    with pinned_threads(threads), torch.inference_mode():
        features = {name: tuple(parts.client(image)) for name, parts in splits.items()}
        jobs = _jobs(splits, whole, image, features)
        for run in range(-warmup, runs):
            names = [*jobs]
            order.shuffle(names)
            for job in names:
                began = time.perf_counter_ns()
                jobs[job]()
                if run >= 0:
                    times.setdefault(job, []).append((time.perf_counter_ns() - began) / 1e6)
            on_run(run + warmup + 1, runs + warmup)
    return Profile(
        model=name,
        image_shape=(int(image.shape[1]), int(image.shape[2]), int(image.shape[3])),
        machine=machine,
        threads=threads,
        cuts=tuple(_cut(cut, splits[cut.name], image, features[cut.name], times) for cut in cuts),
        whole_ms=Spread.of(times[WHOLE, WHOLE]),
        again_ms=Spread.of(times[WHOLE, AGAIN]),
    )


def _jobs(
    splits: dict[str, Split],
    whole: nn.Module,
    image: Tensor,
    features: dict[str, Tensors],
) -> dict[tuple[str, str], Callable[[], object]]:
    jobs: dict[tuple[str, str], Callable[[], object]] = {
        (WHOLE, WHOLE): lambda: whole((image,)),
        (WHOLE, AGAIN): lambda: whole((image,)),
    }
    for name, parts in splits.items():
        if not parts.cut.is_input:
            jobs["head", name] = lambda parts=parts: parts.client(image)  # type: ignore[misc]
        if not parts.cut.is_output:
            jobs["tail", name] = lambda parts=parts, name=name: parts.server(features[name])  # type: ignore[misc]
    return jobs


def _cut(
    cut: Cut,
    parts: Split,
    image: Tensor,
    features: Tensors,
    times: dict[tuple[str, str], list[float]],
) -> CutProfile:
    nothing = np.zeros(1)  # a side that does nothing takes no time
    return CutProfile(
        name=cut.name,
        shapes=tuple(spec.shape for spec in cut.tensors),
        bytes=cut.bytes,
        head_flops=cut.head_flops,
        tail_flops=cut.tail_flops,
        head_params=cut.head_params,
        tail_params=cut.tail_params,
        head_ms=Spread.of(times.get(("head", cut.name), nothing)),
        tail_ms=Spread.of(times.get(("tail", cut.name), nothing)),
        head_memory_bytes=_memory(parts.client, lambda: parts.client(image)),
        tail_memory_bytes=_memory(parts.server, lambda: parts.server(features)),
    )


def _memory(module: nn.Module, compute: Callable[[], object]) -> int:
    held = sum(t.nbytes for t in (*module.parameters(), *module.buffers()))
    with torch.no_grad():
        return held + peak_bytes(compute)
