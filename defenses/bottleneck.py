"""A narrow passage at a cut: the modules that a bottleneck adds to both sides, not a defense."""

from collections.abc import Sequence

from torch import Tensor, nn

from splitbench.release import Tensors, TensorSpec

HIDDEN = 32  # width of the nonlinear correction, which runs on the server


class NarrowingClient(nn.Module):
    """A client that ends in one narrow linear map per live tensor.

    Args:
        body: The client up to the cut, images to features.
        specs: The features.
        channels: Channels that are released, at most those that are there.
        stride: Side of the patch that becomes one released position, for image-like features.
    """

    def __init__(
        self, body: nn.Module, specs: Sequence[TensorSpec], *, channels: int, stride: int
    ) -> None:
        super().__init__()
        self.body = body
        self.narrow = nn.ModuleList(narrowing(spec, channels, stride) for spec in specs)

    def forward(self, images: Tensor) -> Tensors:
        """Images ``(b, c, h, w)`` to narrow features."""
        features = self.body(images)
        return tuple(narrow(f) for narrow, f in zip(self.narrow, features, strict=True))


class WideningServer(nn.Module):
    """A server that begins by restoring the shapes that it was made for.

    Args:
        tail: The server after the cut, features to logits.
        specs: The features.
        channels: As on the client.
        stride: As on the client.
    """

    def __init__(
        self, tail: nn.Module, specs: Sequence[TensorSpec], *, channels: int, stride: int
    ) -> None:
        super().__init__()
        self.widen = nn.ModuleList(_widen(spec, channels, stride) for spec in specs)
        self.tail = tail

    def restore(self, tensors: Tensors) -> Tensors:
        """Narrow features to the shapes that the tail takes."""
        return tuple(widen(t) for widen, t in zip(self.widen, tensors, strict=True))

    def forward(self, tensors: Tensors) -> Tensor | Tensors:
        """Narrow features to what the tail makes: logits, or features of a later cut."""
        made: Tensor | Tensors = self.tail(self.restore(tensors))
        return made


class WidenImages(nn.Module):
    """A linear map from each position to its patch, and a correction that sees the neighbours."""

    def __init__(self, channels: int, shape: tuple[int, int, int], *, side: int) -> None:
        super().__init__()
        c, self.height, self.width = shape
        self.up = nn.ConvTranspose2d(channels, c, side, stride=side)
        # Computed on the few narrow positions; only its output has the full size.
        self.correct = nn.Sequential(
            nn.Conv2d(channels, HIDDEN, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(HIDDEN, c, side, stride=side),
        )

    def forward(self, narrow: Tensor) -> Tensor:
        """``(b, channels, h', w')`` to ``(b, c, h, w)``."""
        restored: Tensor = self.up(narrow) + self.correct(narrow)
        return restored[..., : self.height, : self.width]


class WidenVectors(nn.Module):
    """A linear map on the last axis, and a correction."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(channels, width)
        self.correct = nn.Sequential(
            nn.Linear(channels, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, width)
        )

    def forward(self, narrow: Tensor) -> Tensor:
        """``(b, ..., channels)`` to ``(b, ..., width)``."""
        restored: Tensor = self.up(narrow) + self.correct(narrow)
        return restored


def narrowing(spec: TensorSpec, channels: int, stride: int) -> nn.Module:
    """A linear map from features of this shape to few channels, over patches of positions.

    Raises:
        ValueError: The features are neither image-like nor tokens nor a vector, or have fewer
            channels.
    """
    available = _available(spec)
    if channels > available:
        raise ValueError(
            f"channels={channels}: '{spec.name}' has {available}, and a bottleneck is no wider "
            "than what it narrows; choose fewer, or another cut"
        )
    if len(spec.shape) == 3:
        side = _side(spec, stride)
        height, width = spec.shape[1:]
        return nn.Sequential(
            nn.ZeroPad2d((0, -width % side, 0, -height % side)),  # patches cover the border too
            nn.Conv2d(available, channels, kernel_size=side, stride=side),
        )
    return nn.Linear(available, channels)


def _widen(spec: TensorSpec, channels: int, stride: int) -> nn.Module:
    if len(spec.shape) == 3:
        c, h, w = spec.shape
        return WidenImages(channels, (c, h, w), side=_side(spec, stride))
    return WidenVectors(channels, _available(spec))


def _side(spec: TensorSpec, stride: int) -> int:
    return min(stride, *spec.shape[1:])


def _available(spec: TensorSpec) -> int:
    """Channels of image-like features ``(c, h, w)``, width of tokens ``(t, d)`` and vectors."""
    if len(spec.shape) not in (1, 2, 3):
        raise ValueError(
            f"'{spec.name}' has shape {spec.shape} per example: a bottleneck takes vectors (d,), "
            "tokens (t, d) or images (c, h, w); choose another cut"
        )
    return spec.shape[0] if len(spec.shape) == 3 else spec.shape[-1]
