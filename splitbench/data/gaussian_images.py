"""Synthetic images whose law is known, so that certificates can be held against attacks."""

import torch
from jaxtyping import Float
from torch import Tensor

from splitbench.data.duplicates import THINGS
from splitbench.data.images import ROLES, LabeledImages, Roles, join
from splitbench.data.roles import Sizes
from splitbench.data.source import Source
from splitbench.normal_prior import NormalPrior
from splitbench.rng import stream

GREY = 0.5
WIDEST = 0.08  # of a pixel: beyond 6 standard deviations a normal value leaves [0, 1]
SMALLEST = 4
CLASSES = ("lower edge", "upper edge", "lower centre", "upper centre")


class GaussianImages(Source):
    """Grey noise with correlated neighbours, drawn from a normal law that is known exactly.

    **Synthetic: it exists for certificates, never for ranking defenses.** Nothing that leaks from
    it says how much of a photograph would leak. But as its images are drawn from the prior of the
    certificates, an attack that errs less than one of them proves an error in this benchmark or in
    the defense.

    Every pixel is normal around grey; the correlation of two is ``exp(-d / reach)``, d being the
    distance in rows and that in columns together. So narrow are they that a pixel leaves [0, 1]
    with a probability below 1e-9; none is clamped, and the law stays exact up to single precision.
    The class says whether the upper or the lower half is brighter, and whether the centre or the
    edge is: signs of two linear functions, each class equally likely.

    Images are drawn independently, those of each role from a stream of their own. None is dealt
    out by its class or dropped for its looks, which would bend the law.

    Args:
        sizes: Images of each role, whole numbers.
        seed: Of all draws.
        side: Height and width in pixels, >= 4.
        std: Standard deviation of each pixel, in (0, 0.08].
        reach: Distance in pixels over which the correlation falls to 1 / e, in (0, side / 4]:
            beyond, images that were drawn independently pass for copies.

    Raises:
        ValueError: A value is out of its range.
    """

    similarity = THINGS

    def __init__(
        self,
        *,
        sizes: Sizes,
        seed: int = 0,
        side: int = 16,
        std: float = 0.0625,
        reach: float = 3.0,
    ) -> None:
        if side < SMALLEST or not 0 < std <= WIDEST or not 0 < reach <= side / 4:
            raise ValueError(
                f"side={side}, std={std}, reach={reach}: want side >= {SMALLEST}, std in "
                f"(0, {WIDEST}] so that no pixel leaves [0, 1], and reach in (0, side / 4]"
            )
        self.sizes = sizes
        self.seed = seed
        self.side = side
        self.std = std
        self.reach = reach

    @property
    def prior(self) -> NormalPrior:
        """The law of the images."""
        return NormalPrior.of_covariance(
            torch.full((1, self.side, self.side), GREY),
            self.std**2 * torch.kron(self._correlation, self._correlation),
            name="the normal law that the images are drawn from",
            applies=True,
        )

    def read(self) -> tuple[LabeledImages, None]:
        """Draw the images of all roles, one role after the other."""
        return join([self._drawn(role, count) for role, count in self._counts().items()]), None

    def _divide(self, train: LabeledImages, test: LabeledImages | None) -> Roles:
        """The roles as they were drawn."""
        del test
        counts = self._counts()
        places = torch.arange(len(train)).split([*counts.values()])
        index = dict(zip(counts, places, strict=True))
        return Roles(
            train=train.subset(index["train"]),
            auxiliary=train.subset(index["auxiliary"]),
            calibration=train.subset(index["calibration"]),
            target=train.subset(index["target"]),
            prior=self.prior,
        )

    def _counts(self) -> dict[str, int]:
        wanted = {role: self.sizes.get(role) for role in ROLES}
        counts = {role: size for role, size in wanted.items() if type(size) is int and size > 0}
        if {*self.sizes} != {*ROLES} or len(counts) < len(ROLES):
            raise ValueError(
                f"sizes={dict(self.sizes)}: give each of {', '.join(ROLES)} a whole number of "
                "images, for as many are drawn as are asked for"
            )
        return counts

    @property
    def _correlation(self) -> Float[Tensor, "side side"]:
        """Of the pixels of one row, or of one column."""
        place = torch.arange(self.side, dtype=torch.float64)
        return torch.exp(-(place[:, None] - place).abs() / self.reach)

    def _drawn(self, role: str, count: int) -> LabeledImages:
        shape = (count, self.side, self.side)
        generator = stream(self.seed, "gaussian images", role)
        white = torch.randn(shape, generator=generator, dtype=torch.float64)
        root = torch.linalg.cholesky(self._correlation)
        images = GREY + self.std * (root @ white @ root.T)
        return LabeledImages(images[:, None].float(), _labels(images - GREY), CLASSES)


def _labels(images: Float[Tensor, "n h w"]) -> Tensor:
    """Which half is brighter, and whether the centre is brighter than the edge."""
    half, quarter = images.shape[1] // 2, images.shape[1] // 4
    upper = images[:, :half].sum((1, 2)) > images[:, -half:].sum((1, 2))
    inside = slice(quarter, -quarter)
    centre = images[:, inside, inside].mean((1, 2)) > images.mean((1, 2))
    return upper.long() + 2 * centre.long()
