"""How much memory a computation takes at its worst moment."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary


def peak_bytes(compute: Callable[[], Any]) -> int:
    """The most bytes of new tensors that exist at the same time while something is computed.

    Counted are the tensors that the computation makes, while they live: not its parameters, not
    what existed before, and not what a kernel needs within itself. The count does not depend on
    the machine, its load or its allocator.

    Args:
        compute: Called once; what it returns counts as living.

    Example:
        >>> import torch
        >>> ones = torch.ones(100)
        >>> peak_bytes(lambda: (ones + 1) * 2)
        800
    """
    ledger = _Ledger()
    with ledger:
        compute()
    return ledger.peak


class _Ledger(TorchDispatchMode):
    """Writes down every storage when it appears, and strikes it out when it is freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = WeakIdKeyDictionary()
        self._alive = 0
        self.peak: int = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        for tensor in _tensors((args, kwargs)):  # what was there before is nobody's doing here
            self._known.setdefault(tensor.untyped_storage(), True)
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self._enter(tensor)
        self.peak = max(self.peak, self._alive)
        return result

    def _enter(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known[storage] = True
        self._alive += storage.nbytes()
        weakref.finalize(storage, self._leave, storage.nbytes())

    def _leave(self, count: int) -> None:
        self._alive -= count


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
