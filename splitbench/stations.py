"""The way of an image through the device, from exit to exit."""

from collections.abc import Iterator

from torch import Tensor, nn

from splitbench.defense import Defense
from splitbench.exits import Answered
from splitbench.release import Tensors
from splitbench.split import walk


def stations(
    defense: Defense, client: nn.Module, images: Tensor
) -> Iterator[tuple[Tensors, Answered | None]]:
    """What the device has computed at each exit, and what it has answered by then.

    The first exit that is sure of an image answers it. Nothing is computed before it is asked for:
    who asks no further once all images are answered saves the rest of the client.

    Args:
        defense: Fitted.
        client: Of the split that it was fitted on.
        images: ``(b, c, h, w)``.

    Yields:
        Values of each of `Defense.stops` in turn and, last, the features at the cut, with the
        answers of all exits so far; None where the defense has no exits.
    """
    told: Answered | None = None
    reached = walk(client, images, defense.stops)
    for stop, values in zip((*defense.stops, None), reached, strict=True):
        if defense.exits:
            told = _after(told, _asked(defense, stop, values))
        yield values, told


def _asked(defense: Defense, stop: str | None, values: Tensors) -> Answered | None:
    return defense.answered(values) if stop is None else defense.answered_early(stop, values)


def _after(told: Answered | None, found: Answered | None) -> Answered | None:
    return told.before(found) if told is not None and found is not None else found
