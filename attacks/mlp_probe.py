"""A small network on the release."""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attacks.standardised import Standardised, balance, balanced_loss
from splitbench.inference import Inference, Known
from splitbench.placement import here
from splitbench.progress import Progress
from splitbench.release import Release
from splitbench.rng import isolated
from splitbench.threat import Access, Surface

MEASURED = 1024  # examples from which the features are standardised
CHECKS = 20  # looks at held-out images
PATIENCE = 5  # looks without a smaller loss before training ends
DROPOUT = 0.5
WEIGHT_DECAY = 0.01


class MlpProbe(Inference):
    """A network with one hidden layer, from the standardised release to the secret.

    It is shown auxiliary images with fresh randomness in every step, so that it learns what the
    defense leaves standing. Rare values of the secret count as much as common
    ones. The weights with the least loss on held-out auxiliary images are kept, and training ends
    when these get no better.

    Threat model:
        Auxiliary images whose values are known, and queries. The client may be a black box.

    Cost: At most `steps` times `batch_size` queries and passes of the network.

    Args:
        width: Hidden units, > 0.
        steps: Batches to learn from at most, > 0.
        batch_size: Images per step, > 0.
        learning_rate: First step size of AdamW, > 0; falls to zero along a cosine.
        mirrored: Show mirrored images too: more to learn from, but wrong of a secret that has a
            left and a right.

    Deviations from the paper:
        Balanced classes, dropout, standardised inputs, a validation part that ends the training.

    References:
        Song, Shmatikov. "Overlearning reveals sensitive attributes". ICLR 2020. arXiv:1905.11742
    """

    needs: ClassVar[frozenset[Access]] = frozenset({Access.AUXILIARY, Access.QUERY})

    _rows: Standardised
    _net: nn.Module

    def __init__(
        self,
        *,
        width: int = 512,
        steps: int = 10_000,
        batch_size: int = 128,
        learning_rate: float = 0.001,
        mirrored: bool = True,
    ) -> None:
        if min(width, steps, batch_size) < 1:
            raise ValueError(
                f"width={width}, steps={steps}, batch_size={batch_size}: each must be at least 1"
            )
        if not learning_rate > 0:
            raise ValueError(f"learning_rate={learning_rate}: must be positive")
        self.width = width
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.mirrored = mirrored

    def learn(
        self, surface: Surface, known: Known, *, generator: torch.Generator
    ) -> Iterator[Progress]:
        """Train, and keep the best weights."""
        seen = torch.cat([release.flat() for _, release in surface.pairs(MEASURED)])
        self._rows = Standardised.of(seen)
        with isolated(generator):
            self._net = self._build(seen.shape[1], known.values)
        self._net.to(seen.device)
        _, answers = surface.validation_pairs()
        held_out = (self._rows(answers.flat()), known.validation[: len(answers)])
        weights = balance(known.train, known.values)
        optimizer = torch.optim.AdamW(
            self._net.parameters(), lr=self.learning_rate, weight_decay=WEIGHT_DECAY
        )
        least, kept, late = self._judge(*held_out, known.values), self._copy(), 0
        examples = surface.labelled_examples(
            known.train, self.batch_size, self.steps, mirrored=self.mirrored
        )
        for step, (values, release) in enumerate(examples, 1):
            share = (1 + math.cos(math.pi * (step - 1) / self.steps)) / 2
            optimizer.param_groups[0]["lr"] = self.learning_rate * share
            with isolated(generator), torch.enable_grad():
                loss = balanced_loss(self._net(self._rows(release.flat())), values, weights)
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
            yield Progress(step, self.steps, float(loss.detach()))
            if step % max(1, self.steps // CHECKS) == 0 or step == self.steps:
                error = self._judge(*held_out, known.values)
                late += 1
                if error < least or not len(held_out[1]):
                    least, kept, late = error, self._copy(), 0
                if late == PATIENCE:
                    break
        self._net.load_state_dict(kept)
        self._net.eval().requires_grad_(False)

    def export_state(self) -> Mapping[str, Tensor]:
        """Weights and standardisation."""
        rows = {"rows.mean": self._rows.mean, "rows.scale": self._rows.scale}
        return {**rows, **self._net.state_dict()}

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Rebuild the network, and take the weights back."""
        super().import_state(state, surface)
        self._rows = Standardised(state["rows.mean"], state["rows.scale"])
        weights = {name: t for name, t in state.items() if not name.startswith("rows.")}
        last = max(name for name in weights if name.endswith("weight"))
        with isolated(torch.Generator()):
            self._net = self._build(len(self._rows.mean), len(weights[last]))
        self._net.to(here()).load_state_dict(weights)
        self._net.eval().requires_grad_(False)

    @torch.no_grad()
    def infer(self, release: Release, surface: Surface) -> Float[Tensor, "b values"]:
        """Logits."""
        del surface
        scores: Tensor = self._net(self._rows(release.flat()))
        return scores

    def _build(self, features: int, values: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(features, self.width),
            nn.GELU(),
            nn.Dropout(DROPOUT),
            nn.Linear(self.width, values),
        )

    def _copy(self) -> dict[str, Tensor]:
        return copy.deepcopy(self._net.state_dict())

    @torch.no_grad()
    def _judge(self, rows: Tensor, values: Tensor, count: int) -> float:
        """Balanced loss on held-out images; infinite where there are none."""
        if not len(values):
            return math.inf
        self._net.eval()
        loss = balanced_loss(self._net(rows), values, balance(values, count))
        self._net.train()
        return float(loss)
