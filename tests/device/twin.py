"""A pretend device: tensors that say they are elsewhere, and refuse to be mixed with the CPU's.

Behind each stands a tensor of the CPU, on which everything is computed. What a real accelerator
refuses is refused here too: tensors of both places in one operation (but for single numbers, and
indices), generators of the CPU, and numpy. So a machine without an accelerator can show that
nothing is left behind on the CPU.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "twin"

aten = torch.ops.aten
MOVES = {aten._to_copy.default, aten.copy_.default}
INDEXES = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}

_setup_privateuseone_for_python_backend(NAME)
# torch.tensor(..., device=NAME) makes the tensor on the CPU, and then moves it.
torch._C._set_only_lift_cpu_tensors(True)


class Twin(Tensor):
    """A tensor of the pretend device."""

    @staticmethod
    def __new__(cls, raw: Tensor) -> "Twin":
        return Tensor._make_wrapper_subclass(
            cls,
            raw.shape,
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            layout=raw.layout,
            device=torch.device(NAME, 0),
        )

    def __init__(self, raw: Tensor) -> None:
        self.raw = raw

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self) -> str:
        return f"Twin({self.raw})"

    def tolist(self) -> list[Any]:
        """As a real device's tensor has it."""
        return self.raw.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


class Machine(TorchDispatchMode):
    """While active, tensors can be made on the pretend device and moved there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


def compute(func, args, kwargs):
    """One operation, on the CPU; its results are where those of a real device would be."""
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    twins = [t for t in tensors if isinstance(t, Twin)]
    there = bool(twins)
    if kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]).type == NAME
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if func is aten.copy_.default:
        there = isinstance(args[0], Twin)
    refuse(func, args, kwargs, tensors, there)
    plain_args, plain_kwargs = tree_map_only(Twin, lambda t: t.raw, (args, kwargs))
    result = func(*plain_args, **plain_kwargs)
    if not there:
        return args[0] if func is aten.copy_.default else result
    known = {id(t.raw): t for t in twins}
    wrapped = tree_map_only(Tensor, lambda t: known[id(t)] if id(t) in known else Twin(t), result)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if twins else wrapped


def refuse(func, args, kwargs, tensors, there):
    """What a real device does not do."""
    whole = [t for t in tensors if not isinstance(t, Twin) and t.dim() > 0]
    mixed = whole and len(whole) < len(tensors) and any(isinstance(t, Twin) for t in tensors)
    indexed = func in INDEXES and isinstance(args[0], Twin)
    if mixed and func not in MOVES and not indexed:
        raise RuntimeError(f"{func}: expected all tensors to be on the same device")
    leaves = tree_leaves((args, kwargs))
    if there and any(isinstance(leaf, torch.Generator) for leaf in leaves):
        raise RuntimeError(f"{func}: expected a generator of '{NAME}', got one of the CPU")
