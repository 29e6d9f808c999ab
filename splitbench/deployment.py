"""A split system as it runs: client, defense, codec, server."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from splitbench.codec import Codec
from splitbench.defense import Defense
from splitbench.exits import SPEC, Answered, silenced
from splitbench.placement import on_the_cpu
from splitbench.release import SENT, Release, Tensors, TensorSpec
from splitbench.rng import stream
from splitbench.split import Split, Taps
from splitbench.stations import stations
from splitbench.threat_model import ThreatModel


class SharedClient:
    """The features of one batch at several cuts, from one forward of the frozen client.

    Keeps the features of the last batch it was shown: deployments at different cuts that are
    asked about the same tensor cost one forward together.
    """

    def __init__(self, taps: Taps) -> None:
        """Serve the cuts of `taps`."""
        self.taps = taps
        self._last: tuple[Tensor, dict[str, Tensors]] | None = None

    def features(self, images: Tensor, cut: str) -> Tensors:
        """Live tensors at one cut."""
        if self._last is None or self._last[0] is not images:
            with torch.no_grad():
                self._last = images, self.taps(images)
        return self._last[1][cut]


class ServerSide(nn.Module):
    """Released tensors to logits: the server's part of the defense, then the server."""

    def __init__(self, defense: Defense, server: nn.Module) -> None:
        super().__init__()
        self.defense = defense
        self.server = server

    def forward(self, tensors: Tensors) -> Tensor | Tensors:
        """Tensors of a release to logits ``(b, classes)``, or to features of a later cut."""
        made: Tensor | Tensors = self.server(self.defense.restore(tensors))
        return made


@dataclass(frozen=True)
class Deployment:
    """One model, cut once, defended and encoded.

    Attributes:
        split: Client and server as adapted and fitted by the defense; frozen, in eval mode.
        defense: The fitted defense.
        codec: What makes bytes of the protected features.
        specs: Shapes of the released tensors.
        shared: Serves the features where the client is the undefended model's.
        plain: The undefended codec, for `undefended`.
        seconds: What fitting the defense took, on the machine that did it.
        original: The undefended model's client, for `undefended`, where the defense changed it and
            what is sent still has its shapes; else None.
    """

    split: Split
    defense: Defense
    codec: Codec
    specs: tuple[TensorSpec, ...]
    plain: tuple[Defense, Codec]
    shared: SharedClient | None = None
    seconds: float = 0.0
    original: nn.Module | None = None

    def features(self, images: Tensor) -> Tensors:
        """The client's output, without gradients."""
        if self.shared is not None:
            return self.shared.features(images, self.split.cut.name)
        with torch.no_grad():
            return tuple(self.split.client(images))

    @torch.no_grad()
    def seen(self, images: Tensor) -> tuple[Tensors, Answered | None]:
        """The client's output, and what the device answers by itself, from one pass.

        The latter is None where the defense has no exits.
        """
        *_, (features, told) = self._stations(images)
        return features, told

    @property
    def exits(self) -> tuple[str, ...]:
        """Layers after which the device may answer, the cut last; empty where it never does."""
        return (*self.defense.stops, self.split.cut.name) if self.defense.exits else ()

    @torch.no_grad()
    def left(self, images: Tensor) -> Tensor | None:
        """The place among `exits` of the one that answers each image, int64 ``(b,)``.

        One past the last where a message is sent; None where the defense has no exits.
        """
        told = [found.stays for _, found in self._stations(images) if found is not None]
        return (~torch.stack(told)).sum(0) if told else None

    @torch.no_grad()
    def release(
        self, images: Tensor, *, generator: torch.Generator, observations: int = 1
    ) -> Release:
        """What arrives after defense and codec, simulated without making bytes."""
        features, told = self.seen(images)
        return self.message(features, told, generator=generator, observations=observations)

    @torch.no_grad()
    def message(
        self,
        features: Tensors,
        told: Answered | None = None,
        *,
        generator: torch.Generator,
        observations: int = 1,
    ) -> Release:
        """What arrives of given features, simulated without making bytes.

        Args:
            features: The client's.
            told: What the device answers by itself (`seen`); where it is not given, what the exit
                at the cut says of these features.
            generator: Of the defense's randomness.
            observations: Messages of each image.
        """
        goes = _going(told or self.answered(features))
        seen: list[Tensors] = []
        for _ in range(observations):
            protected = self.defense.protect(features, generator=generator)
            seen.append(self.codec.transform(protected))
        return self._received(seen, protected, goes)

    @torch.no_grad()
    def transmit(
        self, images: Tensor, *, generator: torch.Generator, observations: int = 1
    ) -> Release:
        """The real message of each image: protected, encoded to bytes, decoded again.

        `payload_bytes` is the length of one message (the first, where several are observed), 0 of
        images that are answered on the device.
        """
        features, answers = self.seen(images)
        goes = _going(answers)
        posted = [True] * len(images) if goes is None else goes.tolist()
        seen: list[Tensors] = []
        payload = torch.zeros(len(images), dtype=torch.int64)
        for k in range(observations):
            protected = self.defense.protect(features, generator=generator)
            with on_the_cpu():  # bytes are made and read there
                sent = tuple(t.cpu() for t in protected)
                messages = [
                    self.codec.encode([t[i] for t in sent]) if out else b""
                    for i, out in enumerate(posted)
                ]
                lost = () if all(posted) else self._nothing(sent)
                decoded = [
                    self.codec.decode(message) if out else lost
                    for message, out in zip(messages, posted, strict=True)
                ]
            stacked = (torch.stack(tensors) for tensors in zip(*decoded, strict=True))
            seen.append(tuple(tensors.to(images.device) for tensors in stacked))
            if k == 0:
                payload = torch.tensor([len(message) for message in messages])
        return replace(self._received(seen, protected, goes), payload_bytes=payload)

    def visible_specs(self, observations: int) -> tuple[TensorSpec, ...]:
        """Names and shapes of `Release.visible`, where so many messages are observed."""
        often = () if observations == 1 else (observations,)
        beside = self.codec.beside(self.specs)
        exits = (SPEC,) if self.defense.exits else ()
        several = (replace(spec, shape=(*often, *spec.shape)) for spec in beside)
        return (*self.specs, *several, *exits)

    @torch.no_grad()
    def predict(self, release: Release) -> Tensor:
        """The server's logits, ``(b, classes)``."""
        logits: Tensor = self.split.server(self.defense.restore(release.tensors))
        return logits

    def outcome(self, release: Release) -> Tensor:
        """What the server makes of each release, int64 ``(b,)``: a class, or that nothing came.

        The latter is numbered after the classes.
        """
        logits = self.predict(release)
        named, sent = logits.argmax(1), release.sent
        nothing = torch.full_like(named, logits.shape[1])
        return named if sent is None else torch.where(sent, named, nothing)

    def answer(self, images: Tensor, release: Release) -> Tensor:
        """The logits that the user gets, from the server or from the device, ``(b, classes)``."""
        logits = self.predict(release)
        told = self.seen(images)[1] if self.defense.exits else None
        return logits if told is None else told.instead_of(logits)

    @torch.no_grad()
    def answered(self, features: Tensors) -> Answered | None:
        """What the device answers at the cut; None where the defense has no exits."""
        return self.defense.answered(features) if self.defense.exits else None

    def mismatch(self, release: Release, features: Tensors, *, observations: int = 1) -> Tensor:
        """How badly features explain a release, per example ``(b,)``; see `Surface.mismatch`.

        Where nothing came there is nothing to explain: 0, whatever the features.
        """
        exact = self.defense.negative_log_likelihood(
            release.tensors, features, observations=observations
        )
        found = exact
        if found is None:
            found = self.codec.distance(release.tensors, self.defense.expected(features))
        return found if release.sent is None else torch.where(release.sent, found, 0 * found)

    def is_likelihood(self, release: Release, features: Tensors) -> bool:
        """Whether `mismatch` is an exact negative log likelihood, not a distance."""
        exact = self.defense.negative_log_likelihood(release.tensors, features)
        return exact is not None

    def _stations(self, images: Tensor) -> Iterator[tuple[Tensors, Answered | None]]:
        """See `stations`; the features may be shared where there is but one, the cut."""
        if self.defense.stops:
            yield from stations(self.defense, self.split.client, images)
        else:
            features = self.features(images)
            yield features, self.answered(features)

    def _nothing(self, sent: Tensors) -> Tensors:
        """What a receiver takes for the tensors of one example of which nothing arrived."""
        one = self.codec.transform(tuple(values[:1] for values in sent))
        return tuple(torch.zeros_like(values[0]) for values in one)

    def _received(self, seen: list[Tensors], sent: Tensors, goes: Tensor | None) -> Release:
        """One release of the observations: live tensors pooled, the rest one after the other."""
        live, once = len(sent), len(seen) == 1
        names = [spec.name for spec in self.codec.beside(self.specs or _unnamed(sent))]
        beside = zip(*(decoded[live:] for decoded in seen), strict=True)
        tensors = seen[0][:live] if once else self.defense.pool([each[:live] for each in seen])
        side = {
            name: parts[0] if once else torch.stack(parts, dim=1)
            for name, parts in zip(names, beside, strict=True)
        }
        if goes is None:
            return Release(tensors, side)
        told = {name: silenced(values, goes) for name, values in side.items()}
        return Release(
            tuple(silenced(values, goes) for values in tensors),
            {**told, SENT: goes[:, None].float()},
        )

    def undefended(self) -> "Deployment":
        """What a naive adversary imagines: the undefended client, no defense, the plain codec.

        Where the messages themselves show that there is another client, by their shapes, it is
        that one.
        """
        defense, codec = self.plain
        if self.original is None:
            return replace(self, defense=defense, codec=codec)
        split = replace(self.split, client=self.original)
        return replace(self, defense=defense, codec=codec, split=split, original=None)

    def held_by(self, threat: ThreatModel, *, seed: int) -> "Deployment":
        """This system as an adversary has it at home: under a key of its own, if it lacks the true.

        Args:
            threat: Says whether the key is known.
            seed: Of the adversary; its key is the same at every call.
        """
        if threat.key == "known" or not self.defense.keyed:
            return self
        generator = stream(seed, "adversary", "key", self.split.cut.name)
        defense = self.defense.rekeyed(generator=generator)
        return replace(self, defense=defense, codec=defense.codec or self.codec)

    def simulated_by(self, threat: ThreatModel, *, seed: int) -> "Deployment":
        """What an adversary takes this system for: `held_by` it, or undefended if it is naive."""
        held = self.held_by(threat, seed=seed)
        return held if threat.defense == "known" else held.undefended()


def _going(told: Answered | None) -> Tensor | None:
    """Of which images a message is sent, bool ``(b,)``; None where all are."""
    return None if told is None else ~told.stays


def _unnamed(tensors: Tensors) -> tuple[TensorSpec, ...]:
    """What is sent before anybody has said what it is."""
    return tuple(TensorSpec(str(i), tuple(t.shape[1:])) for i, t in enumerate(tensors))
