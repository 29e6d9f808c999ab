"""Which tensors live at a place of the graph, and the modules on either side of it."""

import copy
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import fx

from splitbench.split.steps import Step
from splitbench.split.walk import LAYER


@dataclass(frozen=True)
class Parts:
    """A traced model that can be taken apart after any of its steps.

    Attributes:
        module: The traced model.
        steps: Its nodes in topological order, without the output.
    """

    module: fx.GraphModule
    steps: tuple[Step, ...]

    def live(self, place: int) -> tuple[Step, ...]:
        """Steps up to `place` whose values, dependent on the image, are still needed after it."""
        before = self.steps[: place + 1]
        return tuple(s for s in before if s.dependent and self._last[s.index] > place)

    def client_steps(self, places: Iterable[int]) -> set[int]:
        """Steps that the client runs to have the live tensors of all `places`."""
        places = list(places)
        wanted = {step.index for place in places for step in self.live(place)}
        return self._ancestors(wanted | {i for i in self._checks if i <= max(places)})

    def server_steps(self, place: int) -> set[int]:
        """Steps that the server runs: those after `place`, and what it makes anew without data."""
        roots = self._returned | {i for i in self._checks if i > place}
        live = {step.index for step in self.live(place)}
        return self._ancestors(roots - live, stop=live, asked_after=place)

    def is_cut(self, place: int) -> bool:
        """Whether the live values are tensors with a batch axis and the rest can be made anew."""
        live = self.live(place)
        served = self.server_steps(place) | {step.index for step in live}
        asked = [self.steps[i] for i in served if self.steps[i].inquires]
        missing = [step for step in asked if not served.issuperset(step.inputs)]
        return (
            bool(live)
            and all(step.spec is not None for step in live)
            and all(_scales(step.single, step.pair) for step in missing)
        )

    def client(self, place: int) -> fx.GraphModule:
        """Images to the tuple of live tensors; its own copy of the parameters."""
        graph, env = self._beginning([place])
        graph.output(tuple(env[step.node] for step in self.live(place)))
        return self._module(graph, "Client")

    def taps(self, places: Mapping[str, int]) -> fx.GraphModule:
        """Images to the live tensors of several places by name, from one pass; its own copy."""
        graph, env = self._beginning(places.values())
        graph.output(
            {
                name: tuple(env[step.node] for step in self.live(place))
                for name, place in places.items()
            }
        )
        return self._module(graph, "Taps")

    def server(self, place: int) -> fx.GraphModule:
        """Tuple of live tensors to what the model returns; its own copy of the parameters."""
        graph, env = self._continuation(place, self.server_steps(place))
        graph.output(fx.map_arg(self._output.args[0], env.__getitem__))
        return self._module(graph, "Server")

    def middle(self, near: int, far: int) -> fx.GraphModule:
        """Live tensors of one place to those of a later one; its own copy of the parameters."""
        roots = {step.index for step in self.live(far)}
        roots |= {i for i in self._checks if near < i <= far}
        live = {step.index for step in self.live(near)}
        steps = self._ancestors(roots - live, stop=live, asked_after=near)
        graph, env = self._continuation(near, steps)
        graph.output(tuple(env[step.node] for step in self.live(far)))
        return self._module(graph, "Middle")

    @cached_property
    def _output(self) -> fx.Node:
        return self.module.graph.output_node()

    @cached_property
    def _returned(self) -> set[int]:
        """Steps whose values the model returns."""
        returned = set(self._output.all_input_nodes)
        return {step.index for step in self.steps if step.node in returned}

    @cached_property
    def _last(self) -> list[int]:
        """Place of the last step that needs each value; past the end if the model returns it."""
        last = [len(self.steps) if i in self._returned else -1 for i in range(len(self.steps))]
        for step in self.steps:
            if step.dependent:
                for i in step.inputs:
                    last[i] = max(last[i], step.index)
        return last

    @cached_property
    def _checks(self) -> set[int]:
        """Assertions: steps that nobody reads."""
        return {step.index for step in self.steps[1:] if not step.node.users}

    def _beginning(self, places: Iterable[int]) -> tuple[fx.Graph, dict[fx.Node, fx.Node]]:
        graph = fx.Graph()
        env: dict[fx.Node, fx.Node] = {}
        for i in sorted(self.client_steps(places) | {0}):
            step = self.steps[i]
            env[step.node] = graph.node_copy(step.node, env.__getitem__)
            if i > 0 and step.dependent and step.spec is not None:
                env[step.node].meta[LAYER] = step.name
        return graph, env

    def _continuation(
        self, place: int, steps: Iterable[int]
    ) -> tuple[fx.Graph, dict[fx.Node, fx.node.Argument]]:
        """A graph that takes the live tensors of a place and runs these steps after it."""
        graph = fx.Graph()
        features = graph.placeholder("features")
        live = self.live(place)
        env: dict[fx.Node, fx.node.Argument] = {
            step.node: graph.call_function(operator.getitem, (features, k))
            for k, step in enumerate(live)
        }
        tensor = env[live[0].node]
        for i in sorted(steps):
            step = self.steps[i]
            if step.inquires and not all(n in env for n in step.node.all_input_nodes):
                env[step.node] = _rebuilt(graph, tensor, step.single, step.pair)
            else:
                env[step.node] = graph.node_copy(step.node, env.__getitem__)
        return graph, env

    def _ancestors(
        self, roots: Iterable[int], *, stop: Iterable[int] = (), asked_after: int = -1
    ) -> set[int]:
        """The roots and what they are made from, down to `stop`.

        Tensors that are only asked for a shape are left out unless they come `asked_after`.
        """
        found: set[int] = set()
        stack = list(roots)
        stopped = set(stop)
        while stack:
            i = stack.pop()
            if i in found or i in stopped:
                continue
            found.add(i)
            step = self.steps[i]
            stack.extend(j for j in step.inputs if j > asked_after or not step.inquires)
        return found

    @torch.inference_mode(False)  # else the copied parameters could never be trained
    def _module(self, graph: fx.Graph, class_name: str) -> fx.GraphModule:
        graph.lint()
        part = copy.deepcopy(fx.GraphModule(self.module, graph, class_name))
        part.eval()
        return part


def _scales(single: object, pair: object) -> bool:
    """Whether a shape, size, type or device of a batch follows from the size of the batch."""
    if isinstance(single, tuple) and isinstance(pair, tuple):
        return len(single) == len(pair) and all(map(_scales, single, pair))
    if isinstance(single, int) and isinstance(pair, int) and not isinstance(single, bool):
        return pair in (single, 2 * single)
    return single == pair


def _rebuilt(
    graph: fx.Graph, tensor: fx.node.Argument, single: object, pair: object
) -> fx.node.Argument:
    """What asking the missing tensor would have returned, from a live tensor of the same batch."""
    if isinstance(single, torch.device):
        return graph.call_function(getattr, (tensor, "device"))
    if isinstance(single, tuple) and isinstance(pair, tuple):
        parts = zip(single, pair, strict=True)
        return tuple(_rebuilt(graph, tensor, one, two) for one, two in parts)
    if isinstance(single, int) and single != pair:
        batch = graph.call_method("size", (tensor, 0))
        return graph.call_function(operator.mul, (batch, single))
    constant: fx.node.Argument = single  # type: ignore[assignment]
    return constant
