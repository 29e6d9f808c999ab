"""What rows are called: the kind of a defense, and the settings that tell it from its like."""

import ast
from collections.abc import Iterator, Mapping

from splitbench.leaderboard.evidence import System
from splitbench.leaderboard.simulable import parse


def labels(systems: Mapping[str, System]) -> dict[str, tuple[str, str]]:
    """Kind and setting: the first keyword, whatever else differs, and the codec where it does."""
    known = {key: settings(s.message.defense) for key, s in systems.items()}
    found = {}
    for key, system in systems.items():
        name = system.first.cell.defense_name
        peers = [other for other in systems if systems[other].first.cell.defense_name == name]
        mine = known[key]
        differing = [k for k in mine if any(known[o].get(k) != mine[k] for o in peers)]
        shown = dict.fromkeys([*list(mine)[:1], *differing])
        setting = [f"{k}={mine[k]}" for k in shown]
        codecs = {systems[o].message.codec for o in peers if known[o] == mine}
        if len(codecs) > 1:
            setting += _sent_as(system.message.codec, codecs)
        kind = "undefended" if name == "none" else name.replace("_", " ")
        found[key] = (kind, " ".join(setting))
    return found


def settings(expression: str) -> dict[str, object]:
    """All keywords of a constructor expression, also of those within it, by their path.

    Example:
        >>> settings("Chain(members={'noise': Noise(std=0.5), 'bits': Quantization(bits=4)})")
        {'noise.std': 0.5, 'bits.bits': 4}
    """
    try:
        return dict(_walk("", ast.parse(expression, mode="eval").body))
    except SyntaxError:
        return {}


def _walk(path: str, node: ast.expr) -> Iterator[tuple[str, object]]:
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            # The names of members tell more than that they are members.
            within = isinstance(keyword.value, ast.Dict)
            yield from _walk(path if within else f"{path}{keyword.arg}.", keyword.value)
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            name = "" if key is None else str(ast.literal_eval(key))
            yield from _walk(f"{path}{name}.", value)
    else:
        yield path.removesuffix("."), _value(node)


def _value(node: ast.expr) -> object:
    try:
        value: object = ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
    return value


def _sent_as(codec: str, others: set[str]) -> list[str]:
    """The codec, its first keyword, and what else tells it from others of its kind."""
    name, mine = parse(codec)
    alike = [keywords for kind, keywords in map(parse, others) if kind == name]
    differing = [k for k in mine if any(one.get(k) != mine[k] for one in alike)]
    shown = dict.fromkeys([*list(mine)[:1], *differing])
    return ["as", name, *(f"{k}={mine[k]}" for k in shown)]
