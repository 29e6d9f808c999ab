"""What every data source is: something that loads into four disjoint roles."""

from abc import ABC, abstractmethod
from typing import final

from splitbench.data.disjoint import IdentityRule, check_disjoint
from splitbench.data.duplicates import PHOTOGRAPHS
from splitbench.data.images import LabeledImages, Roles, join
from splitbench.data.roles import Sizes, assign_literature_roles, assign_roles
from splitbench.described import Described


class DataUnavailableError(FileNotFoundError):
    """A data set is neither on this machine nor to be had; the message says how to get it."""


class DataDamagedError(OSError):
    """A file of a data set is not what it should be; the message names it."""


class Source(Described, ABC):
    """A data set that can be divided into roles.

    A subclass stores its keyword arguments, among them `sizes` and `seed`, and implements `read`.

    Attributes:
        sizes: Images of each role; see `assign_roles`.
        seed: Of the assignment. It is not the seed of a run: runs with other seeds attack the
            same images.
        literature_split: Train on the official training set and share the official test set among
            the other roles, to reproduce published results; otherwise all images are pooled.
        similarity: Smallest similarity of near duplicates; see `similar_pairs`.
        identities: Which roles may show the same person.
    """

    sizes: Sizes
    seed: int
    literature_split: bool = False
    similarity: float = PHOTOGRAPHS
    identities: IdentityRule = "shared"

    @abstractmethod
    def read(self) -> tuple[LabeledImages, LabeledImages | None]:
        """Read the official training set and test set; the latter is None where there is none.

        Raises:
            DataUnavailableError: The data is not on this machine and cannot be downloaded.
            DataDamagedError: A file is not what it should be.
        """

    @final
    def load(self) -> Roles:
        """Read the data, divide it into roles, and verify that they are disjoint.

        Raises:
            DataUnavailableError: The data is not on this machine and cannot be downloaded.
            DataDamagedError: A file is not what it should be.
            ValueError: The sizes do not fit the data.
            OverlapError: Roles share an image, a copy of one, or a person.
        """
        roles = self._divide(*self.read())
        check_disjoint(roles, similarity=self.similarity, identities=self.identities)
        return roles

    def _divide(self, train: LabeledImages, test: LabeledImages | None) -> Roles:
        if not self.literature_split:
            return assign_roles(
                train if test is None else join([train, test]),
                sizes=self.sizes,
                seed=self.seed,
                similarity=self.similarity,
                identities=self.identities,
            )
        if test is None:
            raise ValueError(
                f"{self!r} has no official test set: set literature_split to false, or give one"
            )
        return assign_literature_roles(
            train,
            test,
            sizes=self.sizes,
            seed=self.seed,
            similarity=self.similarity,
            identities=self.identities,
        )
