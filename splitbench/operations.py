"""How many floating point operations a computation takes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Count the operations of whatever runs meanwhile.

    One multiply-add is 2. Matrix products and convolutions are counted, elementwise work is not.
    Attention runs as matrix products, which the counter sees, instead of one fused operation.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.callback(torch.backends.mha.set_fastpath_enabled, fused)
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield stack.enter_context(FlopCounterMode(display=False))


def operations(compute: Callable[[], Any]) -> int:
    """Floating point operations of calling `compute` once; see `counting`.

    Example:
        >>> left, right = torch.ones(2, 3), torch.ones(3, 5)
        >>> operations(lambda: left @ right)
        60
    """
    with counting() as counter:
        compute()
    return int(counter.get_total_flops())
