"""A network that learns to tell releases from observed ones: a piece, not an attack."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from attacks.feature_alignment import Reference
from splitbench.release import Tensors
from splitbench.rng import isolated

WIDTH = 64  # values that the network makes of each position, and then of all of them together
FEW = 16  # of those of each position, from which it makes the latter
LEAK = 0.2  # slope of its activations below zero
LEARNING_RATE = 2e-3
MOMENTA = (0.5, 0.99)  # of Adam, whose usual ones are too slow where the aim moves
SHARE = 0.1  # of being recognised, beside the mismatch of moments


class Critic:
    """Observed releases, and a discriminator that sees what moments do not.

    One network for each tensor of a release reads it position by position, and then all positions
    together, whether they are pixels of a map, tokens or one vector. Spectral normalisation keeps
    it from being sure of itself, so that who is recognised learns from it how to be less so.

    Args:
        observed: Tensors of at least two releases.
        generator: Of the network's first weights.

    References:
        Goodfellow et al. "Generative adversarial nets". NeurIPS 2014. arXiv:1406.2661
        Miyato et al. "Spectral normalization for generative adversarial networks". ICLR 2018.
        arXiv:1802.05957
    """

    def __init__(self, observed: Tensors, *, generator: torch.Generator) -> None:
        """Standardise the observations, and make networks that know nothing yet."""
        self._moments = Reference(observed, "moments")
        self._observed = self._moments.standardised(observed)
        with isolated(generator):
            made = [_network(*rows.shape[1:]) for rows in self._observed]
        self._networks = nn.ModuleList(made).to(observed[0].device)
        self._optimizer = torch.optim.Adam(
            self._networks.parameters(), lr=LEARNING_RATE, betas=MOMENTA
        )

    def mismatch(self, released: Tensors, *, generator: torch.Generator) -> Tensor:
        """How well a batch of releases is recognised, after one more lesson on it; differentiable.

        To that the mismatch of `Reference`'s moments is added: a shadow that followed the
        discriminator alone was inverted worse than one that followed the moments alone.
        """
        rows = self._moments.standardised(released)
        self._learn([part.detach() for part in rows], generator)
        recognised = _surprise([-verdict for verdict in self._verdicts(rows)])
        return self._moments.mismatch(released, generator=generator) + SHARE * recognised

    def _learn(self, strange: list[Tensor], generator: torch.Generator) -> None:
        drawn = torch.randint(len(self._observed[0]), (len(strange[0]),), generator=generator)
        known = [rows[drawn] for rows in self._observed]
        refused = [-verdict for verdict in self._verdicts(known)]
        loss = _surprise(refused) + _surprise(self._verdicts(strange))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def _verdicts(self, rows: list[Tensor]) -> list[Tensor]:
        """Log-odds that each tensor was observed."""
        return [net(part) for net, part in zip(self._networks, rows, strict=True)]


def _network(channels: int, positions: int) -> nn.Module:
    return nn.Sequential(
        spectral_norm(nn.Conv1d(channels, WIDTH, 1)),
        nn.LeakyReLU(LEAK),
        spectral_norm(nn.Conv1d(WIDTH, FEW, 1)),
        nn.LeakyReLU(LEAK),
        nn.Flatten(),
        spectral_norm(nn.Linear(FEW * positions, WIDTH)),
        nn.LeakyReLU(LEAK),
        spectral_norm(nn.Linear(WIDTH, 1)),
    )


def _surprise(odds: list[Tensor]) -> Tensor:
    """Cross-entropy of log-odds that ought to be low, the mean of each tensor."""
    return torch.stack([functional.softplus(part).mean() for part in odds]).sum()
