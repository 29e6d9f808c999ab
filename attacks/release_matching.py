"""Whose photograph a release is of, by comparing it with releases of photographs on file."""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from attacks.principal_axes import principal_axes
from attacks.standardised import Standardised, drawn, times
from splitbench.inference import Inference, Known
from splitbench.placement import here
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.rng import isolated
from splitbench.threat import Access, Surface

BATCH = 256
TEMPERATURE = 0.1
CHECKS = 10  # looks at held-out images
WEIGHT_DECAY = 0.01


class ReleaseMatching(Inference):
    """Ranks persons by how near releases of their photographs are, in a metric that was learned.

    The metric is the cosine between embeddings: principal components of the standardised release,
    plus what a small network adds to them. The network begins at nothing and learns from persons of
    the adversary's own that photographs of one person belong together (a supervised contrastive
    loss); it is kept only as far as held-out photographs are recognised more often for it. Under a
    random defense, it is shown several releases of each photograph, and files the mean of several.

    Threat model:
        Auxiliary photographs of persons who need not be under attack, photographs on file of those
        who may be, and queries about both. The client may be a black box.

    Cost: `draws` queries of each photograph, own and on file (one where releases are not random),
    one principal component analysis, `steps` passes of a small network.

    Args:
        components: Principal components of the standardised release, > 0.
        width: Hidden units of the network, > 0.
        steps: Of AdamW, > 0.
        batch_size: Photographs per step, >= 2.
        learning_rate: First step size, > 0; falls to zero along a cosine.
        draws: Releases of each photograph, >= 1. Under a query budget, and where releases are not
            random, one.

    Deviations from the paper:
        The paper learns features of images from augmented views; here the positives are other
        photographs of the same person, seen through the client, and the start is a plain metric.

    References:
        Khosla et al. "Supervised contrastive learning". NeurIPS 2020. arXiv:2004.11362
    """

    needs: ClassVar[frozenset[Access]] = frozenset({Access.AUXILIARY, Access.QUERY})
    secret: ClassVar[Literal["attribute", "identity"]] = "identity"

    _rows: Standardised
    _axes: Tensor
    _net: nn.Module
    _filed: Tensor
    _persons: Tensor
    _count: Tensor

    def __init__(
        self,
        *,
        components: int = 64,
        width: int = 128,
        steps: int = 500,
        batch_size: int = 128,
        learning_rate: float = 0.001,
        draws: int = 4,
    ) -> None:
        if min(components, width, steps, draws) < 1 or batch_size < 2:
            raise ValueError(
                f"components={components}, width={width}, steps={steps}, draws={draws}, "
                f"batch_size={batch_size}: each must be at least 1, the last 2"
            )
        if not learning_rate > 0:
            raise ValueError(f"learning_rate={learning_rate}: must be positive")
        self.components = components
        self.width = width
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.draws = draws

    def learn(
        self, surface: Surface, known: Known, *, generator: torch.Generator
    ) -> Iterator[Progress]:
        """Learn the metric from the adversary's persons, then file those under attack."""
        if known.gallery is None or known.on_file is None:
            raise ValueError("to recognise persons takes photographs of them on file")
        persons, views = drawn(surface, known.train, self.draws)
        self._rows = Standardised.of(views[0])
        self._axes, _ = principal_axes(self._rows(views[0]), self.components, generator)
        with isolated(generator):
            self._net = self._build(self._axes.shape[1])
        self._net.to(here())
        shown = [self._components(view) for view in views]
        _, answers = surface.validation_pairs()
        questions = self._components(answers.flat()), known.validation[: len(answers)]
        files = torch.stack(shown).mean(0), persons
        yield from self._train(shown, persons, questions, files, generator)
        self._net.requires_grad_(False)
        self._persons, self._count = known.on_file, torch.tensor(known.values)
        self._filed = self._embed(self._components(self._query(surface, known.gallery)))

    def export_state(self) -> Mapping[str, Tensor]:
        """The metric and the file."""
        return {
            "rows.mean": self._rows.mean,
            "rows.scale": self._rows.scale,
            "axes": self._axes,
            "filed": self._filed,
            "persons": self._persons,
            "count": self._count,
            **{f"net.{name}": value for name, value in self._net.state_dict().items()},
        }

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Take them back."""
        super().import_state(state, surface)
        self._rows = Standardised(state["rows.mean"], state["rows.scale"])
        self._axes, self._filed = state["axes"], state["filed"]
        self._persons, self._count = state["persons"], state["count"]
        with isolated(torch.Generator()):
            self._net = self._build(self._axes.shape[1])
        weights = {k.removeprefix("net."): v for k, v in state.items() if k.startswith("net.")}
        self._net.to(here()).load_state_dict(weights)
        self._net.requires_grad_(False)

    @torch.no_grad()
    def infer(self, release: Release, surface: Surface) -> Float[Tensor, "b values"]:
        """For each person the cosine to the nearest of his or her photographs."""
        del surface
        cosines = self._embed(self._components(release.flat())) @ self._filed.T
        worst = cosines.new_full((len(cosines), int(self._count)), -1.0)
        return worst.scatter_reduce(1, self._persons.expand_as(cosines), cosines, "amax")

    def _query(self, surface: Surface, images: Tensor) -> Tensor:
        """The mean release of each photograph on file."""
        files = []
        for part in images.split(BATCH):
            seen = [surface.query(part).flat()]
            for _ in range(times(surface, self.draws) - 1):
                seen.append(surface.query(part).flat())
                if torch.equal(seen[0], seen[1]):
                    break
            files.append(torch.stack(seen).mean(0))
        return torch.cat(files)

    def _build(self, features: int) -> nn.Module:
        last = nn.Linear(self.width, features)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return nn.Sequential(nn.Linear(features, self.width), nn.GELU(), last)

    def _components(self, features: Tensor) -> Tensor:
        return self._rows(features) @ self._axes

    def _embed(self, components: Tensor) -> Tensor:
        return functional.normalize(components + self._net(components), dim=1)

    def _train(
        self,
        shown: list[Tensor],
        persons: Int[Tensor, " n"],
        questions: tuple[Tensor, Tensor],
        files: tuple[Tensor, Tensor],
        generator: torch.Generator,
    ) -> Iterator[Progress]:
        optimizer = torch.optim.AdamW(
            self._net.parameters(), lr=self.learning_rate, weight_decay=WEIGHT_DECAY
        )
        most, kept = self._recognised(questions, files), copy.deepcopy(self._net.state_dict())
        for step in range(1, self.steps + 1):
            share = (1 + math.cos(math.pi * (step - 1) / self.steps)) / 2
            optimizer.param_groups[0]["lr"] = self.learning_rate * share
            index = torch.randperm(len(persons), generator=generator)[: self.batch_size]
            with torch.enable_grad():
                vectors = self._embed(shown[step % len(shown)][index])
                loss = contrastive_loss(vectors, persons[index])
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
            if step % max(1, self.steps // CHECKS) == 0 or step == self.steps:
                rate = self._recognised(questions, files)
                if rate > most:
                    most, kept = rate, copy.deepcopy(self._net.state_dict())
            yield Progress(step, self.steps, float(loss.detach()))
        self._net.load_state_dict(kept)

    @torch.no_grad()
    def _recognised(self, questions: tuple[Tensor, Tensor], files: tuple[Tensor, Tensor]) -> float:
        """How often the nearest of the adversary's other photographs shows the same person."""
        if not len(questions[1]):
            return 0.0
        nearest = (self._embed(questions[0]) @ self._embed(files[0]).T).argmax(1)
        return float((files[1][nearest] == questions[1]).float().mean())


def contrastive_loss(
    vectors: Float[Tensor, "b d"], persons: Int[Tensor, " b"]
) -> Float[Tensor, ""]:
    """How badly each vector picks its own person out of the others, in nats; 0 without a pair.

    Args:
        vectors: Of unit length.
        persons: Whom they show.
    """
    own = torch.eye(len(vectors), dtype=torch.bool)
    same = (persons[:, None] == persons) & ~own
    logits = (vectors @ vectors.T / TEMPERATURE).masked_fill(own, -math.inf)
    chances = torch.log_softmax(logits, dim=1).masked_fill(own, 0.0)
    pairs = same.sum(1)
    each = -(chances * same).sum(1) / pairs.clamp(min=1)
    return each.sum() / (pairs > 0).sum().clamp(min=1)
