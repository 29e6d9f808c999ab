"""Where tensors live and are computed on, with the same random numbers everywhere."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Random numbers of a given shape, or shaped like a tensor.
_DRAWN: frozenset[Callable[..., Any]] = frozenset(
    {
        torch.rand,
        torch.randn,
        torch.randint,
        torch.randperm,
        torch.normal,
        torch.rand_like,
        torch.randn_like,
        torch.randint_like,
        torch.bernoulli,
        torch.multinomial,
        torch.poisson,
    }
)
# Random numbers in place of a tensor's values.
_FILLED: frozenset[Callable[..., Any]] = frozenset(
    {
        Tensor.uniform_,
        Tensor.normal_,
        Tensor.bernoulli_,
        Tensor.exponential_,
        Tensor.random_,
        Tensor.log_normal_,
        Tensor.cauchy_,
        Tensor.geometric_,
    }
)


@contextmanager
def computing_on(device: torch.device | str) -> Iterator[None]:
    """Make new tensors on a device, as ``torch.device`` does, but draw random numbers on the CPU.

    Every stream of the benchmark is a CPU generator, so that a seed means the same numbers on
    every device. A device's own functions refuse such generators; here the numbers are drawn on
    the CPU and moved. Results then differ between devices by rounding alone.

    Modules are to be initialised within `splitbench.rng.isolated`, which keeps to the CPU, and
    moved afterwards.

    Args:
        device: For example ``"cuda"``. On ``"cpu"`` nothing is changed.
    """
    wanted = torch.device(device)
    if wanted.type == "cpu":
        yield
        return
    with wanted, _RandomnessOfTheCpu(wanted):
        yield


def found(name: str) -> torch.device:
    """A device of this machine by its name.

    Raises:
        ValueError: There is no such device here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"device={name}: not to be had here ({reason}); use device=cpu") from error
    return device


def name_of(device: torch.device) -> str:
    """What a device is, for a record."""
    if device.type != "cuda":
        return str(device)
    return f"{device} ({torch.cuda.get_device_name(device)})"


@contextmanager
def on_the_cpu() -> Iterator[None]:
    """Make new tensors on the CPU, whatever surrounds it."""
    if here().type == "cpu":  # such a context costs time at every function of torch
        yield
        return
    with torch.device("cpu"):
        yield


def here() -> torch.device:
    """The device that new tensors are made on."""
    return torch.get_default_device()


class _RandomnessOfTheCpu(TorchFunctionMode):
    """Draws on the CPU what would be drawn on the device."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one function of torch."""
        del types
        keywords = dict(kwargs or {})
        if func in _DRAWN:
            return self._drawn(func, args, keywords)
        if func in _FILLED and args[0].device.type != "cpu":
            values = torch.empty(args[0].shape, dtype=args[0].dtype, device="cpu")
            return args[0].copy_(func(values, *args[1:], **keywords))
        return func(*args, **keywords)

    def _drawn(
        self, func: Callable[..., Any], args: Sequence[Any], keywords: dict[str, Any]
    ) -> Any:
        tensors = [a for a in (*args, *keywords.values()) if isinstance(a, Tensor)]
        target = keywords.get("device") or (tensors[0].device if tensors else self.device)
        if not tensors:
            keywords["device"] = "cpu"
        else:
            keywords.pop("device", None)
        moved = [a.cpu() if isinstance(a, Tensor) else a for a in args]
        named = {k: v.cpu() if isinstance(v, Tensor) else v for k, v in keywords.items()}
        return func(*moved, **named).to(target)
