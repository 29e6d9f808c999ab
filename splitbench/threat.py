"""What an adversary may touch, as a capability object that grants, counts and remembers."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from splitbench.defense import Defense
from splitbench.deployment import Deployment, ServerSide
from splitbench.feed import Feed
from splitbench.pool import NOTHING, Pool, Spent
from splitbench.questions import Questions
from splitbench.release import Release, Tensors, TensorSpec
from splitbench.shadow import Traffic, forgotten
from splitbench.threat_model import Access, ThreatModel, ThreatModelError

__all__ = ["Access", "Surface", "ThreatModel", "ThreatModelError"]


class Surface(Questions):
    """All that one adversary may touch at one cut.

    Every access is checked against the threat model and remembered in `used`; every image that
    is sent through the client is counted in `queries`, and those that the query budget does not
    allow, which are never sent, in `refused`.
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
        spent: Spent = NOTHING,
        pool: Pool | None = None,
        traffic: Traffic | None = None,
        held: Deployment | None = None,
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
            spent: By this adversary through other surfaces: it counts against the budget, but not
                in `queries`.
            pool: What the query budget buys, shared by all surfaces of this adversary at this
                cut; None gives this surface one of its own.
            traffic: Of other users, whose releases the adversary observes; None for none.
            held: `deployment` as the adversary has it (`Deployment.held_by`), shared by all
                surfaces of this adversary at this cut; None makes one.
        """
        super().__init__(
            deployment,
            threat,
            feed=feed,
            image_shape=image_shape,
            seed=seed,
            purpose=purpose,
            spent=spent,
            pool=pool,
            held=held,
        )
        self.classes = classes
        self._traffic = traffic

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Shapes of the released tensors, as any observer of a message knows them."""
        return self._real.specs

    @property
    def visible_specs(self) -> tuple[TensorSpec, ...]:
        """Names and shapes of `Release.visible`, as this adversary expects them.

        Those of `specs`, and what it knows to travel beside them: nothing where it is unaware of
        the defense and of the codec that this brings.
        """
        return self._deployment.visible_specs(self.threat.observations)

    def understood(self, release: Release) -> Release:
        """What this adversary makes of a release, before it attacks it or infers anything from it.

        Values beside the tensors that it does not expect are left out.

        Raises:
            ValueError: The release holds NaN or infinite values, there or in a tensor.
        """
        for i, values in enumerate(release.visible):
            bad = int((~torch.isfinite(values)).sum())
            if bad:
                raise ValueError(f"tensor {i} of the release holds {bad} NaN or infinite values")
        names = {spec.name for spec in self.visible_specs[len(self.specs) :]}
        return replace(release, side={k: v for k, v in release.side.items() if k in names})

    @property
    def client(self) -> nn.Module:
        """The client, images to features; frozen, in eval mode. Needs ``Access.CLIENT``."""
        self._grant(Access.CLIENT)
        return self._deployment.split.client

    def architecture(self, *, generator: torch.Generator) -> nn.Module:
        """A trainable copy of the client that has forgotten what it learnt.

        Every call initialises a fresh one, in training mode. Needs ``Access.ARCHITECTURE``.
        """
        self._grant(Access.ARCHITECTURE)
        return forgotten(self._deployment.split.client, generator=generator)

    @property
    def server(self) -> nn.Module:
        """What the adversary runs, released tensors to logits; frozen, gradients flow through.

        Under ``key: secret`` it undoes the adversary's own key: the true one is out of reach.
        """
        self._grant(Access.SERVER)
        return ServerSide(self._held.defense, self._held.split.server)

    def observed(self, count: int) -> Release:
        """What the first `count` images of other users released, as the server received it.

        Fewer where there are fewer. The images themselves stay unknown; the same releases come
        at every call, on every surface.
        """
        self._grant(Access.SERVER)
        if self._traffic is None:
            raise ThreatModelError("this surface was opened without traffic of other users")
        return self._traffic.first(count)

    def simulated(self, client: nn.Module) -> "Surface":
        """The surface of a system of the adversary's own, with `client` in place of the device's.

        It runs on the adversary's machine, behind the defense as far as that is known: all is
        granted there, and nothing that is asked there counts as a query.
        """
        split = replace(self._deployment.split, client=client)
        return Surface(
            replace(self._deployment, split=split, shared=None),
            replace(self.threat, client="weights", query_budget=None, key="known"),
            feed=self._feed,
            classes=self.classes,
            image_shape=self.image_shape,
            seed=self._seed,
            purpose=f"{self._purpose} simulated",
        )

    def simulate(self, features: Tensors) -> Release:
        """What would be released if these were the features, with fresh randomness.

        Without gradients: the codec has none.
        """
        return self._deployment.message(
            features, generator=self._generator, observations=self.threat.observations
        )

    @property
    def defense(self) -> Defense:
        """The fitted defense with its parameters, key included. Needs ``Access.DEFENSE``.

        Under ``key: secret`` the key is the adversary's own.
        """
        self._grant(Access.DEFENSE)
        return self._deployment.defense

    def predict(self, release: Release) -> Tensor:
        """The server's own logits for a release, ``(b, classes)``: answers are never secret."""
        self._grant(Access.SERVER)
        return self._real.predict(release)

    def outcome(self, release: Release) -> Tensor:
        """The class that the server names for each release, int64 ``(b,)``.

        One more than the classes stands for a message that did not come.
        """
        self._grant(Access.SERVER)
        return self._real.outcome(release)

    def mismatch(self, release: Release, features: Tensors) -> Tensor:
        """How badly features explain a release, per example: the exact negative log likelihood.

        Up to a constant, where the defense has one; otherwise the squared distance to what the
        codec could have encoded. Differentiable in `features`. Like `query`, it follows what the
        adversary knows: a naive one measures the distance to the undefended release. Features
        come from `client`, which is what needs access.
        """
        return self._deployment.mismatch(release, features, observations=self.threat.observations)

    def expected(self, features: Tensors) -> Tensors:
        """What a message of these features would be without its noise, for all one knows.

        Features under the known key, for example. Features come from `client`.
        """
        return self._deployment.defense.expected(features)

    def is_likelihood(self, release: Release, features: Tensors) -> bool:
        """Whether `mismatch` is in nats, the exact likelihood, rather than a squared distance."""
        return self._deployment.is_likelihood(release, features)
