"""Finding a secret key from unpaired releases: what `KeyRecovery` computes, not an attack.

Two crowds sent images of the same kind: the adversary's own behind a key that it knows, and other
users behind one that it does not. Statistics that turn with the key, seen on both sides, say how
the one key is turned into the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

ITERATIONS = 300  # most steps of the alternation; it stops where the rotation does
STILL = 1e-6  # change of the rotation at which it does
SLACK = 1.25  # how much more a crowd may vary along an axis than the other does by chance
TINY = 1e-12


@dataclass(frozen=True)
class Crowd:
    """Releases of many images, and what the server answered to each.

    Attributes:
        units: ``(n, k, r)``, see `KeyAction.unfold`, double precision.
        answers: Probabilities of the classes, ``(n, c)``.
    """

    units: Float[Tensor, "n k r"]
    answers: Float[Tensor, "n c"]

    def weights(self) -> Float[Tensor, "n m"]:
        """Shares of each image in ``1 + c`` averages: over all, and over each answer."""
        everyone = self.answers.new_ones(len(self.answers), 1)
        raw = torch.cat([everyone, self.answers], dim=1)
        return raw / raw.sum(0).clamp(min=TINY)


def undo(units: Float[Tensor, "b k r"], found: Mapping[str, Tensor]) -> Float[Tensor, "b k r"]:
    """Units as they would be under the adversary's own key; what was found says how."""
    if "order" in found:
        return units[:, found["order"]]
    if "to" in found:
        inside = torch.einsum("kq,bkr->bqr", found["from"], units - found["from_mean"])
        return torch.einsum("kq,bqr->bkr", found["to"], inside) + found["to_mean"]
    return units


def matched_order(own: Crowd, seen: Crowd) -> dict[str, Tensor]:
    """The order of the units that best matches their statistics.

    Each unit is known by its mean and deviation, at every place that the key leaves alone, over
    all images and over those with each answer. The assignment with the least squared distance is
    found exactly, in time ``k ** 3``.

    Returns:
        ``order``: which seen unit stands where the own one does, ``(k,)``.
    """
    _, order = linear_sum_assignment(-(_profile(own) @ _profile(seen).T).cpu().numpy())
    return {"order": torch.from_numpy(order)}


def matched_rotation(own: Crowd, seen: Crowd, *, components: int) -> dict[str, Tensor]:
    """The rotation that best matches first and second moments, over all and for each answer.

    Only the leading principal axes of either side are matched; along all others the mean is
    taken, for they cannot be told apart in noise. So it is, in part, along axes on which the seen
    crowd varies more than the own one once it is turned: what is too much is not theirs.

    Moments of the first order turn as ``T m``, those of the second as ``T A T'``: the rotation
    with the largest inner product of both sides is approached by polar decompositions, each of
    the gradient at the one before, which never decreases it.

    Returns:
        ``from`` and ``to``, axes ``(k, q)`` on the seen and on the own side, and the means
        ``(k, r)`` of both, which are zero where there are no other axes.
    """
    scale = _centered(own.units).square().mean().sqrt().clamp(min=TINY)
    axes = [_axes(crowd.units, components) for crowd in (own, seen)]
    count = min(a.shape[1] for a in axes)
    to, source = (a[:, :count] for a in axes)
    (first, second), (seen_first, seen_second) = (
        _moments(torch.einsum("kq,nkr->nqr", a, crowd.units / scale), crowd.answers)
        for a, crowd in ((to, own), (source, seen))
    )
    linear = seen_first @ first.T
    rotation = _nearest(linear)
    for _ in range(ITERATIONS):
        gradient = linear + torch.einsum("mij,jk,mlk->il", seen_second, rotation, second)
        turned = _nearest(gradient)
        still = float((turned - rotation).abs().max()) < STILL
        rotation = turned
        if still:
            break
    trust = _trust(_centered(own.units), to, _centered(seen.units), source @ rotation)
    # Where nothing is left out no mean has to stand in, and its own error would only be added.
    whole = count == own.units.shape[1] and bool((trust == 1).all())
    means = {"from_mean": seen.units.mean(0), "to_mean": own.units.mean(0)}
    return {
        "from": source @ rotation,
        "to": to * trust,
        **{name: torch.zeros_like(mean) if whole else mean for name, mean in means.items()},
    }


def _profile(crowd: Crowd) -> Float[Tensor, "k f"]:
    """Mean and deviation of each unit under each average."""
    weights = crowd.weights()
    mean = torch.einsum("nkr,nm->kmr", crowd.units, weights)
    square = torch.einsum("nkr,nm->kmr", crowd.units.square(), weights)
    deviation = (square - mean.square()).clamp(min=0).sqrt()
    return torch.cat([mean, deviation], dim=1).flatten(1)


def _moments(
    units: Float[Tensor, "n q r"], answers: Float[Tensor, "n c"]
) -> tuple[Float[Tensor, "q f"], Float[Tensor, "m q q"]]:
    """Means, covariances with the answers, and second moments over all and for each answer."""
    mean, count = units.mean(0), len(units)
    centered = units - mean
    answer = (answers - answers.mean(0)) / answers.std(0).clamp(min=1e-3)
    moved = torch.einsum("nqr,nc->qcr", centered, answer).flatten(1) / count
    shares = torch.cat([answers.new_ones(count, 1), answers], dim=1) / count
    second = torch.stack(
        [torch.einsum("n,nqr,npr->qp", share, centered, centered) for share in shares.T]
    )
    return torch.cat([mean, moved], dim=1), second


def _trust(
    own: Float[Tensor, "n k r"],
    to: Float[Tensor, "k q"],
    seen: Float[Tensor, "m k r"],
    source: Float[Tensor, "k q"],
) -> Float[Tensor, " q"]:
    """What to keep of each matched axis: the variance that it should have over what it has."""
    wanted, got = (
        torch.einsum("kq,nkr->nqr", axes, units).square().mean((0, 2))
        for axes, units in ((to, own), (source, seen))
    )
    return (SLACK * wanted / got.clamp(min=TINY)).clamp(max=1)


def _axes(units: Float[Tensor, "n k r"], components: int) -> Float[Tensor, "k q"]:
    """Leading principal axes; all of them where there are no more than `components` units."""
    rows = _centered(units).movedim(1, -1).flatten(0, 1)
    if rows.shape[1] <= max(components, len(rows)):
        axes = torch.linalg.eigh(rows.T @ rows)[1]
    else:
        values, vectors = torch.linalg.eigh(rows @ rows.T)
        kept = values > TINY * values[-1].clamp(min=TINY)
        axes = rows.T @ (vectors[:, kept] / values[kept].sqrt())
    leading: Tensor = axes.flip(1)[:, :components]
    return leading


def _centered(units: Float[Tensor, "n k r"]) -> Float[Tensor, "n k r"]:
    """Deviations from the mean."""
    return units - units.mean(0)


def _nearest(matrix: Float[Tensor, "q q"]) -> Float[Tensor, "q q"]:
    """The orthogonal factor of the polar decomposition."""
    left, _, right = torch.linalg.svd(matrix)
    factor: Tensor = left @ right
    return factor
