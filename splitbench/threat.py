"""What an adversary may touch, as a capability object that grants, counts and remembers."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from torch import Tensor, nn

from splitbench.data.images import LabeledImages
from splitbench.defense import Defense
from splitbench.deployment import Deployment
from splitbench.feed import Feed
from splitbench.release import Release, Tensors, TensorSpec
from splitbench.rng import stream


class ThreatModelError(PermissionError):
    """An attack reached for something that the threat model does not grant."""


class Access(StrEnum):
    """Things that a threat model may grant."""

    AUXILIARY = "auxiliary"
    QUERY = "query"
    CLIENT = "client"
    DEFENSE = "defense"
    SERVER = "server"


@dataclass(frozen=True, kw_only=True)
class ThreatModel:
    """Who attacks, and with what. Kerckhoffs' default: all is known but the message's randomness.

    Attributes:
        client: ``weights`` (white box: parameters and gradients), ``query`` (black box: any image
            may be sent through the device) or ``none``.
        defense: ``known`` (adaptive: the adversary simulates the defended release) or ``hidden``
            (naive: it expects the undefended features and trains on those). Hidden is there to
            show what ignoring a defense costs an attack, never to rank a defense.
        auxiliary: ``same`` distribution as the targets, disjoint from them, or ``none``.
        query_budget: Images that may be queried; None is unlimited.
        observations: Releases of each target that the adversary collects, each with fresh
            randomness; they are pooled into one (`Defense.pool`).
    """

    client: Literal["none", "query", "weights"] = "weights"
    defense: Literal["hidden", "known"] = "known"
    auxiliary: Literal["none", "same"] = "same"
    query_budget: int | None = None
    observations: int = 1

    def __post_init__(self) -> None:
        for field, allowed in (
            ("client", ("none", "query", "weights")),
            ("defense", ("hidden", "known")),
            ("auxiliary", ("none", "same")),
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
        if self.client != "none":
            granted.add(Access.QUERY)
        if self.client == "weights":
            granted.add(Access.CLIENT)
        if self.defense == "known":
            granted.add(Access.DEFENSE)
        if self.auxiliary != "none":
            granted.add(Access.AUXILIARY)
        return frozenset(granted)


class Surface:
    """All that one adversary may touch at one cut.

    Every access is checked against the threat model and remembered in `used`; every image that
    is sent through the client is counted in `queries`.
    """

    def __init__(
        self,
        deployment: Deployment,
        threat: ThreatModel,
        *,
        feed: Feed | None,
        classes: int,
        image_shape: tuple[int, int, int],
        seed: int,
        purpose: str = "simulation",
        spent: int = 0,
    ) -> None:
        """Open a surface.

        Args:
            deployment: The split system under attack.
            threat: What is granted.
            feed: The adversary's data; None where it has none.
            classes: Number of classes of the task.
            image_shape: Channels, height, width.
            seed: Of the adversary's own simulations; never that of the victim's releases.
            purpose: Names the stream of randomness: one surface per purpose, so that what an
                attack draws does not depend on what was drawn (or loaded from a store) before.
            spent: Queries that this adversary made through other surfaces: they count against the
                budget, but not in `queries`.
        """
        self.threat = threat
        self.classes = classes
        self.image_shape = image_shape
        self.used: frozenset[Access] = frozenset()
        self.queries = 0
        self._spent = spent
        self._deployment = deployment if threat.defense == "known" else deployment.undefended()
        self._real = deployment
        self._feed = feed
        self._generator = stream(seed, "adversary", purpose, deployment.split.cut.name)

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Shapes of the released tensors, as any observer of a message knows them."""
        return self._real.specs

    @property
    def client(self) -> nn.Module:
        """The client, images to features; frozen, in eval mode. Needs ``Access.CLIENT``."""
        self._grant(Access.CLIENT)
        return self._deployment.split.client

    @property
    def defense(self) -> Defense:
        """The fitted defense with its parameters. Needs ``Access.DEFENSE``."""
        self._grant(Access.DEFENSE)
        return self._deployment.defense

    @property
    def auxiliary(self) -> LabeledImages:
        """The part of the adversary's data that it trains on. Needs ``Access.AUXILIARY``."""
        return self._data().train

    @property
    def validation(self) -> LabeledImages:
        """The part of the adversary's data that it holds out. Needs ``Access.AUXILIARY``."""
        return self._data().validation

    def predict(self, release: Release) -> Tensor:
        """The server's own logits for a release, ``(b, classes)``."""
        self._grant(Access.SERVER)
        return self._real.predict(release)

    def query(self, images: Tensor) -> Release:
        """Send images through the client and its defense, with fresh randomness.

        Under ``defense: hidden`` the adversary simulates the undefended client instead.

        Raises:
            ThreatModelError: No query access, or the budget is used up.
        """
        self._grant(Access.QUERY)
        self.queries += len(images)
        budget = self.threat.query_budget
        if budget is not None and self._spent + self.queries > budget:
            raise ThreatModelError(f"the query budget of {budget} images is used up")
        return self._deployment.release(
            images, generator=self._generator, observations=self.threat.observations
        )

    def examples(self, batch_size: int, steps: int) -> Iterator[tuple[Tensor, Release]]:
        """Yield `steps` batches of auxiliary images with their releases.

        Batch number t holds the same images for every attack and every cut of a job, so that
        attacks trained side by side share one forward of the client per batch.
        """
        feed = self._data()
        for step in range(steps):
            images = feed.batch(batch_size, step)
            yield images, self.query(images)

    def mismatch(self, release: Release, features: Tensors) -> Tensor:
        """How badly features explain a release, per example: the exact negative log likelihood.

        Up to a constant, where the defense has one; otherwise the squared distance to what the
        codec could have encoded. Differentiable in `features`. Like `query`, it follows what the
        adversary knows: a naive one measures the distance to the undefended release. Features
        come from `client`, which is what needs access.
        """
        return self._deployment.mismatch(release, features, observations=self.threat.observations)

    def is_likelihood(self, release: Release, features: Tensors) -> bool:
        """Whether `mismatch` is in nats, the exact likelihood, rather than a squared distance."""
        return self._deployment.is_likelihood(release, features)

    def _data(self) -> Feed:
        self._grant(Access.AUXILIARY)
        if self._feed is None:
            raise ThreatModelError("this surface was opened without auxiliary data")
        return self._feed

    def _grant(self, access: Access) -> None:
        if access not in self.threat.grants():
            raise ThreatModelError(
                f"the threat model does not grant '{access}'; it grants "
                f"{', '.join(sorted(self.threat.grants()))}"
            )
        self.used |= {access}
