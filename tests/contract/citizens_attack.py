"""Attacks that keep every promise: a decoder, a search, a floor."""

from typing import ClassVar

import torch

from splitbench.attack import Attack
from splitbench.progress import Progress
from splitbench.threat import Access


class LeastSquares(Attack):
    """Linear decoder.

    Threat model: queries and auxiliary images.

    Cost: `steps` times 32 queries.

    Args:
        steps: Batches to learn from.
        ridge: Weight of the penalty.

    Deviations from the paper:
        None.

    References:
        Hoerl, Kennard. "Ridge regression". Technometrics 1970. doi:10.1080/00401706.1970.10488634
    """

    needs: ClassVar = frozenset({Access.AUXILIARY, Access.QUERY})
    weights = None

    def __init__(self, *, steps: int = 6, ridge: float = 0.01) -> None:
        self.steps = steps
        self.ridge = ridge

    def learn(self, surface, *, generator):
        del generator
        rows, pixels = [], []
        for step, (images, release) in enumerate(surface.examples(32, self.steps), 1):
            rows.append(self.inputs(release))
            pixels.append(images.flatten(1))
            yield self.progress(step)
        self.weights = self.solve(torch.cat(rows), torch.cat(pixels))

    def progress(self, step):
        return Progress(step, self.steps, 0.0)

    def inputs(self, release):
        flat = release.flat()
        return torch.cat([flat, torch.ones(len(flat), 1)], dim=1)

    def solve(self, rows, pixels):
        gram = rows.T @ rows + self.ridge * torch.eye(rows.shape[1])
        return torch.linalg.solve(gram, rows.T @ pixels)

    def export_state(self):
        return {"weights": self.weights}

    def import_state(self, state, surface):
        del surface
        self.weights = state["weights"]
        self.fitted = True

    def recover(self, release, surface, *, generator):
        del generator
        return (self.inputs(release) @ self.weights).unflatten(1, surface.image_shape)


class FeatureMatching(Attack):
    """Gradient descent on the distance to the release.

    Threat model: the client's weights.

    Cost: `steps` passes of the client, forward and backward.

    Args:
        steps: Gradient steps.
        step_size: In pixels per unit of gradient.

    Deviations from the paper:
        None.

    References:
        He, Zhang, Lee. "Model inversion attacks against collaborative inference". ACSAC 2019.
        doi:10.1145/3359789.3359824
    """

    needs: ClassVar = frozenset({Access.CLIENT})

    def __init__(self, *, steps: int = 3, step_size: float = 0.3) -> None:
        self.steps = steps
        self.step_size = step_size

    def recover(self, release, surface, *, generator):
        start = torch.rand(1, *surface.image_shape, generator=generator)
        guess = start.repeat(len(release), 1, 1, 1).requires_grad_()
        for _ in range(self.steps):
            distance = surface.mismatch(release, surface.client(guess)).sum()
            gradient = torch.autograd.grad(distance, guess)[0]
            guess = (guess - self.step_size * gradient).detach().requires_grad_()
        return guess


class Average(Attack):
    """Mean of the auxiliary images.

    Threat model: auxiliary images.

    Cost: None to speak of.

    Deviations from the paper: None.

    References: None.
    """

    needs: ClassVar = frozenset({Access.AUXILIARY})
    floor: ClassVar = True

    def learn(self, surface, *, generator):
        del generator
        self.mean = surface.auxiliary.images().mean(0)
        yield Progress(1, 1, 0.0)

    def export_state(self):
        return {"mean": self.mean}

    def import_state(self, state, surface):
        del surface
        self.mean = state["mean"]
        self.fitted = True

    def recover(self, release, surface, *, generator):
        del surface, generator
        return self.mean.repeat(len(release), 1, 1, 1)
