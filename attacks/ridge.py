"""The best affine decoder, in closed form."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from splitbench.attack import Attack
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.threat import Access, Surface


class Ridge(Attack):
    """Ridge regression from the release to the image.

    Features are standardised (dead ones are dropped to zero), both sides are centred, and the
    penalty is chosen on the held-out auxiliary images. One eigendecomposition, of the Gram matrix
    of features or of examples, whichever is smaller, serves all penalties; float64 throughout, so
    that a noiseless invertible linear client is inverted to rounding error. For jointly Gaussian
    images and releases it converges to the Bayes-optimal (Wiener) decoder.

    Threat model:
        Auxiliary images and queries.

    Cost: ``min(n, d)^3`` operations for n examples of d features; memory ``n d``.

    Args:
        penalties: Candidates, in units of the mean squared singular value of the standardised
            features; positive, 0 is allowed and means least squares of least norm.

    Deviations from the paper:
        The penalty is relative, so that the grid means the same at every cut.

    References:
        Hoerl, Kennard. "Ridge regression: biased estimation for nonorthogonal problems".
        Technometrics 1970. doi:10.1080/00401706.1970.10488634
    """

    needs: ClassVar[frozenset[Access]] = frozenset({Access.AUXILIARY, Access.QUERY})

    _weights: Tensor
    _bias: Tensor

    def __init__(
        self, *, penalties: Sequence[float] = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
    ) -> None:
        if not penalties or min(penalties) < 0:
            raise ValueError(f"penalties={penalties}: want at least one, none negative")
        self.penalties = tuple(float(p) for p in penalties)

    def learn(self, surface: Surface, *, generator: torch.Generator) -> Iterator[Progress]:
        """Query all auxiliary images (or those that a budget buys), then solve."""
        del generator
        parts = [(release.flat(), images) for images, release in surface.pairs()]
        features, images = (torch.cat(p).flatten(1).double() for p in zip(*parts, strict=True))
        held_images, held_out = surface.validation_pairs()
        held_features, held_images = held_out.flat().double(), held_images.flatten(1).double()
        mean, scale = _standardisation(features)
        center = images.mean(0)
        solver = _Solver((features - mean) * scale, images - center)
        projected = solver.project((held_features - mean) * scale)
        best, best_error = self.penalties[0], float("inf")
        for step, penalty in enumerate(self.penalties, 1):
            guess = (solver.predict(projected, penalty) + center).clamp(0, 1)
            error = float((guess - held_images).square().mean()) if len(guess) else 0.0
            if error < best_error:
                best, best_error = penalty, error
            yield Progress(step, len(self.penalties), error)
        self._weights = scale[:, None] * solver.weights(best)
        self._bias = center - mean @ self._weights

    def export_state(self) -> Mapping[str, Tensor]:
        """Weights ``(features, pixels)`` and bias ``(pixels,)``."""
        return {"weights": self._weights, "bias": self._bias}

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Take both back."""
        super().import_state(state, surface)
        self._weights, self._bias = state["weights"], state["bias"]

    def recover(
        self, release: Release, surface: Surface, *, generator: torch.Generator
    ) -> Float[Tensor, "b c h w"]:
        """Apply the affine map."""
        del generator
        guess = release.flat().double() @ self._weights + self._bias
        return guess.float().reshape(-1, *surface.image_shape)


class _Solver:
    """Ridge solutions for many penalties from one eigendecomposition."""

    def __init__(self, features: Tensor, images: Tensor) -> None:
        n, d = features.shape
        self._primal = d <= n
        gram = features.T @ features if self._primal else features @ features.T
        self._values, self._vectors = torch.linalg.eigh(gram)
        self._values = self._values.clamp(min=0)
        self._features = features
        target = features.T @ images if self._primal else images
        self._target = self._vectors.T @ target
        self._unit = float(self._values.mean()) if len(self._values) else 0.0
        largest = float(self._values.max()) if len(self._values) else 0.0
        self._tiny = largest * max(n, d) * torch.finfo(torch.float64).eps

    def weights(self, penalty: float) -> Tensor:
        """Weights ``(features, pixels)`` for one relative penalty."""
        solution = self._vectors @ self._shrunk(penalty)
        weights: Tensor = solution if self._primal else self._features.T @ solution
        return weights

    def project(self, features: Tensor) -> Tensor:
        """Other features on the eigenvectors: what `predict` needs, once for all penalties."""
        seen = features if self._primal else features @ self._features.T
        projected: Tensor = seen @ self._vectors
        return projected

    def predict(self, projected: Tensor, penalty: float) -> Tensor:
        """Centred images that one penalty predicts."""
        return projected @ self._shrunk(penalty)

    def _shrunk(self, penalty: float) -> Tensor:
        shifted = self._values + penalty * self._unit
        inverse = torch.where(shifted > self._tiny, 1 / shifted, torch.zeros_like(shifted))
        shrunk: Tensor = inverse[:, None] * self._target
        return shrunk


def _standardisation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and inverse deviation of each feature; 0 for features that never change."""
    mean = features.mean(0)
    deviation = (features - mean).square().mean(0).sqrt()
    alive = deviation > 1e-9 * deviation.max() if len(deviation) else deviation > 0
    return mean, torch.where(alive, 1 / deviation, torch.zeros_like(deviation))
