"""From configuration to objects: the only caller of Hydra's `instantiate`."""

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.errors import UserError

# What determines numbers. Reports, tracking and the command line do not.
_NUMERIC = ("splitbench", "attacks", "defenses")
CONFIG_DIR = "--config-dir"


def apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The folder of one's own configuration files, as ``--config-dir=DIR``, and all other words.

    Raises:
        UserError: The folder is missing.
    """
    own: list[str] = []
    rest: list[str] = []
    left = iter(words)
    for word in left:
        name, equals, folder = word.partition("=")
        if name != CONFIG_DIR:
            rest.append(word)
            continue
        folder = folder if equals else next(left, "")
        if not folder or not Path(folder).is_dir():
            raise UserError(f"{CONFIG_DIR}: there is no folder {folder!r}")
        own = [f"{CONFIG_DIR}={folder}"]
    return own, rest


def about(words: Sequence[str], what: str) -> tuple[list[str], str, list[str]]:
    """The words of a command about one file or folder: ``--config-dir``, its name, the overrides.

    Args:
        words: After the command.
        what: The file or folder, for a reader.

    Raises:
        UserError: None is named, a word is no override, or the folder of ``--config-dir`` is
            missing.
    """
    own, rest = apart(words)
    dashed = [word for word in rest if word.startswith("-")]
    if dashed:
        name = dashed[0].lstrip("-").partition("=")[0].replace("-", "_")
        raise UserError(f"there is no option {dashed[0]}: write {name}=VALUE")
    if not rest or ("=" in rest[0] and not Path(rest[0]).exists()):
        raise UserError(f"first name {what}")
    return own, rest[0], rest[1:]


def configured(name: str, words: Sequence[str], *, hydra: bool = False) -> DictConfig:
    """The configuration of a command.

    Args:
        name: Of its file.
        words: Overrides. Groups also have the files in the folder that ``--config-dir`` names; none
            of them takes the place of one of ours.
        hydra: Keep Hydra's own part.

    Raises:
        UserError: The folder is missing.
        HydraException: An override does not fit.
    """
    from hydra import compose, initialize_config_module

    own, overrides = apart(words)
    paths = [str(Path(word.partition("=")[2]).resolve()) for word in own]
    quoted = [path.replace("\\", "\\\\").replace("'", "\\'") for path in paths]
    search = [f"hydra.searchpath=['file://{path}']" for path in quoted]
    with initialize_config_module("configs", version_base="1.3"):
        found: DictConfig = compose(
            name, overrides=[*search, *overrides], return_hydra_config=hydra
        )
    return found


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain values.

    Raises:
        UserError: An interpolation does not resolve, or a mandatory value is missing.
    """
    from omegaconf.errors import OmegaConfBaseException

    try:
        node = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UserError(f"the configuration does not resolve: {error}") from error
    return {str(key): value for key, value in node.items()} if isinstance(node, dict) else {}


def build(node: dict[str, Any], **given: Any) -> Any:
    """Build the object that a group describes.

    Raises:
        UserError: The class cannot be found, or refuses its arguments.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        return instantiate(node, **given, _convert_="all")
    except InstantiationException as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        words = _misplaced_words(node) if isinstance(cause, TypeError) else ""
        raise UserError(f"{node.get('_target_', node)}: {words or cause}") from error


def _misplaced_words(node: dict[str, Any]) -> str:
    """Arguments that are text where the class wants a number."""
    from hydra.utils import get_class

    hints = get_class(node["_target_"]).__init__.__annotations__
    wrong = [
        f"{key}={value!r}"
        for key, value in node.items()
        if isinstance(value, str) and hints.get(key) in (int, float, bool, "int", "float", "bool")
    ]
    return f"{', '.join(wrong)}: want a number" if wrong else ""


def without(config: dict[str, Any], *keys: str) -> dict[str, Any]:
    """A copy that lacks some keys."""
    return {key: value for key, value in config.items() if key not in keys}


def source_digest() -> str:
    """Hash of the code that numbers depend on: other code, other cells."""
    found = hashlib.sha256()
    for package in _NUMERIC:
        root = Path(str(files(package)))
        for path in sorted(root.rglob("*.py")):
            if not {"checks", "leaderboard"} & {*path.relative_to(root).parts}:
                found.update(path.relative_to(root).as_posix().encode())
                found.update(path.read_bytes())
    return found.hexdigest()[:16]
