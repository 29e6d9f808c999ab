"""The places where a model can be cut, and the two sides of a cut."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from torch import Tensor, nn

from splitbench.release import Tensors, TensorSpec
from splitbench.split.blocks import block_ends, ends
from splitbench.split.parts import Parts
from splitbench.split.steps import observe

Granularity = Literal["module", "tensor", "all"]


class CutError(ValueError):
    """There is no such cut."""


@dataclass(frozen=True)
class Cut:
    """A place where a model is split.

    Attributes:
        name: The graph node after which it is cut, as torchvision's feature extraction names it
            (``layer2.1.relu_1``). ``input`` is before everything (the server runs the whole
            model), ``output`` after everything (the server does nothing).
        index: Place among the cuts of granularity ``all``; 0 is ``input``.
        tensors: The tensors that cross, in topological order, named by their nodes.
        head_flops, tail_flops: Floating point operations of client and server for one example.
            One multiply-add is 2. Matrix products, convolutions and attention count; element-wise
            operations, normalisation and pooling do not.
        head_params, tail_params: Parameters of client and server; one that both need counts on
            both sides, one that is used twice on one side counts once.
    """

    name: str
    index: int
    tensors: tuple[TensorSpec, ...]
    head_flops: int
    tail_flops: int
    head_params: int
    tail_params: int

    @property
    def bytes(self) -> int:
        """Bytes per example before any codec."""
        return sum(spec.bytes for spec in self.tensors)

    @property
    def is_input(self) -> bool:
        """Whether the device releases the image itself."""
        return self.name == "input"

    @property
    def is_output(self) -> bool:
        """Whether the device runs the whole model."""
        return self.name == "output"


@dataclass(frozen=True)
class Split:
    """One model, cut once.

    Attributes:
        cut: Where.
        client: Images ``(b, c, h, w)`` to a tuple of tensors, one for each of ``cut.tensors``.
        server: That tuple to what the model returns (logits ``(b, classes)``).
    """

    cut: Cut
    client: nn.Module
    server: nn.Module


class Cuttable:
    """A traced model: lists its cuts and makes the parts, tracing only once.

    `cuts`, `split` and `Taps` are the short way for a single question.

    Args:
        model: Takes one batch of images. It is traced in eval mode and never changed.
        example: Images ``(b, ...)``, b >= 1; only shape, type and device are looked at.

    Raises:
        UntraceableError: The forward cannot be made a graph; the message names the cause.
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self._parts = Parts(*observe(model, example))
        self._block_ends = block_ends(model, self._parts.steps)

    def cuts(self, granularity: Granularity = "tensor") -> list[Cut]:
        """List the cuts, from the image to the model's output.

        Along the topological order of the graph there is one candidate after each node: what
        later nodes need of the values so far, as far as they depend on the image's pixels. A
        candidate is a cut if all of these are tensors with a batch axis; nodes after which the
        same tensors live as before (assertions, parameters, shapes) add no cut of their own.

        Args:
            granularity: ``all`` of them; ``tensor``, those that carry a single tensor; or
                ``module``, those of these where a block of the model ends (see `block_ends`),
                besides ``input`` and ``output``.

        Raises:
            ValueError: Another granularity.
        """
        if granularity not in get_args(Granularity):
            raise ValueError(f"granularity {granularity!r}: choose from {get_args(Granularity)}")
        chosen = self._places.items()
        if granularity == "all":
            return [cut for _, cut in chosen]
        single = [(place, cut) for place, cut in chosen if len(cut.tensors) == 1]
        if granularity == "tensor":
            return [cut for _, cut in single]
        ends_here = self._block_ends
        return [c for place, c in single if c.is_input or c.is_output or place in ends_here]

    def find(self, cut: str | Cut) -> Cut:
        """Look a cut up by its name, or by the path of a module: the cut where that ends.

        Raises:
            CutError: No such cut, or a `Cut` of another model or image shape.
        """
        return self._places[self._place(cut)]

    def split(self, cut: str | Cut) -> Split:
        """Make client and server: ``server(client(x)) == model(x)``, bitwise on a CPU.

        Both are in eval mode and have their own copies of the model's parameters, under the
        model's names. Values that do not depend on the pixels (parameters, shapes, an expanded
        class token) are not sent: the server makes them anew, with the batch size of what it
        receives and otherwise for the image shape of the example.

        Raises:
            CutError: As `find`.
        """
        place = self._place(cut)
        return Split(self._places[place], self._parts.client(place), self._parts.server(place))

    def middle(self, near: str | Cut, far: str | Cut) -> nn.Module:
        """What lies between two cuts: features at the nearer one to those at the farther one.

        ``server_far(middle(client_near(x))) == model(x)``, bitwise on a CPU. As of `split`: in eval
        mode, with its own copies of the parameters, under the model's names.

        Raises:
            CutError: As `find`, or the second cut does not come after the first.
        """
        begin, end = self._place(near), self._place(far)
        if end <= begin:
            names = self._places[begin].name, self._places[end].name
            raise CutError(f"nothing lies between {names[0]!r} and {names[1]!r}, in this order")
        return self._parts.middle(begin, end)

    def taps(self, names: Iterable[str]) -> tuple[dict[str, Cut], nn.Module]:
        """One client for several cuts, as `Taps` wraps it: images to a dict of tuples."""
        places = {self.find(name).name: self._place(name) for name in names}
        if not places:
            raise CutError("no cut named, need at least one")
        cuts = {name: self._places[place] for name, place in places.items()}
        return cuts, self._parts.taps(places)

    def _place(self, wanted: str | Cut) -> int:
        name = wanted if isinstance(wanted, str) else wanted.name
        named = {cut.name: place for place, cut in self._places.items()}
        place = named.get(name, self._end(name))
        if place is None:
            raise CutError(self._unknown(name, list(named)))
        if isinstance(wanted, Cut) and wanted != self._places[place]:
            raise CutError(
                f"cut {name!r} releases {self._places[place].tensors} here, but the cut given "
                f"releases {wanted.tensors}: it belongs to another model or image shape"
            )
        return place

    def _end(self, path: str) -> int | None:
        """The cut at the end of a module (or after a node) that is not called so itself."""
        steps = self._parts.steps
        exact = [step.index for step in steps if step.name == path]
        places = exact or ends(path, steps)
        return places[-1] if places and places[-1] in self._places else None

    def _unknown(self, name: str, known: list[str]) -> str:
        every = [step.name for step in self._parts.steps]
        if name in every:
            reason = "after it lives something that cannot be sent, or nothing new."
        else:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = " or ".join(map(repr, close))
            reason = f"did you mean {hint}?" if close else "nothing is called like that."
        return (
            f"no cut {name!r}: {reason} The {len(known)} cuts go from {known[0]!r} to "
            f"{known[-1]!r}; list them with `splitbench cuts granularity=all`, or "
            "splitbench.split.cuts(model, example, granularity='all')"
        )

    @cached_property
    def _places(self) -> dict[int, Cut]:
        """The cuts by the place of their node."""
        places: dict[int, Cut] = {}
        known: set[tuple[int, ...]] = set()
        for step in self._parts.steps:
            live = tuple(s.index for s in self._parts.live(step.index))
            if live not in known and self._parts.is_cut(step.index):
                places[step.index] = self._cut(step.index, len(places))
                known.add(live)
        return places

    def _cut(self, place: int, index: int) -> Cut:
        parts, steps = self._parts, self._parts.steps
        head, tail = parts.client_steps([place]), parts.server_steps(place)
        done = not any(steps[i].dependent for i in tail)
        specs = [step.spec for step in parts.live(place)]
        return Cut(
            name="output" if done and place > 0 else steps[place].name,
            index=index,
            tensors=tuple(spec for spec in specs if spec is not None),
            head_flops=sum(steps[i].flops for i in head),
            tail_flops=sum(steps[i].flops for i in tail),
            head_params=_parameters(steps[i].parameters for i in head),
            tail_params=_parameters(steps[i].parameters for i in tail),
        )


def _parameters(parts: Iterable[Mapping[int, int]]) -> int:
    return sum({identity: n for part in parts for identity, n in part.items()}.values())


def cuts(model: nn.Module, example: Tensor, *, granularity: Granularity = "tensor") -> list[Cut]:
    """List the cuts of a model; see `Cuttable.cuts`.

    Args:
        model: Takes one batch of images; not changed.
        example: At least one image; only shape, type and device are looked at.
        granularity: ``module``, ``tensor`` or ``all``.

    Raises:
        UntraceableError: The forward cannot be made a graph.
    """
    return Cuttable(model, example).cuts(granularity)


def split(model: nn.Module, example: Tensor, cut: str | Cut) -> Split:
    """Cut a model once; see `Cuttable.split`.

    Raises:
        CutError: No such cut.
        UntraceableError: The forward cannot be made a graph.
    """
    return Cuttable(model, example).split(cut)


class Taps(nn.Module):
    """One client for several cuts: a single forward yields the features of all of them.

    It runs what the deepest cuts need and nothing beyond, in eval mode, on its own copy of the
    model's parameters.

    Args:
        model: Takes one batch of images; not changed.
        example: At least one image; only shape, type and device are looked at.
        names: The cuts, as `split` takes them.

    Attributes:
        cuts: The cuts by their names.
        forwards: How often it has run.

    Raises:
        CutError: No such cut, or none named.
        UntraceableError: The forward cannot be made a graph.
    """

    def __init__(self, model: nn.Module, example: Tensor, names: Iterable[str]) -> None:
        super().__init__()
        self.cuts, self.client = Cuttable(model, example).taps(names)
        self.forwards = 0

    def forward(self, images: Tensor) -> dict[str, Tensors]:
        """Features of images ``(b, c, h, w)`` at each cut, equal to what its client returns."""
        self.forwards += 1
        features: dict[str, Tensors] = self.client(images)
        return features
