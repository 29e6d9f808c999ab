"""What the classes of attacks and defenses share in form: constructor, docstring, keywords."""

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

from splitbench.checks.randomness import global_randomness
from splitbench.described import Described

D = TypeVar("D", bound=Described)


def rebuilt(thing: D, **changes: object) -> D:
    """A fresh object of the same class, with some constructor keywords changed."""
    return type(thing)(**{**thing.arguments(), **changes})


def keeps_its_keywords(thing: D) -> D:
    """Build the same again, and assert that the constructor only stores what it is given.

    Returns:
        The object that was built.

    Raises:
        AssertionError: Arguments are taken by position or changed, or random numbers are drawn.
    """
    cls = type(thing)
    kinds = {p.name: p.kind for p in inspect.signature(cls).parameters.values()}
    loose = [name for name, kind in kinds.items() if kind is not inspect.Parameter.KEYWORD_ONLY]
    assert not loose, f"{cls.__name__} takes {loose} by position: put `*` before them"
    before = global_randomness()
    again = rebuilt(thing)
    assert global_randomness() == before, "the constructor draws random numbers: do that later"
    given, kept = thing.arguments(), again.arguments()
    changed = [name for name in given if repr(kept[name]) != repr(given[name])]
    assert not changed, f"the constructor changes {changed}: store them as they are given"
    return again


def explains_itself(cls: type[Described], sections: Sequence[str]) -> None:
    """Assert that the docstring explains every keyword, cites its sources and has all sections.

    Raises:
        AssertionError: Something is missing or superfluous; the message says what.
    """
    text = inspect.getdoc(cls) or ""
    lacking = [title for title in sections if not _section(text, title).strip()]
    assert not lacking, (
        f"the docstring of {cls.__name__} has nothing under {lacking}: add it; where there is "
        "nothing to say, say None"
    )
    told = re.findall(r"^ {4}(\w+):", _section(text, "Args:"), re.MULTILINE)
    wanted = list(inspect.signature(cls).parameters)
    assert told == wanted, f"the docstring explains {told}, the constructor takes {wanted}"
    sources = _section(text, "References:")
    assert re.search(r"doi:10\.|arXiv:\d|^\s*None", sources), (
        f"the references of {cls.__name__} name neither a doi: nor an arXiv: number, nor say None"
    )


def other_values(thing: Described, name: str) -> Iterator[object]:
    """Values that a keyword could have instead, as far as its type tells; possibly none."""
    value = thing.arguments()[name]
    if isinstance(value, tuple) and value and all(isinstance(v, float) for v in value):
        yield tuple(10 * v + 1 for v in value)
    for hint in _alternatives(get_type_hints(type(thing).__init__).get(name)):
        if get_origin(hint) is Literal:
            yield from (choice for choice in get_args(hint) if choice != value)
        elif get_origin(hint) is tuple and value is None:
            yield tuple(float(i) / 2 for i in range(len(get_args(hint))))
        elif hint is bool:
            yield not value
        elif hint in (int, float) and value is None:
            yield hint(1)
        elif hint is int and isinstance(value, int):
            yield from (other for other in (value + 1, max(value - 1, 1)) if other != value)
        elif hint is float and isinstance(value, int | float):
            yield from (other for other in (value * 2 or 0.5, value / 2) if other != value)
        elif hint is type(None) and value is not None:
            yield None


def _alternatives(hint: object) -> tuple[object, ...]:
    """Members of a union, or the type itself."""
    return (hint,) if get_origin(hint) in (Literal, tuple) else get_args(hint) or (hint,)


def _section(text: str, title: str) -> str:
    """The indented lines under a title, or what follows it on the same line."""
    found = re.search(rf"^{re.escape(title)}(.*\n?(?:(?: .*)?\n?)*?)(?=^\S|\Z)", text, re.MULTILINE)
    return found.group(1) if found else ""
