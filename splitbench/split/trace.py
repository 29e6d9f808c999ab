"""One model as a graph of named nodes, none of which overwrites the tensor of another."""

import copy
import inspect
import itertools
import math
import re
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import fx, nn

from splitbench.models.normalize import Normalize
from splitbench.split.stages import Stages

# What user code may raise when its tensors are replaced by symbols.
_TRACING_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)


class UntraceableError(RuntimeError):
    """The model's forward cannot be turned into a graph; the message says why and what helps."""

    def __init__(self, model: nn.Module, cause: str) -> None:
        names = [name for name, _ in model.named_children()] or ["stem", "head"]
        stages = ", ".join(f"{name}=model.{name}" for name in names)
        example = textwrap.fill(f"model = Stages({stages})", 88, subsequent_indent=" " * 15)
        super().__init__(
            f"{type(model).__name__} cannot be traced: {cause}\n"
            "Build it as a chain of named stages, which may hold any code and are never looked "
            "into, for example\n"
            "    from splitbench.split import Stages\n" + textwrap.indent(example, "    ")
        )


def private_copy(model: nn.Module) -> nn.Module:
    """A structural copy in eval mode that shares the parameters and buffers of the original."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors}).eval()


def trace(model: nn.Module, original: nn.Module) -> tuple[fx.GraphModule, dict[fx.Node, str]]:
    """Trace a private copy and rid it of operations that overwrite their input.

    Args:
        model: A private copy in eval mode, which this changes.
        original: The user's model, for messages.

    Returns:
        The graph and the dotted name of each node, unique; the image is called ``input``.

    Raises:
        UntraceableError: Data-dependent Python code, or a write that has no out-of-place form.
    """
    tracer = _Tracer(model)
    try:
        graph = tracer.trace(_with_one_argument(model))
    except _TRACING_ERRORS as error:
        raise UntraceableError(original, f"{type(error).__name__}: {error}") from error
    names = _names(graph)
    nodes = list(graph.nodes)
    for place, node in enumerate(nodes):
        written = _made_out_of_place(node, model, original)
        if written is not None:
            later = set(nodes[place + 1 :])
            written.replace_all_uses_with(node, delete_user_cb=later.__contains__)
    for module in model.modules():
        if getattr(module, "inplace", None) is True:
            module.inplace = False  # type: ignore[assignment]
    graph_module = fx.GraphModule(model, graph)
    graph.eliminate_dead_code()
    return graph_module, {node: names[node] for node in graph.nodes}


class _Tracer(fx.Tracer):
    """Does not look into stages, nor into torchvision's operations."""

    proxy_buffer_attributes = True

    def __init__(self, model: nn.Module) -> None:
        # Who uses torchvision's operations has imported them: others need not wait for that.
        operations = sys.modules.get("torchvision.ops")
        super().__init__(autowrap_modules=(math, operations) if operations else (math,))
        chains = [module for module in model.modules() if isinstance(module, Stages)]
        self._stages = {id(stage) for chain in chains for stage in chain.children()}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if id(m) in self._stages or isinstance(m, Normalize):
            return True
        return bool(super().is_leaf_module(m, module_qualified_name))


def _with_one_argument(model: nn.Module) -> nn.Module:
    """Hide optional arguments of the forward, which would become symbols and so never be None."""
    traced = type(model).forward

    def forward(self: nn.Module, images: torch.Tensor) -> object:
        return traced(self, images)

    model.__class__ = type(type(model).__name__, (type(model),), {"forward": forward})
    return model


def _names(graph: fx.Graph) -> dict[fx.Node, str]:
    """Name nodes as torchvision does, but modules whose own name ends in a number keep it."""
    names: dict[fx.Node, str] = {}
    taken: set[str] = set()
    for node in graph.nodes:
        if node.op in ("placeholder", "output"):
            base = "input" if node.op == "placeholder" else "output"
        else:
            base = str(node.target) if node.op == "call_module" else _path(node)
        reserved = {"output"} if node.op != "output" else set()
        suffixes = ("" if k == 0 else f"_{k}" for k in itertools.count())
        names[node] = next(base + s for s in suffixes if base + s not in taken | reserved)
        taken.add(names[node])
    return names


def _path(node: fx.Node) -> str:
    """The module that computes the node, and what it does there, without a number."""
    inside = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
    return ".".join([*inside[-1:], re.sub(r"_[0-9]+$", "", node.name)])


def _made_out_of_place(node: fx.Node, model: nn.Module, original: nn.Module) -> fx.Node | None:
    """Make the node write a new tensor; returns the node whose tensor it used to overwrite."""
    if node.op == "call_module":
        overwrites = getattr(model.get_submodule(str(node.target)), "inplace", None) is True
    elif node.op == "call_function":
        overwrites = _clear_flag(node) or _replace_underscored(node, (torch, F), original)
    elif node.op == "call_method":
        overwrites = _replace_underscored(node, (torch.Tensor,), original)
    else:
        overwrites = False
    first = node.args[0] if node.args else None
    return first if overwrites and isinstance(first, fx.Node) else None


def _clear_flag(node: fx.Node) -> bool:
    """Turn ``inplace=True`` off; returns whether it was on."""
    try:
        bound = inspect.signature(_function(node)).bind(*node.args, **node.kwargs)
    except (TypeError, ValueError):  # built-in functions have no signature, and no such flag
        return False
    if bound.arguments.get("inplace") is not True:
        return False
    bound.arguments["inplace"] = False
    node.args, node.kwargs = bound.args, bound.kwargs
    return True


def _replace_underscored(node: fx.Node, owners: tuple[Any, ...], original: nn.Module) -> bool:
    """Exchange e.g. ``add_`` for ``add``; returns whether the node was such an operation."""
    name = node.target if isinstance(node.target, str) else _function(node).__name__
    if not name.endswith("_") or name.endswith("__"):
        return False
    found = [getattr(owner, name[:-1], None) for owner in owners]
    functions = [function for function in found if callable(function)]
    if not functions:
        raise UntraceableError(original, f"'{name}' overwrites its input and has no other form")
    node.target = name[:-1] if isinstance(node.target, str) else functions[0]
    return True


def _function(node: fx.Node) -> Callable[..., Any]:
    if not callable(node.target):
        raise TypeError(f"{node.target!r} is no function")
    return node.target
