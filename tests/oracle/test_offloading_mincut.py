"""Minimum cuts against every division there is."""

import itertools
import math
from itertools import chain, combinations

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from offloading.mincut import Graph, GraphError, Node, best_cut, division, fastest, graph_of
from offloading.planner import Planner
from splitbench.link import FRAMING, Link
from splitbench.rng import isolated
from splitbench.split import cuts
from tests.unit import offloading_world as world

reproducible = settings(derandomize=True, database=None, deadline=None, max_examples=120)
MS_PER_BYTE = 1.0
LINK = Link(name="x", up_mbps=8 * FRAMING / 1000, down_mbps=1e9, rtt_ms=0.0)  # a byte is 1 ms


def link(rtt_ms=0.0, speed=1.0):
    return Link(name="x", up_mbps=LINK.up_mbps * speed, down_mbps=1e9, rtt_ms=rtt_ms)


def node(name, device_ms, server_ms, size, *inputs, leakage=0.0):
    return Node(
        name=name,
        device_ms=device_ms,
        server_ms=server_ms,
        bytes=size,
        inputs=inputs,
        leakage=leakage,
    )


times = st.integers(0, 20).map(float)


@st.composite
def graphs(draw, most=9):
    count = draw(st.integers(1, most))
    nodes = [node("0", 0.0, 0.0, draw(times), leakage=1.0)]
    for i in range(1, count + 1):
        readable = st.sets(st.integers(0, i - 1), min_size=1, max_size=3)
        inputs = (str(j) for j in sorted(draw(readable)))
        leakage = draw(st.integers(0, 10)) / 10
        nodes.append(node(str(i), draw(times), draw(times), draw(times), *inputs, leakage=leakage))
    return Graph(tuple(nodes))


def every_division(graph, *arguments, **keywords):
    names = [each.name for each in graph.nodes]
    for some in chain.from_iterable(combinations(names[1:], k) for k in range(len(names))):
        kept = {names[0], *some}
        if all(kept.issuperset(each.inputs) for each in graph.nodes if each.name in kept):
            yield division(graph, kept, *arguments, **keywords)


@reproducible
@given(graphs(), st.sampled_from([0.0, 3.0, 17.0]), st.sampled_from([0.3, 0.7, math.inf]))
def test_no_division_is_faster_than_the_least_cut(graph, rtt_ms, most_leakage):
    found = fastest(graph, link(rtt_ms), most_leakage=most_leakage)
    every = list(every_division(graph, link(rtt_ms), most_leakage=most_leakage))
    assert found.ms == pytest.approx(min(each.ms for each in every))
    assert found in every


@settings(reproducible, max_examples=15)
@given(graphs(most=12))
def test_nor_in_larger_models(graph):
    found = fastest(graph, link(1.0))
    assert found.ms == pytest.approx(min(d.ms for d in every_division(graph, link(1.0))))


@reproducible
@given(st.lists(st.tuples(times, times, times), min_size=1, max_size=12), times)
def test_along_a_chain_it_is_the_best_of_all_places(steps, rtt_ms):
    image, nodes = node("0", 0.0, 0.0, 11.0), []
    for i, (here, there, size) in enumerate(steps, start=1):
        nodes.append(node(str(i), here, there, size, str(i - 1)))
    ways = [sum(s[0] for s in steps)]
    for place in range(len(steps)):
        sent = 11.0 if place == 0 else steps[place - 1][2]
        work = sum(s[0] for s in steps[:place]) + sum(s[1] for s in steps[place:])
        ways.append(work + sent + rtt_ms)
    for find in (fastest, best_cut):
        found = find(Graph((image, *nodes)), link(rtt_ms), reply_bytes=0)
        assert found.ms == pytest.approx(min(ways))


@reproducible
@given(graphs(), st.floats(0.1, 10.0), st.floats(0.1, 10.0))
def test_a_slower_side_takes_longer_for_each_node(graph, device, server):
    names = [each.name for each in graph.nodes]
    slower = graph.at(device=device, server=server)
    here = sum(each.device_ms for each in graph.nodes)
    there = sum(each.server_ms for each in graph.nodes[1:])
    assert division(slower, names, link()).ms == pytest.approx(device * here)
    sent = division(slower, names[:1], link(), reply_bytes=0)
    assert sent.ms == pytest.approx(server * there + graph.nodes[0].bytes)


@reproducible
@given(graphs(most=6), st.sampled_from([0.0, 3.0]))
def test_what_the_device_runs_is_the_beginning_of_some_order_of_the_nodes(graph, rtt_ms):
    """Places of all topological orders, sets that are closed, and the least cut are one matter."""
    edges = [(name, each.name) for each in graph.nodes for name in each.inputs]
    orders = nx.all_topological_sorts(nx.DiGraph(edges))
    begun = {frozenset(order[:k]) for order in orders for k in range(1, len(order) + 1)}
    every = {each.device: each.ms for each in every_division(graph, link(rtt_ms))}
    assert begun == {*every}
    least = min(division(graph, device, link(rtt_ms)).ms for device in begun)
    assert fastest(graph, link(rtt_ms)).ms == pytest.approx(least)


@reproducible
@given(graphs())
def test_cuts_of_one_order_are_never_faster_than_the_least_cut(graph):
    names = [each.name for each in graph.nodes]
    ways = [division(graph, names[:k], link(2.0)).ms for k in range(1, len(names) + 1)]
    assert best_cut(graph, link(2.0)).ms == min(ways)
    assert fastest(graph, link(2.0)).ms <= min(ways) + 1e-6


def diamond():
    """An image, two branches that read it, and what joins them."""
    return Graph(
        (
            node("image", 0.0, 0.0, 10.0),
            node("left", 100.0, 1.0, 50.0, "image"),
            node("right", 100.0, 1.0, 50.0, "image"),
            node("join", 100.0, 1.0, 1.0, "left", "right"),
        )
    )


def test_a_tensor_with_two_readers_is_sent_once():
    found = fastest(diamond(), link(5.0), reply_bytes=0)
    assert found.device == {"image"}
    assert found.sent == ("image",)
    assert found.ms == pytest.approx(10 + 3 + 5)


def test_nothing_that_was_sent_comes_back():
    """Free work on either side, in turns: without the rule it would go to and fro for nothing."""
    graph = Graph(
        (
            node("image", 0.0, 0.0, 1.0),
            node("a", 50.0, 0.0, 1.0, "image"),
            node("b", 0.0, 50.0, 1.0, "a"),
            node("c", 50.0, 0.0, 1.0, "b"),
        )
    )
    found = fastest(graph, link())
    assert found.ms == pytest.approx(51)
    assert found.device in ({"image"}, {"image", "a", "b"})


def test_two_branches_may_be_divided_where_no_single_place_is():
    """The device runs one branch to its end, the server the other: no order of nodes is cut."""
    graph = Graph(
        (
            node("image", 0.0, 0.0, 1.0),
            node("left", 100.0, 1.0, 9.0, "image"),
            node("right", 1.0, 100.0, 1.0, "image"),
            node("join", 50.0, 1.0, 1.0, "left", "right"),
        )
    )
    found = fastest(graph, link())
    assert found.device == {"image", "right"}
    assert found.sent == ("image", "right")
    assert found.ms == pytest.approx(1 + 1 + 1 + 1 + 1)
    cut = best_cut(graph, link(), reply_bytes=0)
    assert cut.device == {"image"}  # or left comes first, and takes a hundred
    assert cut.ms == pytest.approx(1 + 1 + 100 + 1)


def test_a_tensor_that_leaks_too_much_or_cannot_be_sent_is_not():
    nodes = (
        node("image", 0.0, 0.0, 1.0, leakage=1.0),
        node("a", 10.0, 1.0, 1.0, "image", leakage=0.6),
        node("pair", 10.0, 1.0, math.inf, "a", leakage=0.0),
        node("b", 10.0, 1.0, 1.0, "pair", leakage=0.3),
        node("c", 10.0, 1.0, 1.0, "b", leakage=0.2),
    )
    sent = {
        limit: fastest(Graph(nodes), link(), most_leakage=limit).sent
        for limit in (1.0, 0.6, 0.5, 0.1)
    }
    assert sent == {1.0: ("image",), 0.6: ("a",), 0.5: ("b",), 0.1: ()}
    assert math.isinf(division(Graph(nodes), {"image"}, link(), most_leakage=0.6).ms)


def test_a_round_trip_may_make_nothing_worth_sending():
    assert fastest(diamond(), link(281.0), reply_bytes=0).sent == ("image",)
    assert fastest(diamond(), link(288.0), reply_bytes=0).sent == ()


@reproducible
@given(graphs())
def test_less_bandwidth_and_a_tighter_limit_never_help_and_a_server_never_hurts(graph):
    alone = sum(each.device_ms for each in graph.nodes)
    speeds = [fastest(graph, link(1.0, speed)).ms for speed in (0.5, 1.0, 2.0)]
    limits = [fastest(graph, link(1.0), most_leakage=limit).ms for limit in (0.2, 0.6, 1.0)]
    for values in (speeds, limits):
        assert values[0] >= values[1] - 1e-6
        assert values[1] >= values[2] - 1e-6
        assert values[0] <= alone + 1e-6


class Block(nn.Module):
    """Two branches, one of them longer, and a way around both."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.one = nn.Conv2d(8, 8, 3, padding=1)
        self.two = nn.Conv2d(8, 4, 1)
        self.three = nn.Conv2d(4, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        y = torch.relu(self.stem(x))
        z = self.one(y) + self.three(torch.relu(self.two(y))) + y
        return self.head(z.mean((2, 3)))


def sequence():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 2, 3, stride=2), nn.Flatten(),
        nn.Linear(18, 5),
    )  # fmt: skip


@pytest.mark.parametrize("make", [Block, sequence])
@pytest.mark.parametrize("mbps", [0.2, 1.0, 5.0, 100.0])
def test_a_traced_model_is_divided_at_least_as_well_as_by_its_best_cut(make, mbps):
    with isolated(torch.Generator().manual_seed(0)):
        model = make()
    image = torch.zeros(1, 3, 16, 16)
    graph = graph_of(model, image, whole_ms=40.0, device=4.0, server=0.5)
    wire = Link(name="x", up_mbps=mbps, down_mbps=mbps, rtt_ms=2.0)
    found = fastest(graph, wire)
    every = cuts(model, image, granularity="all")
    total = every[0].tail_flops
    ways = [160.0]
    for cut in every[:-1]:
        work = 40 * (4.0 * cut.head_flops + 0.5 * cut.tail_flops) / total
        ways.append(work + wire.transfer_ms(cut.bytes, 64))
    assert found.ms <= min(ways) + 1e-6
    if make is sequence:
        assert found.ms == pytest.approx(min(ways))


def test_a_traced_model_takes_times_and_leakage_that_were_measured():
    graph = graph_of(
        sequence(), torch.zeros(1, 3, 16, 16), whole_ms=1.0, device=2.0,
        times_ms={"1": 7.0}, leakage={"2": 0.25},
    )  # fmt: skip
    named = {each.name: each for each in graph.nodes}
    assert named["1"].device_ms == 14.0
    assert named["1"].server_ms == 7.0
    assert named["1"].leakage == 1.0
    assert named["2"].leakage == named["4"].leakage == 0.25
    assert named["input"].bytes == 3 * 16 * 16 * 4


@pytest.mark.parametrize(
    "nodes",
    [
        (),
        (node("a", 0.0, 0.0, 1.0, "b"),),
        (node("a", 0.0, 0.0, 1.0), node("a", 0.0, 0.0, 1.0)),
        (node("a", 0.0, 0.0, 1.0), node("b", 0.0, 0.0, 1.0, "c")),
    ],
)
def test_what_is_no_model_is_refused(nodes):
    with pytest.raises(GraphError):
        Graph(nodes)


def test_a_division_that_would_need_something_back_is_refused():
    with pytest.raises(GraphError, match="reads"):
        division(diamond(), {"image", "join"}, link())
    with pytest.raises(GraphError, match="not negative"):
        node("a", -1.0, 0.0, 1.0)


@pytest.mark.parametrize("up", [1.0, 8.0, 20.0, 200.0])
def test_the_planner_finds_nothing_faster_along_a_chain(up):
    wire = world.link(up=up)
    place = world.scenario(world.phone(), world.cloud(), links={("phone", "cloud"): wire})
    plain = [each for each in world.options() if each.exact]
    planner = Planner(place, world.profile(), plain, accuracy=world.ACCURACY)
    found = fastest(chained(world.HEADS, world.BYTES, device=4.0, server=1.0), wire, reply_bytes=0)
    assert found.ms == pytest.approx(planner.joined("latency_ms").min())


def chained(heads, sizes, *, device, server):
    """The small model of the planner's tests as a graph: milliseconds to each cut, and bytes."""
    nodes = [node("input", 0.0, 0.0, float(sizes[0]))]
    for k, name in enumerate(world.NAMES[1:], start=1):
        ms = heads[k] - heads[k - 1]
        nodes.append(node(name, device * ms, server * ms, float(sizes[k]), world.NAMES[k - 1]))
    return Graph(tuple(nodes))


@reproducible
@given(
    st.lists(st.integers(1, 50), min_size=4, max_size=4),
    st.lists(st.integers(1, 20_000), min_size=5, max_size=5),
    st.floats(0.1, 30.0),
    st.floats(0.1, 30.0),
    st.floats(0.5, 200.0),
    st.floats(0.0, 200.0),
    st.integers(0, 2000),
)
def test_planner_and_least_cut_agree_on_any_chain(steps, sizes, device, server, up, rtt, reply):
    wire = world.link(up=up, rtt=rtt)
    tiers = world.phone(slowdown=device), world.cloud(slowdown=server)
    place = world.scenario(*tiers, links={("phone", "cloud"): wire}, rate=1e-4, reply=reply)
    heads = (0.0, *itertools.accumulate(map(float, steps)))
    cuts_of_it = zip(world.NAMES[:-1], sizes[:-1], strict=True)
    plain = [world.option(name, 1.0, payload=size) for name, size in cuts_of_it]
    planner = Planner(place, world.profile(heads=heads), plain, accuracy=world.ACCURACY)
    graph = chained(heads, sizes, device=device, server=server)
    found, best = fastest(graph, wire, reply_bytes=reply), planner.outcome().recommended
    assert best.figures["latency_ms"].value == pytest.approx(found.ms)
    assert best.placement.stays == (not found.sent) or found.ms == pytest.approx(
        planner.estimates[0].latency_ms[0]
    )
