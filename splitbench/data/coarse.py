"""Any labelled data set with fewer, coarser classes, and the fine class as a secret."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from splitbench.data.images import LabeledImages, Roles
from splitbench.data.roles import Sizes
from splitbench.data.source import Source


class Coarse(Source):
    """The images of another source, of which the task names only a group of classes.

    A server that is told "footwear" is not entitled to "sandal". The class of the original becomes
    an attribute, for attacks that infer it. Roles are those of the original with the same sizes
    and seed, image by image: they are dealt out before the labels are made coarse, so fine classes
    are balanced within each role.

    Args:
        source: The original. Its own `sizes` and `seed` count for nothing.
        groups: Name of each new class, and the original classes in it; each class in one group.
        attribute: Name of the attribute that holds the original class.
        sizes: Images of each role; see `assign_roles`.
        seed: Of the assignment to roles.

    Raises:
        ValueError: There are fewer than two groups, or a group is empty. When the data is loaded: a
            class of the original is in no group or in several, or a group names an unknown one.
    """

    def __init__(
        self,
        *,
        source: Source,
        groups: Mapping[str, Sequence[str]],
        attribute: str = "fine",
        sizes: Sizes,
        seed: int = 0,
    ) -> None:
        if len(groups) < 2 or not all(groups.values()):
            raise ValueError(f"groups={dict(groups)}: want at least two, none of them empty")
        self.source = source
        self.groups = groups
        self.attribute = attribute
        self.sizes = sizes
        self.seed = seed
        self.literature_split = source.literature_split
        self.similarity = source.similarity
        self.identities = source.identities

    def read(self) -> tuple[LabeledImages, LabeledImages | None]:
        """Read the original."""
        return self.source.read()

    def _divide(self, train: LabeledImages, test: LabeledImages | None) -> Roles:
        roles = super()._divide(train, test)
        return replace(
            roles,
            train=self._coarse(roles.train),
            auxiliary=self._coarse(roles.auxiliary),
            calibration=self._coarse(roles.calibration),
            target=self._coarse(roles.target),
        )

    def _coarse(self, images: LabeledImages) -> LabeledImages:
        names = [name for members in self.groups.values() for name in members]
        if sorted(names) != sorted(images.classes):
            raise ValueError(
                f"groups hold the classes {', '.join(sorted(names))}; want each of "
                f"{', '.join(sorted(images.classes))} once"
            )
        group_of = {name: i for i, group in enumerate(self.groups.values()) for name in group}
        table = torch.tensor([group_of[name] for name in images.classes])
        return replace(
            images,
            labels=table[images.labels],
            classes=tuple(self.groups),
            attributes={**images.attributes, self.attribute: images.labels},
        )
