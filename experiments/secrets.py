"""What a data set knows about its images beside the class: secrets for inferences."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from splitbench.data.duplicates import content_hashes
from splitbench.data.images import ROLES, LabeledImages, Roles
from splitbench.feed import Feed
from splitbench.inference import Known


@dataclass(frozen=True)
class Secret:
    """One property of the images of a data set.

    Attributes:
        kind: What an `Inference` must say it infers.
        attribute: Which one; empty for identities.
    """

    kind: Literal["attribute", "identity"]
    attribute: str = ""

    @property
    def name(self) -> str:
        """As records have it."""
        return f"attribute {self.attribute}" if self.attribute else self.kind

    @property
    def measure(self) -> str:
        """Balanced accuracy; for persons, how often the first of the ranking is right."""
        return "rank1" if self.kind == "identity" else "balanced_accuracy"

    def values(self, images: LabeledImages) -> Tensor | None:
        """Value of each image, int64 ``(n,)``; None where these images do not say."""
        if self.kind == "identity":
            return images.identities
        return images.attributes.get(self.attribute)


class Question:
    """A secret of one data set, with its values numbered.

    Attributes:
        secret: Which.
        persons: Those on file, sorted; None for attributes.
        count: How many values there are.
    """

    def __init__(self, secret: Secret, roles: Roles) -> None:
        """Number the values: persons on file, that is of the train role, or those that occur."""
        self.secret = secret
        self.roles = roles
        self.persons: Tensor | None = None
        if secret.kind == "identity" and roles.train.identities is not None:
            self.persons = roles.train.identities.unique()
            self.count = len(self.persons)
        else:
            found = [secret.values(getattr(roles, role)) for role in ROLES]
            self.count = max((int(v.max()) + 1 for v in found if v is not None), default=0)

    def numbers(self, images: LabeledImages) -> Tensor:
        """Number of the value of each image, -1 for persons who are not on file.

        Raises:
            ValueError: These images do not say.
        """
        values = self.secret.values(images)
        if values is None:
            raise ValueError(f"these images do not say their {self.secret.name}")
        if self.persons is None:
            return values
        place = torch.searchsorted(self.persons, values).clamp(max=self.count - 1)
        return torch.where(self.persons[place] == values, place, -1)

    def known(self, feed: Feed) -> Known | None:
        """What the adversary knows; None where its images do not say."""
        train, validation = self.secret.values(feed.train), self.secret.values(feed.validation)
        if train is None or validation is None:
            return None
        if self.persons is None:
            return Known(train, validation, self.count)
        on_file = self._others(self.roles.train)
        return Known(train, validation, self.count, on_file.images(), self.numbers(on_file))

    def _others(self, images: LabeledImages) -> LabeledImages:
        """Those that are no targets: a photograph must not be found by itself."""
        targets = {*content_hashes(self.roles.target)}
        others = [i for i, name in enumerate(content_hashes(images)) if name not in targets]
        return images.subset(torch.tensor(others, dtype=torch.int64))


def questions_of(roles: Roles) -> list[Question]:
    """Everything that the targets say about themselves, and that has more than one value."""
    secrets = [Secret("attribute", name) for name in sorted(roles.target.attributes)]
    if roles.target.identities is not None and roles.train.identities is not None:
        secrets.append(Secret("identity"))
    found = [Question(secret, roles) for secret in secrets]
    return [q for q in found if q.count > 1 and bool((q.numbers(roles.target) >= 0).any())]
