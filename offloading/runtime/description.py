"""Objects as plain values, and back from a few packages that are trusted."""

import importlib
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from offloading.runtime.errors import ArtefactError
from splitbench.codec import Codec
from splitbench.defense import Defense
from splitbench.described import Described

MODELS = ("splitbench.models",)
PIECES = ("splitbench.codecs", "defenses")
TARGET, PARTIAL = "_target_", "_partial_"
DOWNLOADED = "weights"  # the keyword that names published weights: an artefact brings its own


def described(value: Any) -> Any:
    """A codec, a defense or an argument of theirs as plain values for JSON.

    Raises:
        ArtefactError: A number that is not finite, or an object that cannot say how it was made.
    """
    if isinstance(value, Described):
        kind = type(value)
        arguments = {name: described(part) for name, part in value.arguments().items()}
        return {TARGET: f"{kind.__module__}.{kind.__qualname__}", **arguments}
    if isinstance(value, Mapping):
        return {str(name): described(part) for name, part in value.items()}
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [described(part) for part in value]
    raise ArtefactError(f"{value!r} cannot be written into an artefact")


def build_model(
    node: Mapping[str, Any],
    *,
    image_shape: tuple[int, int, int],
    classes: int,
    trust: Sequence[str] = (),
) -> nn.Module:
    """The model that a node describes, with whatever weights; none are downloaded.

    Args:
        node: ``_target_`` names a class or function of `splitbench.models`, or of a trusted module.
        image_shape: Channels, height, width.
        classes: Number of classes.
        trust: Other modules and packages that may be named.

    Raises:
        ArtefactError: Another target, or one that refuses its arguments.
    """
    keywords = {k: _built(v, trust) for k, v in node.items() if k not in (TARGET, PARTIAL)}
    if DOWNLOADED in keywords:
        keywords[DOWNLOADED] = None
    make = _located(node, (*MODELS, *trust))
    if isinstance(make, type) and not issubclass(make, nn.Module):
        raise ArtefactError(f"{node[TARGET]} is no model")
    model = _called(make, {**keywords, "image_shape": image_shape, "classes": classes})
    if not isinstance(model, nn.Module):
        raise ArtefactError(f"{node[TARGET]} makes no model")
    return model


def build_defense(node: Mapping[str, Any], *, trust: Sequence[str] = ()) -> Defense:
    """The defense that a node describes, not fitted.

    Raises:
        ArtefactError: It names no defense, or one of a package that is not trusted.
    """
    found = _built(node, trust)
    if not isinstance(found, Defense):
        raise ArtefactError(f"{node} describes no defense")
    return found


def build_codec(node: Mapping[str, Any], *, trust: Sequence[str] = ()) -> Codec:
    """The codec that a node describes.

    Raises:
        ArtefactError: It names no codec, or one of a package that is not trusted.
    """
    found = _built(node, trust)
    if not isinstance(found, Codec):
        raise ArtefactError(f"{node} describes no codec")
    return found


def _built(value: Any, trust: Sequence[str]) -> Any:
    """A value with every node in it replaced by the defense or codec that it describes."""
    if isinstance(value, Mapping) and TARGET in value:
        make = _located(value, (*PIECES, *trust))
        if not (isinstance(make, type) and issubclass(make, Defense | Codec)):
            raise ArtefactError(f"{value[TARGET]} is neither a defense nor a codec")
        return _called(make, {k: _built(v, trust) for k, v in value.items() if k != TARGET})
    if isinstance(value, Mapping):
        return {name: _built(part, trust) for name, part in value.items()}
    if isinstance(value, list):
        return [_built(part, trust) for part in value]
    return value


def _located(node: Mapping[str, Any], trusted: Sequence[str]) -> Any:
    """What a node names, where that was written in a trusted module."""
    path = node.get(TARGET)
    if not isinstance(path, str) or not _is_in(path, trusted):
        raise ArtefactError(
            f"the artefact names {path!r}, which is in none of {', '.join(trusted)}: "
            "trust its module if you know it: trust=[MODULE]"
        )
    module, _, name = path.rpartition(".")
    if name.startswith("_"):
        raise ArtefactError(f"the artefact names {path!r}, which is nobody else's to call")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ArtefactError(f"the artefact names {path!r}, which is not there: {error}") from error
    # What a module merely imports is not its own: `defenses.x.os` leads out of the package.
    known = inspect.isclass(found) or inspect.isfunction(found)
    if not known or not _is_in(f"{found.__module__}.", trusted):
        raise ArtefactError(f"the artefact names {path!r}, which is no class or function of there")
    return found


def _is_in(path: str, packages: Sequence[str]) -> bool:
    return any(path.startswith(f"{package}.") for package in packages)


def _called(make: Any, keywords: Mapping[str, Any]) -> Any:
    try:
        return make(**keywords)
    except (TypeError, ValueError) as error:
        raise ArtefactError(f"{make.__module__}.{make.__qualname__}: {error}") from error
