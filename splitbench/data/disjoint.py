"""The check that no two roles share an image, a copy of one, or a person."""

from itertools import combinations
from typing import Literal

import torch

from splitbench.data.duplicates import content_hashes, similar_pairs
from splitbench.data.images import ROLES, LabeledImages, Roles, join

IdentityRule = Literal["disjoint", "auxiliary", "shared"]
"""Which roles may show the same person, where identities are known.

``disjoint``: a person is in one role only. For tasks whose label is not the person, such as a face
attribute; re-identification attacks then learn on other persons than they are scored on.

``auxiliary``: the adversary's persons are in no other role, while train, calibration and target
hold different photographs of the same persons. For recognition of enrolled persons, where the
label *is* the person: a model can only recognise the persons it was trained on.

``shared``: photographs are disjoint, persons are not. The adversary has other photographs of the
persons under attack.
"""


class OverlapError(ValueError):
    """Roles share an image, a copy of one, or a person."""


def check_disjoint(
    roles: Roles, *, similarity: float, identities: IdentityRule = "disjoint"
) -> None:
    """Verify that roles are disjoint.

    Looks at the parts alone, not at how they were made.

    Args:
        roles: The parts. What a part shares with itself is not its business.
        similarity: Smallest similarity of near duplicates; see `similar_pairs`.
        identities: Which roles may show the same person.

    Raises:
        OverlapError: With the number of equal images, near duplicates and persons that each two
            roles share.
        ValueError: As `similar_pairs`.
    """
    parts = [getattr(roles, role) for role in ROLES]
    owner = torch.cat([torch.full((len(part),), k) for k, part in enumerate(parts)])
    hashes = [set(content_hashes(part)) for part in parts]
    pairs = owner[similar_pairs(join(parts), similarity=similarity)]
    found = []
    for a, b in combinations(range(len(ROLES)), 2):
        exact = len(hashes[a] & hashes[b])
        near = int((pairs == torch.tensor([a, b])).all(1).sum())
        strict = identities == "disjoint" or (
            identities == "auxiliary" and "auxiliary" in (ROLES[a], ROLES[b])
        )
        persons = _shared_persons(parts[a], parts[b]) if strict else 0
        if exact or near or persons:
            found.append(
                f"{ROLES[a]} and {ROLES[b]} share {exact} equal images, {near} pairs of near "
                f"duplicates, {persons} persons"
            )
    if found:
        raise OverlapError(f"roles must be disjoint, but {'; '.join(found)}")


def _shared_persons(a: LabeledImages, b: LabeledImages) -> int:
    if a.identities is None or b.identities is None:
        return 0
    return len(set(a.identities.tolist()) & set(b.identities.tolist()))
