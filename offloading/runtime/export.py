"""From a fitted deployment to one artefact for each segment."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from offloading.runtime.artefact import digest, folder_of, packed, versions, write
from offloading.runtime.description import described
from offloading.runtime.errors import ArtefactError
from offloading.runtime.manifest import Deployed, Fallback, Manifest, OnFailure
from offloading.runtime.segments import (
    BETWEEN,
    Assembly,
    load_head,
    load_stage,
    one_example,
    state_of,
)
from splitbench.defense import Defense
from splitbench.deployment import Deployment
from splitbench.release import Tensors
from splitbench.rng import stream
from splitbench.stations import stations


def export(
    deployment: Deployment,
    root: Path,
    *,
    model: Mapping[str, Any],
    images: Tensor,
    classes: int,
    later_cuts: Sequence[str] = (),
    seed: int = 0,
    on_failure: OnFailure = "fail",
    trust: Sequence[str] = (),
) -> Deployed:
    """Write the artefacts of all segments, and make sure that together they are the deployment.

    Args:
        deployment: Cut where the first segment ends, fitted, on the CPU.
        root: Folder for ``segment0``, ``segment1``, ...
        model: The node that describes the model.
        images: A few, ``(b, c, h, w)``: the loaded artefacts must answer them bit for bit as the
            deployment does.
        classes: Number of classes.
        later_cuts: Where the rest is cut again, in order.
        seed: Of the run.
        on_failure: With ``local_exit`` the device answers by itself if nobody else does: by the
            exit of its defense, or else with a copy of the whole model.
        trust: Modules beside this project's that the model, defense or codec are from.

    Raises:
        ArtefactError: It cannot be described, or the loaded artefacts answer otherwise.
        OSError: It cannot be written.
    """
    own: Fallback = "exit" if deployment.defense.exits else "whole"
    cuts = (deployment.split.cut.name, *later_cuts)
    bound = deployment.codec.payload_bound(deployment.specs)
    channels, height, width = images.shape[1:]
    draft = Deployed(
        model=described(model),
        image_shape=(channels, height, width),
        classes=classes,
        cuts=cuts,
        defense=described(deployment.defense),
        codec=described(deployment.plain[1]),
        hops=(deployment.specs,) * len(cuts),
        bounds=(bound,) * len(cuts),
        seed=seed,
        on_failure=on_failure,
        fallback="none" if on_failure == "fail" else own,
    )
    assembly = Assembly(draft, trust=trust)
    later = tuple(cut.tensors for cut in assembly.cuts[1:])
    weights = [packed(state) for state in _states(deployment, assembly)]
    deployed = replace(
        draft,
        cuts=tuple(cut.name for cut in assembly.cuts),
        hops=(deployment.specs, *later),
        bounds=(bound, *(BETWEEN.payload_bound(specs) for specs in later)),
        weights=tuple(digest(content) for content in weights),
    )
    written: list[Path] = []
    try:
        for segment, content in enumerate(weights):
            manifest = Manifest(deployed=deployed, segment=segment, versions=versions())
            write(folder_of(root, segment), manifest, content)
            written.append(folder_of(root, segment))
        _check(deployment, deployed, root, images, trust)
    except BaseException:
        for folder in written:  # nobody is to serve what was not checked
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return deployed


def _states(deployment: Deployment, assembly: Assembly) -> list[dict[str, Tensor]]:
    """The weights of each segment, taken from the two sides of the deployment."""
    parts, plan = deployment.split, assembly.deployed
    head: dict[str, nn.Module] = {"client": parts.client, "defense": deployment.defense}
    if plan.fallback == "whole":
        head["server"] = parts.server
    near = assembly.adapted(assembly.defense()).server
    rest = parts.server.state_dict()
    first = {
        **state_of({"defense": deployment.defense}),
        **{f"server/{key}": rest[key] for key in near.state_dict()},
    }
    inside = _tail_within(parts.server, assembly.cuttable.split(assembly.cuts[0]).server)
    later = [
        {f"server/{key}": rest[inside + key] for key in assembly.later(k).state_dict()}
        for k in range(2, plan.segments)
    ]
    return [state_of(head), first, *later]


def _tail_within(server: nn.Module, plain: nn.Module) -> str:
    """Prefix of the model's own weights in a server that a defense may have put something before.

    Raises:
        ArtefactError: They are not there under the model's names.
    """
    wanted = plain.state_dict().keys()
    for path, module in server.named_modules():
        if module.state_dict().keys() == wanted:
            return f"{path}." if path else ""
    raise ArtefactError("the defense rebuilds the rest of the model: it cannot be cut once more")


@torch.no_grad()
def _check(
    deployment: Deployment,
    deployed: Deployed,
    root: Path,
    images: Tensor,
    trust: Sequence[str],
) -> None:
    """Compare what was written with what it was written from.

    Raises:
        ArtefactError: Other bytes are sent, or another answer comes.
    """
    head = load_head(folder_of(root, 0), trust=trust)
    stages = [load_stage(folder_of(root, k), trust=trust) for k in range(1, deployed.segments)]
    there, here = stream(0, "artefact", "check"), stream(0, "artefact", "check")
    for image in images.split(1):
        features, found = _at_exits(deployment.defense, deployment.split.client, image)
        seen, told = _at_exits(head.defense, head.client, image)
        if not all(map(torch.equal, found, told)):
            raise ArtefactError("the head that was written answers otherwise than it should")
        wanted = deployment.defense.protect(features, generator=there)
        message = deployment.codec.encode([values[0] for values in wanted])
        sent = head.defense.protect(seen, generator=here)
        if head.codec.encode([values[0] for values in sent]) != message:
            raise ArtefactError("the head that was written releases something else than it should")
        live = len(deployment.specs)
        received = one_example(deployment.codec.decode(message)[:live])
        tensors: Any = received
        for stage in stages:
            tensors = stage.module(tensors)
        logits = deployment.split.server(deployment.defense.restore(received))
        if not torch.equal(tensors, logits):
            raise ArtefactError("the segments that were written answer otherwise than the model")


def _at_exits(
    defense: Defense, client: nn.Module, image: Tensor
) -> tuple[Tensors, tuple[Tensor, ...]]:
    """Features of an image, and what each exit decides and answers."""
    *_, (features, _) = passed = [*stations(defense, client, image)]
    answers = [told for _, told in passed if told is not None]
    return features, tuple(part for told in answers for part in (told.stays, told.logits))
