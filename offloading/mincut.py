"""The fastest division of any model between a device and one server, as a minimum cut.

A chain has few places to cut. A model with branches has exponentially many divisions, some of which
are no topological cut of one order of its nodes; the least cut of a network finds the best of all
of them (Hu et al., INFOCOM 2019). Three things that are often left out make it exact: a tensor with
several readers is sent once, what has been sent never comes back, and the image is on the device.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import networkx as nx
from torch import Tensor, nn

from splitbench.link import Link
from splitbench.split.steps import Step, observe

DEVICE, SERVER = "device", "server"  # the ends of the network; nodes of the model are tuples
UNIT = 2**30  # of a millisecond: capacities are whole numbers, so that an edge is full or is not


class GraphError(ValueError):
    """Nodes that are no model."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operation and the tensor that it makes.

    Attributes:
        name: Unique.
        device_ms, server_ms: Time on either side, >= 0.
        bytes: Of its tensor in a message; infinite where it cannot be sent.
        inputs: Names of the nodes that it reads.
        leakage: L of its tensor.
    """

    name: str
    device_ms: float
    server_ms: float
    bytes: float
    inputs: tuple[str, ...] = ()
    leakage: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.device_ms < math.inf and 0 <= self.server_ms < math.inf):
            raise GraphError(f"{self}: times must be finite, and not negative")
        if not (self.bytes >= 0 and not math.isnan(self.leakage)):
            raise GraphError(f"{self}: want bytes that are not negative, and a leakage")


@dataclass(frozen=True)
class Graph:
    """A model: operations in topological order.

    Attributes:
        nodes: The first is the image, which is on the device.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for node in self.nodes:
            if node.name in seen or not seen.issuperset(node.inputs):
                raise GraphError(f"{node.name}: named twice, or reads what comes after it")
            seen.add(node.name)
        if not self.nodes or self.nodes[0].inputs:
            raise GraphError("the first node must be the image")

    @cached_property
    def readers(self) -> Mapping[str, tuple[str, ...]]:
        """Who reads each tensor."""
        found: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            for name in node.inputs:
                found[name].append(node.name)
        return {name: tuple(dict.fromkeys(readers)) for name, readers in found.items()}

    def at(self, *, device: float, server: float) -> "Graph":
        """The same where either side takes a multiple of its time."""
        return Graph(
            tuple(
                dataclasses.replace(
                    node, device_ms=node.device_ms * device, server_ms=node.server_ms * server
                )
                for node in self.nodes
            )
        )


@dataclass(frozen=True)
class Division:
    """Which nodes the device runs, what it sends, and how long a request takes.

    Attributes:
        device: Names; the server runs the others.
        sent: Tensors that the server reads, in topological order.
        ms: From the image to the answer on the device; infinite where something is sent that must
            not, or cannot.
    """

    device: frozenset[str]
    sent: tuple[str, ...]
    ms: float


def division(
    graph: Graph,
    device: Iterable[str],
    link: Link,
    *,
    reply_bytes: float = 64,
    most_leakage: float = math.inf,
) -> Division:
    """What a division comes to, whether it is a good one or not.

    Raises:
        GraphError: The device lacks the image, or something that one of its nodes reads.
    """
    kept = frozenset(device)
    names = {node.name for node in graph.nodes}
    closed = all(kept.issuperset(node.inputs) for node in graph.nodes if node.name in kept)
    if not (kept <= names and closed and graph.nodes[0].name in kept):
        raise GraphError("the device must have the image, and what each of its nodes reads")
    sent = [n for n in graph.nodes if n.name in kept and not kept.issuperset(graph.readers[n.name])]
    work = sum(n.device_ms if n.name in kept else n.server_ms for n in graph.nodes)
    trip = 0.0 if kept == names else link.transfer_ms(0.0, reply_bytes)
    travel = sum(_sending_ms(node, link, most_leakage) for node in sent)
    return Division(kept, tuple(node.name for node in sent), work + trip + travel)


def fastest(
    graph: Graph, link: Link, *, reply_bytes: float = 64, most_leakage: float = math.inf
) -> Division:
    """The division with the least latency, exactly.

    Args:
        graph: The model.
        link: Between device and server; all tensors go in one message.
        reply_bytes: What comes back.
        most_leakage: No tensor that leaks more is sent.

    Returns:
        The device may keep everything, which costs no round trip; else it sends something.
    """
    network = nx.DiGraph()
    for node in graph.nodes:
        v = ("node", node.name)
        network.add_edge(DEVICE, v, capacity=_whole(node.server_ms))
        network.add_edge(v, SERVER, capacity=_whole(node.device_ms))
        for name in node.inputs:
            network.add_edge(v, ("node", name))  # no capacity is infinite: nothing comes back
        if graph.readers[node.name]:
            sending = _sending_ms(node, link, most_leakage)
            sent = ("tensor", node.name)
            if math.isinf(sending):
                network.add_edge(v, sent)
            else:
                network.add_edge(v, sent, capacity=_whole(sending))
            network.add_edges_from((sent, ("node", reader)) for reader in graph.readers[node.name])
    network.add_edge(DEVICE, ("node", graph.nodes[0].name))
    del network[DEVICE]["node", graph.nodes[0].name]["capacity"]
    flow = nx.algorithms.flow.boykov_kolmogorov
    _, (near, _) = nx.minimum_cut(network, DEVICE, SERVER, flow_func=flow)
    kept = [node.name for node in graph.nodes if ("node", node.name) in near]
    options = [[node.name for node in graph.nodes], kept]  # the trip is in no capacity
    found = [
        division(graph, names, link, reply_bytes=reply_bytes, most_leakage=most_leakage)
        for names in options
    ]
    return min(found, key=lambda each: each.ms)


def best_cut(
    graph: Graph, link: Link, *, reply_bytes: float = 64, most_leakage: float = math.inf
) -> Division:
    """The fastest division at one place of the order of the nodes, as a planner of cuts has it."""
    names = [node.name for node in graph.nodes]
    found = (
        division(graph, names[:k], link, reply_bytes=reply_bytes, most_leakage=most_leakage)
        for k in range(1, len(names) + 1)
    )
    return min(found, key=lambda each: each.ms)


def graph_of(
    model: nn.Module,
    image: Tensor,
    *,
    whole_ms: float,
    device: float = 1.0,
    server: float = 1.0,
    times_ms: Mapping[str, float] | None = None,
    leakage: Mapping[str, float] | None = None,
) -> Graph:
    """The graph of a model as `splitbench.split` traces it.

    Args:
        model: Takes one batch of images; not changed.
        image: One image ``(1, c, h, w)``.
        whole_ms: Of the model on the profiled machine: a node takes its share of the floating point
            operations, which is crude where nodes are bound by memory.
        device: Times there as multiples of those on the profiled machine.
        server: Likewise.
        times_ms: Nodes that were timed by themselves.
        leakage: L of single tensors; those that are not named leak as much as the last one before
            them that is, and 1 at the beginning.

    Raises:
        UntraceableError: The model cannot be made a graph.
    """
    _, steps = observe(model, image)
    total = sum(step.flops for step in steps) or 1
    known, last = leakage or {}, 1.0
    timed = times_ms or {}
    nodes: list[Node] = []
    for step in steps:
        if not step.dependent:
            continue  # parameters and shapes: either side has them
        last = known.get(step.name, last)
        ms = timed.get(step.name, whole_ms * step.flops / total)
        nodes.append(
            Node(
                name=step.name,
                device_ms=ms * device,
                server_ms=ms * server,
                bytes=_bytes(step),
                inputs=tuple(steps[i].name for i in step.inputs if steps[i].dependent),
                leakage=last,
            )
        )
    return Graph(tuple(nodes))


def _bytes(step: Step) -> float:
    return math.inf if step.spec is None else float(step.spec.bytes)


def _sending_ms(node: Node, link: Link, most_leakage: float) -> float:
    """Without the delay, which is there once for all tensors."""
    if node.leakage > most_leakage or math.isinf(node.bytes):
        return math.inf
    return link.up_ms(node.bytes) - link.up_ms(0.0)


def _whole(ms: float) -> int:
    return round(ms * UNIT)
