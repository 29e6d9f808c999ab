"""The segments of a plan as modules, built from its description and given their weights."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from offloading.runtime.artefact import read
from offloading.runtime.description import build_codec, build_defense, build_model
from offloading.runtime.errors import ArtefactError
from offloading.runtime.manifest import Deployed, Manifest
from splitbench.codec import Codec
from splitbench.codecs.container import claimed_bytes
from splitbench.codecs.float32 import Float32
from splitbench.codecs.framed import FramedCodec
from splitbench.defense import Defense
from splitbench.deployment import ServerSide
from splitbench.release import Tensors
from splitbench.rng import isolated, stream
from splitbench.split import Cut, CutError, Cuttable, Split, UntraceableError

BETWEEN = Float32()  # behind the first cut nothing more is lost


@dataclass(frozen=True)
class Head:
    """What runs on the device.

    Attributes:
        manifest: Of the artefact.
        client: Images to features.
        defense: Fitted.
        codec: Makes bytes of the release.
        local: Released tensors to logits, where the device has the whole model to fall back on.
    """

    manifest: Manifest
    client: nn.Module
    defense: Defense
    codec: Codec
    local: nn.Module | None = None


@dataclass(frozen=True)
class Stage:
    """What runs behind the device.

    Attributes:
        manifest: Of the artefact.
        codec: Reads what arrives.
        module: Tensors that arrive to those that leave; to logits in the last segment.
    """

    manifest: Manifest
    codec: Codec
    module: nn.Module

    @property
    def bound(self) -> int:
        """Bytes of the largest message that arrives."""
        return self.manifest.deployed.bounds[self.manifest.segment - 1]


class Assembly:
    """The parts of a plan's model before they are given weights.

    Args:
        deployed: The plan.
        trust: Modules beside this project's that it may name.

    Raises:
        ArtefactError: The model cannot be built, or cannot be cut there.
    """

    def __init__(self, deployed: Deployed, *, trust: Sequence[str] = ()) -> None:
        self.deployed = deployed
        self.trust = trust
        with isolated(stream(deployed.seed, "artefact", "initialisation")):
            model = build_model(
                deployed.model,
                image_shape=deployed.image_shape,
                classes=deployed.classes,
                trust=trust,
            )
        try:
            self.cuttable = Cuttable(model.eval(), torch.zeros(1, *deployed.image_shape))
            self.cuts: list[Cut] = [self.cuttable.find(name) for name in deployed.cuts]
        except (CutError, UntraceableError, RuntimeError, ValueError) as error:
            raise ArtefactError(f"the model cannot be cut as planned: {error}") from error

    def defense(self) -> Defense:
        """A new defense, not fitted."""
        return build_defense(self.deployed.defense, trust=self.trust)

    def adapted(self, defense: Defense, *, whole: bool = False) -> Split:
        """The two sides of the first cut as the defense wants them.

        Args:
            defense: Not fitted; remembers what it adapted.
            whole: The server side is all the rest of the model, not only the next segment.
        """
        first = self.cuts[0]
        parts = self.cuttable.split(first)
        if len(self.cuts) > 1 and not whole:
            parts = replace(parts, server=self.cuttable.middle(first, self.cuts[1]))
        with isolated(stream(self.deployed.seed, "defense", "initialisation", first.name)):
            return defense.adapt(parts)

    def later(self, segment: int) -> nn.Module:
        """A segment that no defense touches: any but the first two."""
        if segment < len(self.cuts):
            return self.cuttable.middle(self.cuts[segment - 1], self.cuts[segment])
        return self.cuttable.split(self.cuts[-1]).server


def load_head(folder: Path, *, trust: Sequence[str] = (), device: str = "cpu") -> Head:
    """What the device runs.

    Args:
        folder: Of the artefact.
        trust: Modules beside this project's that the artefact may name.
        device: Where to compute.

    Raises:
        ArtefactError: It is no artefact of a first segment.
    """
    manifest, state = read(folder)
    deployed = manifest.deployed
    if manifest.segment != 0:
        raise ArtefactError(f"{folder} is segment {manifest.segment}, the device runs segment 0")
    assembly = Assembly(deployed, trust=trust)
    defense = assembly.defense()
    parts = assembly.adapted(defense, whole=True)
    modules = {"client": parts.client, "defense": defense}
    if deployed.fallback == "whole":
        modules["server"] = parts.server
    restore_state(modules, state)
    codec = defense.codec or build_codec(deployed.codec, trust=trust)
    local = ServerSide(defense, parts.server) if deployed.fallback == "whole" else None
    for module in (*modules.values(), *([local] if local else [])):
        _freeze(module, device)
    return Head(manifest, parts.client, defense, codec, local)


def load_stage(folder: Path, *, trust: Sequence[str] = (), device: str = "cpu") -> Stage:
    """What a server or a function runs.

    Args:
        folder: Of the artefact.
        trust: Modules beside this project's that the artefact may name.
        device: Where to compute.

    Raises:
        ArtefactError: It is no artefact of a segment behind the device.
    """
    manifest, state = read(folder)
    deployed, segment = manifest.deployed, manifest.segment
    if segment == 0:
        raise ArtefactError(f"{folder} is the segment of the device: serve another one")
    assembly = Assembly(deployed, trust=trust)
    if segment > 1:
        module = assembly.later(segment)
        restore_state({"server": module}, state)
        return Stage(manifest, _sized(BETWEEN, manifest), _freeze(module, device))
    defense = assembly.defense()
    parts = assembly.adapted(defense)
    restore_state({"server": parts.server, "defense": defense}, state)
    codec = defense.codec or build_codec(deployed.codec, trust=trust)
    side = ServerSide(defense, parts.server)
    return Stage(manifest, _sized(codec, manifest), _freeze(side, device))


def _sized(codec: Codec, manifest: Manifest) -> Codec:
    """The codec as a server reads with it: a few bytes must not decode to more than is planned."""
    if not isinstance(codec, FramedCodec):
        return codec
    hop = manifest.segment - 1
    planned = claimed_bytes(manifest.deployed.hops[hop])
    return codec.at_most(max(planned, manifest.deployed.bounds[hop]))


def state_of(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Weights and buffers of several modules under one name each."""
    return {
        f"{name}/{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }


def restore_state(modules: Mapping[str, nn.Module], state: Mapping[str, Tensor]) -> None:
    """Undo `state_of`: every tensor has its place, and no place is left.

    Raises:
        ArtefactError: Tensors are missing or too many, or have other shapes or types.
    """
    if {name.partition("/")[0] for name in state} - set(modules):
        raise ArtefactError(f"the weights hold more than {', '.join(modules)}")
    for name, module in modules.items():
        prefix = f"{name}/"
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        try:
            module.load_state_dict(copy.copy(own))
        except (RuntimeError, KeyError, AttributeError, TypeError) as error:
            text = " ".join(str(error).split())
            raise ArtefactError(f"the weights do not fit the {name}: {text}") from error
        found = module.state_dict()
        wrong = [key for key, value in own.items() if found[key].dtype != value.dtype]
        if wrong:
            raise ArtefactError(f"the weights of the {name} have another type: {wrong[0]}")


def one_example(tensors: Tensors) -> Tensors:
    """A batch of one from tensors without a batch axis."""
    return tuple(values.unsqueeze(0) for values in tensors)


def _freeze(module: nn.Module, device: str) -> nn.Module:
    return module.to(device).eval().requires_grad_(False)
