"""Search for the weights of an untrained network whose picture explains the release."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call, vmap

from attacks.search_diagnostics import search_diagnostics
from attacks.skip_network import CODE, SkipNetwork
from splitbench.attack import Attack
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.rng import isolated, normal_like
from splitbench.threat import Access, Surface

GREY = 0.5
BATCH = 16  # images searched for at once, each with weights of its own
PROBES = 8  # grey images sent through the channel to see how badly the truth explains a release
STEADY = 0.875  # share of the steps after which the code is left alone
LOOK = 10  # steps between looks at whether every image has its iterate

Weights = dict[str, Tensor]


class DeepImagePrior(Attack):
    """Minimises ``mismatch(z, f(h(code)))`` over the weights of h, a convolutional hourglass.

    The prior is the architecture: such a network paints what looks like an image long before it
    paints noise. Every image has weights of its own, which start from the same values, and Adam
    moves all of them side by side; images are independent problems. The code is fixed noise, on
    which fresh noise is laid at every step, less and less of it.

    Each image keeps the iterate with the least mismatch, which the adversary can compute. But
    once an iterate explains the release as well as the truth does, a better one would only paint
    the channel's noise: the first such iterate is kept (the discrepancy principle), and the search
    ends when all have one. How well the truth explains a release is measured on grey images.

    A release that says little stops the search almost at once, and what is kept then is the
    architecture's own first picture, further off than the mean image that an adversary with data
    would show. The level is wrong where a channel's loss depends on the image (`TopK`, JPEG).

    Threat model:
        The client's weights, and a few queries that show how noisy the channel is. No data.

    Cost: `steps` passes of the network and of the client, forward and backward, per image, the
    number of images rounded up to a multiple of 16. On one CPU core, for 28 x 28 pixels, 2 ms per
    step and image at a width of 16, and 10 ms at 64.

    Args:
        width: Channels of the network, > 0.
        scales: Times that it halves the image, > 0.
        steps: Adam steps, > 0.
        learning_rate: Adam's step size, > 0.
        jitter: Standard deviation of the first noise on the code (whose own is 1), >= 0; falls
            linearly to zero at seven eighths of the steps.
        max_targets: Attack the first so many targets; None attacks all.

    Deviations from the paper:
        Exact likelihoods, and the truth's own mismatch, where the paper stops after a number of
        steps; a smaller network, whose layers are normalised as a whole; jitter that falls; no
        average of iterates.

    References:
        Ulyanov, Vedaldi, Lempitsky. "Deep image prior". CVPR 2018. arXiv:1711.10925
        Morozov. "On the solution of functional equations by the method of regularization". Soviet
        Mathematics Doklady 1966.

    Example:
        >>> sorted(DeepImagePrior().needs)
        [<Access.CLIENT: 'client'>, <Access.QUERY: 'query'>]
    """

    needs: ClassVar[frozenset[Access]] = frozenset({Access.CLIENT, Access.QUERY})

    _level: Tensor

    def __init__(
        self,
        *,
        width: int = 64,
        scales: int = 3,
        steps: int = 3000,
        learning_rate: float = 0.01,
        jitter: float = 0.1,
        max_targets: int | None = None,
    ) -> None:
        if min(width, scales, steps) < 1:
            raise ValueError(f"width={width}, scales={scales}, steps={steps}: at least 1 each")
        if not learning_rate > 0:
            raise ValueError(f"learning_rate={learning_rate}: must be positive")
        if jitter < 0:
            raise ValueError(f"jitter={jitter}: must not be negative")
        if max_targets is not None and max_targets < 1:
            raise ValueError(f"max_targets={max_targets}: at least 1, or None for all")
        self.width = width
        self.scales = scales
        self.steps = steps
        self.learning_rate = learning_rate
        self.jitter = jitter
        self.max_targets = max_targets

    def learn(self, surface: Surface, *, generator: torch.Generator) -> Iterator[Progress]:
        """Measure how badly the truth explains a release."""
        del generator
        grey = torch.full((PROBES, *surface.image_shape), GREY)
        features = tuple(surface.client(grey))
        self._level = surface.mismatch(surface.query(grey), features).mean().detach()
        yield Progress(1, 1, float(self._level))

    def export_state(self) -> Mapping[str, Tensor]:
        """The mismatch of the truth."""
        return {"level": self._level}

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Take it back."""
        super().import_state(state, surface)
        self._level = state["level"]

    def diagnostics(
        self, guess: Float[Tensor, "b c h w"], release: Release, surface: Surface
    ) -> Mapping[str, float]:
        """Whether the guesses explain the release; see `search_diagnostics`."""
        noise = self._level if bool(self._level > 0) else None
        return search_diagnostics(guess, release, surface, noise)

    def recover(
        self, release: Release, surface: Surface, *, generator: torch.Generator
    ) -> Float[Tensor, "b c h w"]:
        """Search for each image.

        All batches see the same random numbers and have the same size: how a sum is rounded
        depends on the size, and a long search makes much of it.
        """
        channels, height, width = surface.image_shape
        with isolated(generator):
            network = SkipNetwork(channels, width=self.width, scales=self.scales)
        device = release.tensors[0].device
        network.to(device).requires_grad_(False)
        code = torch.randn(1, CODE, height, width, generator=generator)
        state, found = generator.get_state(), []
        for i in range(0, len(release), BATCH):
            generator.set_state(state)
            index = torch.arange(i, i + BATCH, device=device).clamp(max=len(release) - 1)
            found.append(self._search(release[index], surface, network, code, generator))
        return torch.cat(found)[: len(release)]

    def _search(
        self,
        release: Release,
        surface: Surface,
        network: SkipNetwork,
        code: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """The iterate to keep for each image."""
        count, device = len(release), release.tensors[0].device
        weights = {
            name: start.expand(count, *start.shape).clone().requires_grad_()
            for name, start in network.named_parameters()
        }
        optimizer = torch.optim.Adam(weights.values(), lr=self.learning_rate)
        paint = _painter(network)
        kept = torch.full((count, *surface.image_shape), GREY, device=device)
        least = torch.full((count,), math.inf, device=device)
        level = self._level.to(device)
        for step in range(self.steps):
            share = max(0.0, 1 - step / (STEADY * self.steps))
            shaken = code + self.jitter * share * normal_like(code, generator)
            with torch.enable_grad():
                images = paint(weights, shaken.to(device))
                value = surface.mismatch(release, tuple(surface.client(images)))
                gradients = torch.autograd.grad(value.sum(), list(weights.values()))
            objective = torch.maximum(value.detach(), level)
            kept = torch.where((objective < least)[:, None, None, None], images.detach(), kept)
            least = torch.minimum(objective, least)
            if step % LOOK == 0 and bool((least <= level).all()):
                break
            for weight, gradient in zip(weights.values(), gradients, strict=True):
                weight.grad = gradient
            optimizer.step()
        return kept


def _painter(network: SkipNetwork) -> Callable[[Weights, Tensor], Tensor]:
    """Paint with the weights of each image: ``(b, ...)`` weights and one code to b images."""

    def one(weights: Weights, code: Tensor) -> Tensor:
        image: Tensor = functional_call(network, weights, (code,)).squeeze(0)
        return image

    painter: Callable[[Weights, Tensor], Tensor] = vmap(one, in_dims=(0, None))
    return painter
