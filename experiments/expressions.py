"""From the expression that names a defense or a codec in a record back to its configuration."""

import ast
import importlib
from typing import Any

from experiments.errors import UserError
from splitbench.codec import Codec
from splitbench.defense import Defense

_KINDS: dict[str, type[Any]] = {"defenses": Defense, "splitbench.codecs": Codec}


def node_of(expression: str) -> dict[str, Any]:
    """The node that describes what a ``repr`` describes: ``_target_`` and every keyword.

    Nothing is evaluated: classes of this project with keywords, numbers, text, lists and
    dictionaries are all that is understood.

    Raises:
        UserError: Something else is in it, or there is no such class.
    """
    try:
        tree = ast.parse(expression, mode="eval").body
    except SyntaxError as error:
        raise UserError(f"{expression!r} is no defense and no codec") from error
    node = _value(tree)
    if not isinstance(node, dict) or "_target_" not in node:
        raise UserError(f"{expression!r} is no defense and no codec")
    return node


def _value(tree: ast.expr) -> Any:
    match tree:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part) for part in parts]
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {_value(key): _value(value) for key, value in pairs if key is not None}
        case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords):
            named = {k.arg: _value(k.value) for k in keywords if k.arg is not None}
            return {"_target_": _class(name), **named}
        case _:
            raise UserError(f"{ast.unparse(tree)!r} is not understood")


def _class(name: str) -> str:
    """The full name of a defense or codec."""
    from splitbench.checks.discovery import concrete

    for package, kind in _KINDS.items():
        for found in concrete(importlib.import_module(package), kind):
            if found.__name__ == name:
                return f"{found.__module__}.{name}"
    raise UserError(f"there is no defense and no codec {name!r} in this project")
