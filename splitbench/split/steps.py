"""What each node of a traced model does, seen by running it on one and on two examples."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from splitbench.operations import counting
from splitbench.release import TensorSpec
from splitbench.rng import isolated
from splitbench.split.trace import UntraceableError, private_copy, trace

# What may be asked of a tensor without learning its values.
_METADATA = frozenset({"device", "dim", "dtype", "ndim", "numel", "shape", "size"})


@dataclass(frozen=True)
class Step:
    """One node of the graph.

    Attributes:
        node: The node.
        name: Its dotted name.
        index: Its place in topological order; 0 is the image.
        inputs: Places of the nodes that it reads.
        dependent: Its value depends on the pixels of the image.
        inquires: It asks a tensor that depends on the image for its shape, type or device.
        single, pair: Its value for one and for two examples; tensors as their specification with
            the batch axis.
        flops: Of one example; one multiply-add is 2.
        parameters: Size of each parameter that it reads, by identity.
    """

    node: fx.Node
    name: str
    index: int
    inputs: tuple[int, ...]
    dependent: bool
    inquires: bool
    single: object
    pair: object
    flops: int
    parameters: Mapping[int, int]

    @property
    def spec(self) -> TensorSpec | None:
        """What one example of it looks like; None if it is not one tensor with a batch axis."""
        one, two = self.single, self.pair
        if not isinstance(one, TensorSpec) or not isinstance(two, TensorSpec):
            return None
        if one.dtype != two.dtype or one.shape[:1] != (1,) or two.shape != (2, *one.shape[1:]):
            return None
        return TensorSpec(self.name, one.shape[1:], one.dtype)


@torch.inference_mode(False)
@torch.no_grad()
def observe(model: nn.Module, example: Tensor) -> tuple[fx.GraphModule, tuple[Step, ...]]:
    """Trace a model, make sure that the graph computes what the model does, and watch it run.

    The model itself is not changed; the graph shares its parameters.

    Args:
        model: Any module that takes one batch of images.
        example: Images, ``(b, ...)`` with b >= 1, for their shape, type and device.

    Raises:
        ValueError: No example was given.
        UntraceableError: No graph, or one that would be wrong.
    """
    if example.ndim == 0 or len(example) == 0:
        raise ValueError(f"need at least one example image, got shape {tuple(example.shape)}")
    pair = torch.cat([example[:1], example[:1]])
    if pair.is_floating_point():  # a blank example would hide a graph that is wrong
        pair = torch.rand(pair.shape, generator=torch.Generator().manual_seed(0)).to(pair)
    twin = private_copy(model)
    with isolated(torch.Generator().manual_seed(0)):
        wanted = twin(pair.clone())
    graph_module, names = trace(twin, model)
    plain = _Watch(graph_module, model)
    with isolated(torch.Generator().manual_seed(0)):
        got = plain.run(pair.clone())
    _compare(got, wanted, model)
    with counting() as counter:
        counted = _Watch(graph_module, model, counter)
        counted.run(pair[:1].clone())
    return graph_module, _steps(graph_module, names, counted, plain)


class _Watch(fx.Interpreter):
    """Runs a graph and remembers what every node returned, and its floating point operations."""

    def __init__(
        self, module: fx.GraphModule, original: nn.Module, counter: FlopCounterMode | None = None
    ) -> None:
        super().__init__(module)
        self.original = original
        self.counter = counter
        self.values: dict[fx.Node, object] = {}
        self.flops: dict[fx.Node, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        read = [t for t in _leaves(self.fetch_args_kwargs_from_env(n)) if isinstance(t, Tensor)]
        versions = [tensor._version for tensor in read]  # noqa: SLF001 (counts writes)
        before = self.counter.get_total_flops() if self.counter else 0
        value = super().run_node(n)
        self.flops[n] = self.counter.get_total_flops() - before if self.counter else 0
        if versions != [tensor._version for tensor in read]:  # noqa: SLF001
            cause = f"'{n.target}' overwrites its input; return a new tensor instead"
            raise UntraceableError(self.original, cause)
        self.values[n] = _outline(value)
        return value


def _steps(
    module: fx.GraphModule, names: Mapping[fx.Node, str], single: _Watch, pair: _Watch
) -> tuple[Step, ...]:
    steps: dict[fx.Node, Step] = {}
    for node in module.graph.nodes:
        if node.op == "output":
            continue
        inputs = [steps[n] for n in node.all_input_nodes]
        touches = any(step.dependent for step in inputs)
        inquires = touches and _is_inquiry(node)
        steps[node] = Step(
            node=node,
            name=names[node],
            index=len(steps),
            inputs=tuple(step.index for step in inputs),
            dependent=node.op == "placeholder" or (touches and not inquires),
            inquires=inquires,
            single=single.values[node],
            pair=pair.values[node],
            flops=single.flops[node],
            parameters=_parameters(node, module),
        )
    return tuple(steps.values())


def _is_inquiry(node: fx.Node) -> bool:
    if node.op == "call_function" and node.target is getattr:
        return node.args[1] in _METADATA
    return node.op == "call_method" and node.target in _METADATA


def _parameters(node: fx.Node, module: fx.GraphModule) -> dict[int, int]:
    if node.op == "call_module":
        owned = list(module.get_submodule(str(node.target)).parameters())
    elif node.op == "get_attr":
        path, _, name = str(node.target).rpartition(".")
        value = getattr(module.get_submodule(path), name)
        owned = [value] if isinstance(value, nn.Parameter) else []
    else:
        owned = []
    return {id(parameter): parameter.numel() for parameter in owned}


def _outline(value: object) -> object:
    """The value with every tensor replaced by its specification."""
    if isinstance(value, Tensor):
        return TensorSpec("", tuple(value.shape), str(value.dtype).removeprefix("torch."))
    if isinstance(value, tuple | list):
        return tuple(_outline(part) for part in value)
    return value


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, tuple | list):
        for part in value:
            yield from _leaves(part)
    elif isinstance(value, Mapping):
        yield from _leaves(tuple(value.values()))
    else:
        yield value


def _compare(got: object, wanted: object, model: nn.Module) -> None:
    """Refuse a graph that computes something else: bitwise on a CPU, where runs are repeatable."""
    exact = all(t.device.type == "cpu" for t in _leaves(wanted) if isinstance(t, Tensor))
    tolerance = 0.0 if exact else 1e-3
    try:
        torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance, equal_nan=True)
    except AssertionError as error:
        first = str(error).strip().splitlines()[0]
        cause = (
            f"its graph does not compute what the model computes ({first}); it may overwrite "
            "views of tensors, keep state, or be random without using torch's generator"
        )
        raise UntraceableError(model, cause) from error
