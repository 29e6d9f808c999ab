"""Finding what a package offers, so that no list of classes can be forgotten."""

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def concrete(package: ModuleType, kind: type[T]) -> list[type[T]]:
    """Classes of one kind that the modules of a package define.

    Args:
        package: Walked with its subpackages; every module of it is imported.
        kind: Base class.

    Returns:
        Subclasses without abstract methods, each from the module that defines it, by name.
    """
    found = []
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(info.name)
        found += [
            member
            for member in vars(module).values()
            if isinstance(member, type)
            and issubclass(member, kind)
            and member.__module__ == info.name
            and not inspect.isabstract(member)
        ]
    return sorted(found, key=lambda cls: cls.__name__)
