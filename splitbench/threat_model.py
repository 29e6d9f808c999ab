"""Who attacks, and what that grants."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class ThreatModelError(PermissionError):
    """An attack reached for something that the threat model does not grant."""


class Access(StrEnum):
    """Things that a threat model may grant."""

    AUXILIARY = "auxiliary"
    QUERY = "query"
    ARCHITECTURE = "architecture"
    CLIENT = "client"
    DEFENSE = "defense"
    SERVER = "server"
    KEY = "key"
    SAME_KIND = "same_kind"


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """Who attacks, and with what. Kerckhoffs' default: all is known but the message's randomness.

    Attributes:
        client: ``weights`` (white box: parameters and gradients), ``query`` (black box: any image
            may be sent through the device), ``architecture`` (query-free: what the client looks
            like, and neither its weights nor its answers) or ``none``.
        defense: ``known`` (adaptive: the adversary simulates the defended release) or ``hidden``
            (naive: it expects the undefended features and trains on those, also where the defense
            has trained the client; but a client that sends tensors of other shapes cannot be
            overlooked, and is the one that it has). Hidden is there to show what ignoring a
            defense costs an attack, never to rank a defense.
        auxiliary: Images of the adversary's own: of the ``same`` distribution as the targets,
            disjoint from them; ``shifted``, another data set; or ``none``.
        query_budget: Images that may be queried, each time counted; None is unlimited. Of a
            budget, all but 10 buy a fixed pool of auxiliary images and their releases, a tenth of
            it for validation (`splitbench.pool.Pool`).
        observations: Releases of each target that the adversary collects, each with fresh
            randomness; they are pooled into one (`Defense.pool`).
        key: ``known``, or ``secret``: everything about a keyed defense is known but the key that
            the device shares with a trusted part of the server. Whatever the adversary simulates,
            or asks a device, then runs under a key of its own; only the targets and the other
            users have the victims' key. It has every access to a device like theirs, and none to
            theirs: one that may send images through the victims' device holds pairs under the
            true key, and is ``client: query`` with ``key: known`` (no attack reads the key where
            there are no weights to use it with). Secret is there to show what a row owes to its
            key, never to rank a defense. It changes nothing for defenses without a key.
    """

    client: Literal["none", "architecture", "query", "weights"] = "weights"
    defense: Literal["hidden", "known"] = "known"
    auxiliary: Literal["none", "shifted", "same"] = "same"
    query_budget: int | None = None
    observations: int = 1
    key: Literal["known", "secret"] = "known"

    def __post_init__(self) -> None:
        for field, allowed in (
            ("client", ("none", "architecture", "query", "weights")),
            ("defense", ("hidden", "known")),
            ("auxiliary", ("none", "shifted", "same")),
            ("key", ("known", "secret")),
        ):
            if getattr(self, field) not in allowed:
                raise ValueError(f"threat.{field}={getattr(self, field)!r}: choose from {allowed}")
        if self.observations < 1:
            raise ValueError(f"threat.observations={self.observations}: must be at least 1")
        if self.query_budget is not None and self.query_budget < 0:
            raise ValueError(f"threat.query_budget={self.query_budget}: must not be negative")

    def grants(self) -> frozenset[Access]:
        """The accesses of this adversary. It always runs the server, being the server."""
        granted = {Access.SERVER}
        if self.client in ("query", "weights"):
            granted.add(Access.QUERY)
        if self.client in ("architecture", "weights"):
            granted.add(Access.ARCHITECTURE)
        if self.client == "weights":
            granted.add(Access.CLIENT)
        if self.defense == "known":
            granted.add(Access.DEFENSE)
        if self.auxiliary != "none":
            granted.add(Access.AUXILIARY)
        if self.auxiliary == "same":
            granted.add(Access.SAME_KIND)
        if self.key == "known":
            granted.add(Access.KEY)
        return frozenset(granted)
