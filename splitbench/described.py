"""Objects whose repr is the expression that builds them."""

import inspect
from functools import cache


class Described:
    """Gives ``repr`` the form ``Class(keyword=value, ...)`` so that ``eval(repr(x))`` rebuilds x.

    Constructors of attacks, defenses and codecs only store their keyword arguments under the
    same names; this is what makes the repr complete, and the repr is what names a stage product
    in the store.
    """

    def arguments(self) -> dict[str, object]:
        """Constructor keywords and their values."""
        kind: type = type(self)
        return {name: getattr(self, name) for name in _keywords(kind)}

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.arguments().items())
        return f"{type(self).__name__}({inside})"


@cache  # codecs ask for every message, and inspecting a signature takes a tenth of a millisecond
def _keywords(kind: type) -> tuple[str, ...]:
    return tuple(inspect.signature(kind).parameters)
