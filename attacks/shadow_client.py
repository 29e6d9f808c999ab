"""Inversion without a single query: train a stand-in for the client, and invert that."""

import copy
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attacks.feature_alignment import Reference
from attacks.feature_critic import Critic
from attacks.inverse_network import InverseNetwork
from splitbench.attack import Attack
from splitbench.progress import Progress
from splitbench.release import Release, Tensors
from splitbench.rng import normal_like
from splitbench.threat import Access, Surface

Alignment = Literal["moments", "mmd", "discriminator"]
ALIGNMENTS: tuple[Alignment, ...] = get_args(Alignment)


class ShadowClient(Attack):
    """Trains a shadow client that serves the server like the true one, then inverts the shadow.

    The shadow starts from fresh weights. Two things pull it towards the client that it never
    sees: the frozen server must classify labelled auxiliary images through it, and what it
    releases must be distributed like what other users were observed to release. A decoder is then
    trained on the shadow's releases, and applied to the targets'. The defense is simulated on the
    shadow's features, straight through where it has no gradient.

    No shadow is the client: its features are off, and a decoder that knows only them reads into
    the targets' releases what is not there. So it learns from the shadow's features with noise,
    and relies on what survives that.

    Where the auxiliary images are of another kind their labels mean nothing to the server, and
    only the distribution is matched.

    It falls to whatever makes many clients serve alike: at deep cuts the server and the
    distribution leave the client's features undetermined, and the decoder learns another code. A
    defense that changes the shapes of features is refused.

    Threat model:
        The client's architecture, labelled auxiliary images, the server's own half, and releases
        of other users (not their images). No query.

    Cost: `steps` passes of client and server, forward and backward, and those of the decoder.

    Args:
        decoder: The inverse network, with its settings.
        steps: Batches that the shadow learns from, > 0.
        batch_size: Images per step, > 1.
        learning_rate: Largest step of Adam; falls to zero along a cosine.
        alignment: What is matched of the distributions: ``moments`` (mean and deviation of each
            value, covariance of the channels), ``mmd`` (maximum mean discrepancy with Gaussian
            kernels of several widths) or ``discriminator`` (the moments, and what a network finds
            that learns meanwhile to tell the shadow's releases from observed ones).
        weight: Of the mismatch of distributions, relative to the cross-entropy, >= 0; 0 is the
            attack of the paper of 2019.
        observed: Releases of other users, > 1.
        noise: On the shadow's features while the decoder learns: standard deviation of each
            tensor's normal noise, in units of what its values deviate from image to image, >= 0.

    Deviations from the paper:
        He et al. train the shadow on cross-entropy alone and search for each image; here it is
        aligned as well, and inverted by a network. FORA, which does not ask the server, adds a
        discriminator to the maximum mean discrepancy; here it is added to the moments. SDAR shows
        its discriminators the labels of private images, too, which nobody has at inference, and
        holds the decoder's guesses to the look of images by another one, which is left out. The
        noise that the decoder learns with is added here.

    References:
        He, Zhang, Lee. "Model inversion attacks against collaborative inference". ACSAC 2019.
        doi:10.1145/3359789.3359824
        Xu et al. "A stealthy wrongdoer: feature-oriented reconstruction attack against split
        learning". CVPR 2024. arXiv:2405.04115
        Zhu et al. "Passive inference attacks on split learning via adversarial regularization".
        NDSS 2025. arXiv:2310.10483
        Gretton et al. "A kernel two-sample test". JMLR 2012; kernels as in Long et al. "Learning
        transferable features with deep adaptation networks". ICML 2015. arXiv:1502.02791

    Example:
        >>> Access.QUERY in ShadowClient(decoder=InverseNetwork()).needs
        False
    """

    needs: ClassVar[frozenset[Access]] = frozenset(
        {Access.ARCHITECTURE, Access.AUXILIARY, Access.SERVER}
    )

    _inverse: Attack

    def __init__(
        self,
        *,
        decoder: InverseNetwork,
        steps: int = 10_000,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        alignment: Alignment = "moments",
        weight: float = 10.0,
        observed: int = 2000,
        noise: float = 0.4,
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps={steps}: must be at least 1")
        if min(batch_size, observed) < 2:
            raise ValueError(f"batch_size={batch_size}, observed={observed}: at least 2 each")
        if not learning_rate > 0:
            raise ValueError(f"learning_rate={learning_rate}: must be positive")
        if alignment not in ALIGNMENTS:
            raise ValueError(f"alignment={alignment!r}: choose from {', '.join(ALIGNMENTS)}")
        if weight < 0:
            raise ValueError(f"weight={weight}: must not be negative")
        if noise < 0:
            raise ValueError(f"noise={noise}: must not be negative")
        self.decoder = decoder
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.alignment = alignment
        self.weight = weight
        self.observed = observed
        self.noise = noise

    def learn(self, surface: Surface, *, generator: torch.Generator) -> Iterator[Progress]:
        """Train the shadow, then the decoder on it."""
        total = self.steps + self.decoder.steps
        shadow = surface.architecture(generator=generator)
        for step, loss in enumerate(self._imitate(shadow, surface, generator), 1):
            yield Progress(step, total, loss)
        shadow.eval().requires_grad_(False)
        client = _Noisy(shadow, self.noise, generator) if self.noise else shadow
        inverse = copy.deepcopy(self.decoder)
        for progress in inverse.fitting(surface.simulated(client), generator=generator):
            yield Progress(self.steps + progress.step, total, progress.loss)
        self._inverse = inverse

    def export_state(self) -> Mapping[str, Tensor]:
        """Weights of the decoder; the shadow is not needed any more."""
        return self._inverse.export_state()

    def import_state(self, state: Mapping[str, Tensor], surface: Surface) -> None:
        """Take the decoder back."""
        super().import_state(state, surface)
        self._inverse = copy.deepcopy(self.decoder)
        self._inverse.import_state(state, surface)

    def recover(
        self, release: Release, surface: Surface, *, generator: torch.Generator
    ) -> Float[Tensor, "b c h w"]:
        """Decode as if the shadow had released it."""
        return self._inverse.recover(release, surface, generator=generator)

    def _imitate(
        self, shadow: nn.Module, surface: Surface, generator: torch.Generator
    ) -> Iterator[float]:
        """Train the shadow, yielding the loss of each step."""
        auxiliary, server = surface.auxiliary, surface.server
        reference = self._reference(surface, generator)
        understood = surface.threat.auxiliary == "same"
        if reference is None and not understood:
            raise ValueError(
                "weight=0: labels of images of another kind mean nothing to the server, and there "
                "is nothing else to learn from; want weight > 0"
            )
        optimizer = torch.optim.Adam(shadow.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        for _ in range(self.steps):
            index = torch.randint(len(auxiliary), (self.batch_size,), generator=generator)
            released = self._released(shadow(auxiliary.images(index)), surface)
            loss = torch.zeros(())
            if understood:
                loss = nn.functional.cross_entropy(server(released), auxiliary.labels[index])
            if reference is not None:
                loss = loss + self.weight * reference.mismatch(released, generator=generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            yield float(loss.detach())

    def _reference(self, surface: Surface, generator: torch.Generator) -> Reference | Critic | None:
        """What the shadow is aligned to; None where it is not."""
        if not self.weight:
            return None
        observed = surface.observed(self.observed).tensors
        if self.alignment == "discriminator":
            return Critic(observed, generator=generator)
        return Reference(observed, self.alignment)

    def _released(self, features: Tensors, surface: Surface) -> Tensors:
        """Protected and encoded features whose gradient is that of the features."""
        sent = surface.simulate(tuple(f.detach() for f in features)).tensors
        if [t.shape for t in sent] != [f.shape for f in features]:
            raise ValueError("the defense changes the shapes of features: no gradient passes it")
        return tuple(f + (t - f).detach() for f, t in zip(features, sent, strict=True))


class _Noisy(nn.Module):
    """A client whose features come with normal noise, as loud as told beside their variation."""

    def __init__(self, client: nn.Module, noise: float, generator: torch.Generator) -> None:
        super().__init__()
        self.client = client
        self._noise = noise
        self._generator = generator

    def forward(self, images: Tensor) -> Tensors:
        """Features of the client, with fresh noise."""
        features: Tensors = self.client(images)
        scales = [self._noise * (f - f.mean(0)).square().mean().sqrt() for f in features]
        return tuple(
            f + s * normal_like(f, self._generator) for f, s in zip(features, scales, strict=True)
        )
