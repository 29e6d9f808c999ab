"""Finding the classes of a package."""

import importlib
import sys
from abc import ABC, abstractmethod

import pytest

from splitbench.checks.discovery import concrete


class Animal(ABC):
    """What is looked for."""

    @abstractmethod
    def speak(self):
        """Make a noise."""


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A package with animals in two of its modules, and other things beside them."""
    sys.modules["the_animal"] = sys.modules[__name__]
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "zoo" / "pond").mkdir(parents=True)
    (tmp_path / "zoo" / "__init__.py").write_text("")
    (tmp_path / "zoo" / "pond" / "__init__.py").write_text("")
    (tmp_path / "zoo" / "dog.py").write_text(
        "from the_animal import Animal\n"
        "class Dog(Animal):\n    def speak(self): pass\n"
        "class Wolf(Animal):\n    pass\n"
        "class Stone:\n    pass\n"
        "number = 3\n"
    )
    (tmp_path / "zoo" / "pond" / "frog.py").write_text(
        "from zoo.dog import Dog\nclass Frog(Dog):\n    pass\n"
    )
    yield importlib.import_module("zoo")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("zoo", "the_animal")]:
        del sys.modules[name]


def test_concrete_classes_of_all_modules_are_found_once_where_they_are_defined(zoo):
    found = [f"{cls.__module__}.{cls.__name__}" for cls in concrete(zoo, Animal)]
    assert found == ["zoo.dog.Dog", "zoo.pond.frog.Frog"]


def test_a_module_that_cannot_be_imported_is_not_passed_over(zoo, tmp_path):
    (tmp_path / "zoo" / "cat.py").write_text("import no_such_module\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        concrete(zoo, Animal)
