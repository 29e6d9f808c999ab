"""All cuts in one job against one job per cut: the client's forward is shared."""

import time
from collections.abc import Iterator

from attacks.inverse_network import InverseNetwork
from benchmarks.worlds import deployments, images, network, surface
from splitbench.feed import Feed
from splitbench.fitting import fit_together
from splitbench.rng import stream

CUTS = {
    "demo's LeNet-5": ["relu1", "pool1", "relu2", "pool2", "relu3", "relu4"],
    "six convolutions": ["relu22", "pool2", "relu31", "relu32", "pool3"],
}
STEPS = 20


def fit(name: str, cuts: list[str]) -> tuple[float, int]:
    """Seconds and client forwards of fitting small decoders at these cuts side by side."""
    model, shape = network(name)
    aux = images(512, shape)
    deployed = deployments(model, aux.images(slice(0, 1)), cuts)
    feed = Feed(aux, seed=0)
    fittings = {
        cut: InverseNetwork(width=16, blocks=1, steps=STEPS, batch_size=64).fitting(
            surface(deployment, feed, shape), generator=stream(0, "benchmark", cut)
        )
        for cut, deployment in deployed.items()
    }
    began = time.perf_counter()
    fit_together(fittings, lambda _name, _progress: None)
    shared = next(iter(deployed.values())).shared
    return time.perf_counter() - began, shared.taps.forwards if shared else 0


def measure() -> Iterator[str]:
    """Compare, interleaved, for both networks."""
    for name, cuts in CUTS.items():
        fit(name, cuts[:1])  # warm up
        together, forwards = fit(name, cuts)
        apart = [fit(name, [cut]) for cut in cuts]
        seconds, single = sum(s for s, _ in apart), sum(f for _, f in apart)
        yield (
            f"{name}: {len(cuts)} cuts together {together:.1f} s with {forwards} client forwards, "
            f"one by one {seconds:.1f} s with {single}: {single / forwards:.1f} x fewer forwards, "
            f"{seconds / together:.2f} x faster"
        )
