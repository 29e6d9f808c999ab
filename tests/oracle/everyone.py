"""Every attack of the package: found by itself, so that none can be forgotten."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import attacks
from attacks.deep_image_prior import DeepImagePrior
from splitbench.attack import Attack
from splitbench.checks.discovery import concrete
from tests.contract.tiny_attacks import TINY, UNTRAINED

Settings = Mapping[type[Attack], Sequence[Mapping[str, Any]]]
DISCOVERED = concrete(attacks, Attack)
SLOW: Settings = {DeepImagePrior: [{**UNTRAINED, "max_targets": 64}]}


def everyone(settings: Settings | None = None) -> list[Attack]:
    """One attack for each row of settings; the small ones of the contract where there is none.

    None has a part in common with another: a part is fitted once.
    """
    rows = {**TINY, **SLOW, **(settings or {})}
    return [copy.deepcopy(cls(**row)) for cls in DISCOVERED for row in rows.get(cls, [{}])]


def kind(attack: Attack) -> str:
    return type(attack).__name__
