"""The fastest division of a model's graph, beside the best of its single cuts."""

from dataclasses import dataclass

from experiments.compose import build
from experiments.planning import Question
from offloading.mincut import Division, Graph, best_cut, fastest, graph_of
from offloading.profile import Profile
from offloading.tier import Tier

LEAST = 0.0005  # a gain that is shown as 0.1 %


@dataclass(frozen=True)
class Divided:
    """What a division that is no single cut would gain.

    Attributes:
        tiers: The device and the tier that takes the rest.
        nodes: Of the graph.
        fastest: The fastest division.
        cut: The fastest that cuts the order of the graph at one place.
    """

    tiers: tuple[str, str]
    nodes: int
    fastest: Division
    cut: Division

    @property
    def gain(self) -> float:
        """Share of the time of the best cut that the fastest division saves."""
        return 1 - self.fastest.ms / self.cut.ms if self.cut.ms else 0.0

    def __str__(self) -> str:
        device, far = self.tiers
        kept = len(self.fastest.device)
        where = (
            f"all on {device}"
            if not self.fastest.sent
            else f"{kept} of {self.nodes} nodes on {device}, the others on {far}"
        )
        better = (
            f"{self.gain:.1%} faster than the best single cut"
            if self.gain >= LEAST
            else "as fast as the best single cut"
        )
        return f"{self.fastest.ms:.1f} ms ({where}), {better}"


def divided(asked: Question) -> Divided | None:
    """Divide the graph between the device and each tier in its reach, and take the fastest.

    Times are those of the profile in proportion to floating point operations, without queues;
    tensors travel as they are, whatever they leak. None where the device reaches no tier.
    """
    scenario, profile = asked.planner.scenario, asked.planner.profile
    reached = [route for route in scenario.routes() if len(route) == 2]
    graph = _graph(asked) if reached else None
    found = []
    for device, far in reached:
        assert graph is not None
        scaled = graph.at(device=_slower(device, profile), server=_slower(far, profile))
        link, reply = scenario.hop(device, far).link, float(scenario.reply_bytes)
        ways = (f(scaled, link, reply_bytes=reply) for f in (fastest, best_cut))
        found.append(Divided((device.name, far.name), len(graph.nodes), *ways))
    return min(found, key=lambda each: each.fastest.ms, default=None)


def _graph(asked: Question) -> Graph:
    """Of the model, untrained: it takes as long."""
    import torch

    from splitbench.rng import isolated, stream

    config, profile = asked.config, asked.planner.profile
    ((classes,),) = profile.cuts[-1].shapes
    with isolated(stream(config["seed"], "model", "initialisation")):
        model = build(config["model"])(image_shape=profile.image_shape, classes=classes).eval()
    image = torch.zeros(1, *profile.image_shape)
    return graph_of(model, image, whole_ms=profile.whole_ms.p50)


def _slower(tier: Tier, profile: Profile) -> float:
    """How much longer the whole model takes there than on the profiled machine."""
    own = tier.profile or profile
    return tier.factor * own.whole_ms.p50 / profile.whole_ms.p50
