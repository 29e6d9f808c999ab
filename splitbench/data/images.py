"""Labelled images in memory, and the four roles that data plays."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from splitbench.normal_prior import NormalPrior

ROLES = ("train", "auxiliary", "calibration", "target")


@dataclass(frozen=True, eq=False)
class LabeledImages:
    """A set of labelled images.

    Attributes:
        pixels: ``(n, c, h, w)``, uint8 as stored on disk, or float in [0, 1].
        labels: Class of each image, int64 ``(n,)``.
        classes: Class names; ``labels`` index into it.
        identities: Person (or other entity) of each image, int64 ``(n,)``, where known.
        attributes: Other properties of each image by name, int64 ``(n,)``, values from 0 up.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    identities: Tensor | None = None
    attributes: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4:
            raise ValueError(f"pixels must be (n, c, h, w), got {tuple(self.pixels.shape)}")
        if len(self.pixels) != len(self.labels):
            raise ValueError(f"{len(self.pixels)} images but {len(self.labels)} labels")
        if self.identities is not None and len(self.identities) != len(self.pixels):
            raise ValueError(f"{len(self.pixels)} images but {len(self.identities)} identities")
        for name, values in self.attributes.items():
            if tuple(values.shape) != (len(self.pixels),):
                raise ValueError(
                    f"{len(self.pixels)} images but attribute '{name}' is {tuple(values.shape)}"
                )

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        c, h, w = self.pixels.shape[1:]
        return c, h, w

    def images(self, index: Tensor | slice | None = None) -> Tensor:
        """Images as float32 in [0, 1], shape ``(k, c, h, w)``."""
        chosen = self.pixels if index is None else self.pixels[index]
        return chosen.float() / 255 if chosen.dtype == torch.uint8 else chosen

    def subset(self, index: Tensor | slice) -> "LabeledImages":
        """Select examples."""
        identities = None if self.identities is None else self.identities[index]
        return LabeledImages(
            self.pixels[index],
            self.labels[index],
            self.classes,
            identities,
            {name: values[index] for name, values in self.attributes.items()},
        )

    def to(self, device: torch.device | str) -> "LabeledImages":
        """The same images on another device."""
        return LabeledImages(
            self.pixels.to(device),
            self.labels.to(device),
            self.classes,
            None if self.identities is None else self.identities.to(device),
            {name: values.to(device) for name, values in self.attributes.items()},
        )

    def fingerprint(self) -> str:
        """SHA-256 of shape, pixels, labels and attributes: names this exact set, in this order."""
        digest = hashlib.sha256(repr((tuple(self.pixels.shape), self.pixels.dtype)).encode())
        digest.update(_bytes(self.pixels))
        digest.update(_bytes(self.labels))
        for name in sorted(self.attributes):
            digest.update(name.encode())
            digest.update(_bytes(self.attributes[name]))
        return digest.hexdigest()


@dataclass(frozen=True)
class Roles:
    """The four parts that no image may share.

    Attributes:
        train: The victim's and the defense's data.
        auxiliary: The adversary's data.
        calibration: The judge's data: floors, independent classifier, operating points.
        target: The images under attack; task accuracy is measured on them too.
        dropped: Images of the source that are in no part: how many, by reason.
        prior: The law that the images under attack are drawn from; None where nobody knows it.
    """

    train: LabeledImages
    auxiliary: LabeledImages
    calibration: LabeledImages
    target: LabeledImages
    dropped: Mapping[str, int] = field(default_factory=dict)
    prior: NormalPrior | None = None

    def to(self, device: torch.device | str) -> "Roles":
        """The same images on another device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in ROLES})

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each part."""
        return {name: getattr(self, name).fingerprint() for name in ROLES}


def _bytes(values: Tensor) -> bytes:
    content: bytes = values.cpu().contiguous().numpy().tobytes()
    return content


def join(parts: Sequence[LabeledImages]) -> LabeledImages:
    """All images of some parts in turn; what not every part knows about its images is lost."""
    shared = set.intersection(*({*part.attributes} for part in parts))
    known = [part.identities for part in parts if part.identities is not None]
    return LabeledImages(
        pixels=torch.cat([part.pixels for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
        classes=parts[0].classes,
        identities=torch.cat(known) if len(known) == len(parts) else None,
        attributes={
            name: torch.cat([part.attributes[name] for part in parts]) for name in sorted(shared)
        },
    )
