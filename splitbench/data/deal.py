"""Dealing images out to roles: balanced orders, and whole persons."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from splitbench.data.images import LabeledImages

# Target and calibration come first and train comes from the far end, so that a change of the size
# of train or auxiliary never moves an image under attack, nor one of them the other.
_FROM_THE_FRONT = ("target", "calibration", "auxiliary")


def stratified_order(labels: Tensor, *, generator: Generator) -> Tensor:
    """A random order in which each class is spread evenly from the first to the last place.

    Any run of it holds every class in proportion, to within two images; where all classes are of
    one size, a run of a multiple of the number of classes holds them equally often.

    Args:
        labels: int64 ``(n,)``.
        generator: Shuffles within classes and draws the order of the classes.

    Returns:
        Positions, int64 ``(n,)``.
    """
    shuffled = torch.randperm(len(labels), generator=generator)
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = shuffled[labels[shuffled] == label]
        phase = torch.rand((), generator=generator, dtype=torch.float64)
        place[members] = (torch.arange(len(members)) + phase) / len(members)
    return place.argsort(stable=True)


def deal_images(
    labels: Tensor, counts: Mapping[str, int], *, generator: Generator
) -> dict[str, Tensor]:
    """Positions for each role of `counts`, disjoint and stratified.

    There must be enough images. Within a role, positions stay in the stratified order: the first
    k of a role are balanced too.
    """
    order = stratified_order(labels, generator=generator)
    index = {}
    used = 0
    for role in _FROM_THE_FRONT:
        if role in counts:
            index[role] = order[used : used + counts[role]]
            used += counts[role]
    if "train" in counts:
        index["train"] = order.flip(0)[: counts["train"]]
    return index


def deal_persons(
    images: LabeledImages, counts: Mapping[str, int], *, generator: Generator
) -> dict[str, Tensor]:
    """Positions for each role of `counts`: whole persons until there is enough, cut to size.

    Args:
        images: Images with identities.
        counts: Images per role.
        generator: Shuffles the persons, and the images of each role.

    Raises:
        ValueError: The persons do not suffice, or identities are unknown.
    """
    if images.identities is None:
        raise ValueError("whole persons need identities, and these images have none")
    persons, person, photographs = images.identities.unique(return_inverse=True, return_counts=True)
    order = torch.randperm(len(persons), generator=generator)
    index = {}
    for role in (*_FROM_THE_FRONT, "train"):
        if role not in counts:
            continue
        total = photographs[order].cumsum(0)
        needed = int((total < counts[role]).sum()) + 1
        if needed > len(order):
            raise ValueError(
                f"{role} asks for {counts[role]} images of persons that are in no other role, but "
                f"{len(order)} of {len(persons)} persons are left, with "
                f"{int(photographs[order].sum())} images: lower the sizes"
            )
        members = torch.isin(person, order[:needed]).nonzero()[:, 0]
        order = order[needed:]
        balanced = stratified_order(images.labels[members], generator=generator)
        index[role] = members[balanced[: counts[role]]]
    return index
