"""Running a client layer by layer, so that it can be left on the way."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, fx, nn

from splitbench.release import Tensors

LAYER = "splitbench.layer"  # where a client's node keeps its dotted name, if its value is a tensor


def walk(client: nn.Module, images: Tensor, after: Sequence[str] = ()) -> Iterator[Tensors]:
    """What comes out of some layers of a client in turn and, last, its features.

    All of them come from one pass, and nothing is computed before it is asked for: who stops asking
    saves the rest. The features equal ``client(images)``, bitwise.

    Args:
        client: As `Cuttable.split` made it; any module where `after` is empty.
        images: ``(b, c, h, w)``.
        after: See `stops`.

    Raises:
        ValueError: As `stops`.

    Example:
        >>> import torch
        >>> from splitbench.split import split
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2))
        >>> images = torch.rand(5, 1, 2, 2)
        >>> client = split(model, images, "2").client
        >>> [tuple(values.shape) for (values,) in walk(client, images, after=["1"])]
        [(5, 3), (5, 2)]
    """
    if not after:
        yield tuple(client(images))
        return
    wanted = set(stops(client, after))
    assert isinstance(client, fx.GraphModule)
    runner = fx.Interpreter(client)
    for node in client.graph.nodes:
        runner.env[node] = images if node.op == "placeholder" else _value(runner, node)
        for read in runner.user_to_last_uses.get(node, []):
            del runner.env[read]
        if node in wanted:
            yield (runner.env[node],)
    yield tuple(runner.env[client.graph.output_node()])


def _value(runner: fx.Interpreter, node: fx.Node) -> Any:
    """What `run_node` returns, without its book-keeping, which takes longer than small layers."""
    args, kwargs = runner.fetch_args_kwargs_from_env(node)
    return getattr(runner, node.op)(node.target, args, kwargs)


def stops(client: nn.Module, after: Sequence[str]) -> list[fx.Node]:
    """The nodes of a client after which it can be left, so that something is saved.

    Args:
        client: As `Cuttable.split` made it.
        after: Names of layers before the cut, in the order in which they run: graph nodes as cuts
            are named, or paths of modules, at whose ends it is.

    Raises:
        ValueError: There is no such layer before the cut, or they run in another order.
    """
    nodes = [*client.graph.nodes] if isinstance(client, fx.GraphModule) else []
    known = {str(node.meta[LAYER]): node for node in nodes if LAYER in node.meta}
    *early, _ = known or [""]
    found = [_end(name, early) for name in after]
    for name, end in zip(after, found, strict=True):
        if end is None:
            raise ValueError(
                f"after={[*after]}: no layer {name!r} lies before the cut; choose from "
                f"{', '.join(early) or 'none'}"
            )
    places = [early.index(end) for end in found if end is not None]
    if places != sorted(set(places)):
        raise ValueError(f"after={[*after]}: name each layer once, in the order in which they run")
    return [known[early[place]] for place in places]


def _end(path: str, layers: Sequence[str]) -> str | None:
    """The layer of this name, or the last one within the module."""
    inside = [name for name in layers if name.startswith(f"{path}.")]
    return path if path in layers else (inside[-1] if inside else None)
