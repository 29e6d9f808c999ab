"""Who may see which image: a source is divided into four disjoint roles."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from splitbench.data.deal import deal_images, deal_persons
from splitbench.data.disjoint import IdentityRule
from splitbench.data.duplicates import duplicate_groups
from splitbench.data.images import ROLES, LabeledImages, Roles, join
from splitbench.rng import stream

Sizes = Mapping[str, int | float]
"""Images of each role: a whole number, or a float in (0, 1] for a share of those there are."""


def assign_roles(
    images: LabeledImages,
    *,
    sizes: Sizes,
    seed: int,
    similarity: float,
    identities: IdentityRule = "disjoint",
) -> Roles:
    """Divide one source into four disjoint parts.

    Of each group of exact and near duplicates the first image is kept and the others are dropped:
    no group can straddle two roles, and no target counts twice. The rest is dealt out in a random
    order that holds the classes in proportion throughout (`stratified_order`), so that the images
    of target and calibration do not depend on the sizes of train and auxiliary, and a smaller train
    is a subset of a larger one. Where roles take whole persons, each is cut to size in such an
    order, so its classes are as balanced as its persons.

    Args:
        images: The source.
        sizes: Images per role, keys ``train, auxiliary, calibration, target``; shares refer to
            the images that are left when copies are dropped.
        seed: Of the random order.
        similarity: Smallest similarity of near duplicates; see `similar_pairs`.
        identities: Which roles may show the same person. Without effect where the source does
            not know persons.

    Returns:
        The roles; ``dropped`` counts exact copies, near copies and images left over.

    Raises:
        ValueError: Sizes are not as described or do not fit (the message says how many images
            there are), or persons are to be disjoint though the label is the person.
    """
    groups = duplicate_groups(images, similarity=similarity)
    source = images.subset(groups.kept)
    counts = _counts(sizes, dict.fromkeys(ROLES, len(source)))
    remark = f"{len(images) - len(source)} of {len(images)} were dropped as copies"
    index = _divide(source, counts, remark, identities, stream(seed, "roles"))
    return Roles(
        train=source.subset(index["train"]),
        auxiliary=source.subset(index["auxiliary"]),
        calibration=source.subset(index["calibration"]),
        target=source.subset(index["target"]),
        dropped={
            "exact copies": groups.exact_copies,
            "near copies": groups.near_copies,
            "left over": len(source) - sum(counts.values()),
        },
    )


def assign_literature_roles(
    train: LabeledImages,
    test: LabeledImages,
    *,
    sizes: Sizes,
    seed: int,
    similarity: float,
    identities: IdentityRule = "disjoint",
) -> Roles:
    """Roles for the reproduction of a published result: train on the official training set.

    The training set is taken as published, with the copies inside it; the three other roles share
    the official test set, less the copies of training images and further copies within it.

    Args:
        train: The official training set.
        test: The official test set.
        sizes: As for `assign_roles`; the share of train is of the training set, the others' are
            of what is left of the test set.
        seed: Of the random order.
        similarity: Smallest similarity of near duplicates.
        identities: Which roles may show the same person; train keeps its persons.

    Returns:
        The roles; ``dropped`` counts copies in the test set and images left over.

    Raises:
        ValueError: As `assign_roles`.
    """
    first = duplicate_groups(join([train, test]), similarity=similarity).first[len(train) :]
    rest = test.subset((first == torch.arange(len(train), len(first) + len(train))).nonzero()[:, 0])
    counts = _counts(sizes, dict.fromkeys(ROLES, len(rest)) | {"train": len(train)})
    taken = counts.pop("train")
    _check_fit({"train": taken}, len(train), "the official training set")
    if taken < len(train):
        order = deal_images(train.labels, {"train": taken}, generator=stream(seed, "train"))
        train = train.subset(order["train"])
    remark = f"{len(test) - len(rest)} of {len(test)} test images were dropped as copies"
    index = _divide(rest, counts, remark, identities, stream(seed, "roles"))
    return Roles(
        train=train,
        auxiliary=rest.subset(index["auxiliary"]),
        calibration=rest.subset(index["calibration"]),
        target=rest.subset(index["target"]),
        dropped={
            "copies in the test set": len(test) - len(rest),
            "left over": len(rest) - sum(counts.values()),
        },
    )


def _divide(
    source: LabeledImages,
    counts: Mapping[str, int],
    remark: str,
    identities: IdentityRule,
    generator: Generator,
) -> dict[str, Tensor]:
    _check_fit(counts, len(source), remark)
    if source.identities is None or identities == "shared":
        return deal_images(source.labels, counts, generator=generator)
    if identities == "disjoint":
        _check_label_is_not_person(source.labels, source.identities)
        return deal_persons(source, counts, generator=generator)
    if identities != "auxiliary":
        raise ValueError(f"identities must be disjoint, auxiliary or shared, got {identities!r}")
    index = deal_persons(source, {"auxiliary": counts["auxiliary"]}, generator=generator)
    taken = torch.isin(source.identities, source.identities[index["auxiliary"]])
    left = (~taken).nonzero()[:, 0]
    others = {role: count for role, count in counts.items() if role != "auxiliary"}
    _check_fit(others, len(left), f"the {int(taken.sum())} of auxiliary's persons are set aside")
    dealt = deal_images(source.labels[left], others, generator=generator)
    return index | {role: left[places] for role, places in dealt.items()}


def _counts(sizes: Sizes, available: Mapping[str, int]) -> dict[str, int]:
    if set(sizes) != set(ROLES):
        raise ValueError(f"sizes must name {', '.join(ROLES)}, got {', '.join(sizes) or 'none'}")
    counts = {}
    for role, size in sizes.items():
        share = isinstance(size, float)
        if isinstance(size, bool) or not size > 0 or (share and size > 1):
            raise ValueError(
                f"size of {role} must be a whole number >= 1 or a share in (0, 1], got {size!r}"
            )
        # The small term makes 0.29 of 100 images 29, where the float product is just below.
        counts[role] = int(size * available[role] + 1e-6) if share else int(size)
        if counts[role] == 0:
            raise ValueError(f"{role} gets no image: its share is {size} of {available[role]}")
    return counts


def _check_fit(counts: Mapping[str, int], available: int, remark: str) -> None:
    wanted = sum(counts.values())
    if wanted > available:
        parts = ", ".join(f"{role} {count}" for role, count in counts.items())
        raise ValueError(
            f"sizes ask for {wanted} images ({parts}) but there are {available} ({remark}): "
            "lower the sizes"
        )


def _check_label_is_not_person(labels: Tensor, identities: Tensor) -> None:
    persons_and_labels = torch.stack([labels, identities], dim=1).unique(dim=0)
    if 1 < len(labels.unique()) == len(persons_and_labels):
        raise ValueError(
            "each class is one person, and a model cannot recognise persons that it was not "
            "trained on: set identities to 'auxiliary', or label the images otherwise"
        )
