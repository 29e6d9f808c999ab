"""A linear classifier on the release."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attacks.standardised import Standardised, balance, balanced_loss, drawn
from splitbench.inference import Inference, Known
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.threat import Access, Surface


class LinearProbe(Inference):
    """Multinomial logistic regression from the standardised release to the secret.

    All values of the secret count alike, however rare they are, because success is measured by
    balanced accuracy. Held-out auxiliary images choose how much the weights are held down. Where
    releases are random, each image is shown in several.

    Threat model:
        Auxiliary images whose values are known, and queries. The client may be a black box.

    Cost: `draws` queries of each auxiliary image (one where releases are not random), and
    `iterations` passes over them for each penalty. Holds all these releases in memory.

    Args:
        penalties: Weights of half the squared norm to choose from, >= 0, strongest first; each
            starts where the one before ended.
        iterations: Of L-BFGS for each, > 0.
        draws: Releases of each auxiliary image, >= 1. Under a query budget, and where releases are
            not random, one.

    Deviations from the paper:
        The paper fits small networks to features of models trained for another task; this is the
        linear case, with balanced classes and a penalty that is chosen.

    References:
        Song, Shmatikov. "Overlearning reveals sensitive attributes". ICLR 2020. arXiv:1905.11742
        Alain, Bengio. "Understanding intermediate layers using linear classifier probes". 2016.
        arXiv:1610.01644
    """

    needs: ClassVar[frozenset[Access]] = frozenset({Access.AUXILIARY, Access.QUERY})

    _rows: Standardised
    _weights: Tensor

    def __init__(
        self,
        *,
        penalties: Sequence[float] = (0.1, 0.01, 0.001, 0.0001),
        iterations: int = 50,
        draws: int = 4,
    ) -> None:
        if not penalties or min(penalties) < 0:
            raise ValueError(f"penalties={penalties}: want at least one, none of them negative")
        if min(iterations, draws) < 1:
            raise ValueError(f"iterations={iterations}, draws={draws}: each must be at least 1")
        self.penalties = penalties
        self.iterations = iterations
        self.draws = draws

    def learn(
        self, surface: Surface, known: Known, *, generator: torch.Generator
    ) -> Iterator[Progress]:
        """Query all auxiliary images, descend for each penalty, keep the best on held-out ones."""
        del generator
        values, views = drawn(surface, known.train, self.draws)
        values, features = values.repeat(len(views)), self._seen(torch.cat(views))
        self._rows = Standardised.of(features)
        rows, weights = self._lines(features), balance(values, known.values)
        _, answers = surface.validation_pairs()
        held_out = known.validation[: len(answers)]
        questions = self._lines(self._seen(answers.flat())) if len(held_out) else None
        solution = torch.zeros(rows.shape[1], known.values)
        least = float("inf")
        for step, penalty in enumerate(self.penalties, 1):
            solution, loss = self._descend(solution, rows, values, weights, penalty)
            if questions is not None:
                judged = balance(held_out, known.values)
                loss = float(balanced_loss(questions @ solution, held_out, judged))
            if questions is None or loss < least:
                least, self._weights = loss, solution
            yield Progress(step, len(self.penalties), loss)

    def export_state(self) -> Mapping[str, Tensor]:
        """The weights, with the constant last, and the standardisation."""
        return {"weights": self._weights, "mean": self._rows.mean, "scale": self._rows.scale}

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Take them back."""
        super().import_state(state, surface)
        self._weights = state["weights"]
        self._rows = Standardised(state["mean"], state["scale"])

    def infer(self, release: Release, surface: Surface) -> Float[Tensor, "b values"]:
        """Logits."""
        del surface
        return self._lines(self._seen(release.flat())) @ self._weights

    def _seen(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """What is looked at of a release: all its values."""
        return features

    def _lines(self, features: Tensor) -> Tensor:
        """Rows whose mean square is about 1 whatever their length, and a constant.

        Penalties then mean the same at every cut.
        """
        rows = self._rows(features) / max(1, features.shape[1]) ** 0.5
        return torch.cat([rows, torch.ones(len(rows), 1)], dim=1)

    def _descend(
        self,
        start: Float[Tensor, "d values"],
        rows: Float[Tensor, "n d"],
        values: Int[Tensor, " n"],
        weights: Float[Tensor, " values"],
        penalty: float,
    ) -> tuple[Tensor, float]:
        """The weights that minimise the penalised loss, and that loss; no penalty on constants."""
        solution = start.clone().requires_grad_()
        optimizer = torch.optim.LBFGS(
            [solution], max_iter=self.iterations, line_search_fn="strong_wolfe"
        )

        def objective() -> Tensor:
            with torch.enable_grad():
                loss = balanced_loss(rows @ solution, values, weights)
                loss = loss + penalty / 2 * solution[:-1].square().sum()
                (solution.grad,) = torch.autograd.grad(loss, [solution])
            return loss.detach()

        optimizer.step(objective)
        return solution.detach(), float(objective())
