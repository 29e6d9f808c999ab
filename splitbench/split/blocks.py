"""Where the blocks of a model end."""

from collections.abc import Iterator

from torch import nn

from splitbench.split.stages import Stages
from splitbench.split.steps import Step

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, Stages)


def block_ends(model: nn.Module, steps: tuple[Step, ...]) -> set[int]:
    """Places after the last step of each block.

    A block is a child of the model, or a member of a container (``Sequential``, ``ModuleList``,
    ``ModuleDict``, `Stages`) that lies in no other member of one: the residual blocks of a
    ResNet, the encoder layers of a transformer, the layers of a plain chain.
    """
    return {place for path in _blocks(model) for place in ends(path, steps)}


def ends(path: str, steps: tuple[Step, ...]) -> list[int]:
    """Places at which the module `path` has run, one for each time if it is a single step."""
    calls = [s.index for s in steps if s.node.op == "call_module" and s.node.target == path]
    inside = [s.index for s in steps if s.name.startswith(f"{path}.")]
    return calls or inside[-1:]


def _blocks(module: nn.Module, path: str = "") -> Iterator[str]:
    member = isinstance(module, nn.Sequential) if not path else type(module) in _CONTAINERS
    for name, child in module.named_children():
        if type(child) in _CONTAINERS:
            yield from _blocks(child, f"{path}{name}.")
        elif member:
            yield f"{path}{name}"
        else:
            if not path:
                yield name
            yield from _blocks(child, f"{path}{name}.")
