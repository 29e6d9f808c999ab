"""The images of a job: who trains on which, and which are attacked."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from experiments.compose import build
from experiments.errors import UserError
from splitbench.data.deal import deal_images
from splitbench.data.duplicates import content_hashes
from splitbench.data.images import LabeledImages, Roles
from splitbench.data.likeness import alike
from splitbench.normal_prior import NormalPrior
from splitbench.rng import stream
from splitbench.threat import ThreatModel


def roles_of(config: Mapping[str, Any], threat: ThreatModel) -> Roles:
    """The four parts of the data, as the adversary and the question change them.

    Raises:
        UserError: Sizes that do not fit, roles that overlap, or an adversary without its images.
    """
    roles = _load("data", config["data"])
    if (threat.auxiliary == "shifted") != bool(config.get("auxiliary")):
        raise UserError(
            "an adversary with shifted images and the data set that it has belong together: "
            "threat=shifted data@auxiliary=mnist_digits"
        )
    if threat.auxiliary == "shifted":
        roles = replace(roles, auxiliary=_shifted(config["auxiliary"], roles.target))
    if config["target_role"] == "train":
        seen = _as_many(roles.train, len(roles.target))
        roles = replace(roles, target=seen, prior=_known_to_the_model(roles.prior))
    limit = config["targets"]
    if limit is not None and limit < len(roles.target):
        roles = replace(roles, target=roles.target.subset(slice(0, int(limit))))
    return roles


def _shifted(node: Mapping[str, Any], targets: LabeledImages) -> LabeledImages:
    """The adversary's images of another data set, in the form of the targets."""
    found = alike(_load("auxiliary", node).auxiliary, targets.shape)
    shared = {*content_hashes(found)} & {*content_hashes(targets)}
    if shared:
        raise UserError(f"auxiliary: {len(shared)} of its images are targets: choose others")
    return found


def _load(key: str, node: Mapping[str, Any]) -> Roles:
    try:
        roles = build(dict(node)).load()
    except ValueError as error:  # sizes that do not fit, roles that overlap
        raise UserError(f"{key}: {error}") from error
    if not isinstance(roles, Roles):
        raise UserError(f"{key}: {node['_target_']}.load() must return Roles")
    return roles


def _known_to_the_model(prior: NormalPrior | None) -> NormalPrior | None:
    """The law of images that the model was trained on: its weights may tell more of them."""
    return prior and replace(prior, applies="the model was trained on these very images")


def _as_many(images: LabeledImages, count: int) -> LabeledImages:
    """Some of the images, the classes in proportion as in the whole."""
    wanted = {"target": min(count, len(images))}
    generator = stream(0, "training images")
    return images.subset(deal_images(images.labels, wanted, generator=generator)["target"])
