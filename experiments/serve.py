"""``splitbench serve``: one exported segment behind an address."""

import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from experiments.compose import about, configured, plain
from experiments.errors import UserError
from experiments.explain import sentence
from offloading.runtime.options import FILES, Options

HELP = """\
Run one segment of a split model behind an address (gRPC). When it takes requests it prints one
line, a JSON object with its address, the id of its plan, its segment and its process. Ctrl-C ends
it.

usage: splitbench serve DIR [KEY=VALUE ...]

  DIR                        one exported segment, such as OUT/segment1
  host=127.0.0.1 port=0      where to listen; port 0 chooses one and says which
  address=HOST:PORT          instead of both; unix:PATH is a socket of this user
  token_file=FILE            refuse requests without this token
  cert=FILE key=FILE         encrypt: the server's certificate and its private key (PEM)
  next=ADDRESS               the server of the next segment, which all but the last one need
  next_token_file=FILE       the token that it wants
  next_root=FILE             what its certificate must come from (PEM)
  trust=[MODULE]             modules or packages of yours that the artefact may name classes of
  threads=1 parallel=1       of torch for each request; requests computed at a time
  device=cpu                 where to compute
  --config-dir=DIR           a folder of yours whose local/default.yaml says any of these
"""


def main(arguments: Sequence[str]) -> int:
    """Serve until interrupted; user errors end in one sentence and exit code 2."""
    words = list(arguments)
    if {"-h", "--help"} & set(words) or not words:
        sys.stdout.write(HELP)
        return 0 if words else 2
    try:
        own, folder, overrides = about(words, "a segment that `splitbench export` wrote")
        options = options_of(Path(folder), plain(configured("serve", [*own, *overrides])))
    except (UserError, HydraException, OmegaConfBaseException, ValueError) as error:
        sys.stderr.write(f"error: {sentence(error)}\n")
        return 2
    from offloading.runtime.serve_process import run  # imports torch

    return run(options)


def options_of(folder: Path, config: dict[str, Any]) -> Options:
    """What a server is told by a configuration.

    Raises:
        UserError: ``trust`` is no list.
        ValueError: A number is none.
    """
    if not isinstance(config["trust"], list):
        raise UserError(f"trust={config['trust']}: want a list, such as trust=[my_package]")
    names = [item.name for item in fields(Options) if item.name != "folder"]
    told = {name: config[name] for name in names}
    files = {name: Path(config[name]) if config[name] else None for name in FILES}
    return Options(folder=folder, **{**told, **files, "trust": tuple(config["trust"])})
