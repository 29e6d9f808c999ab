"""Which releases an adversary can compute from which others, decided from records alone."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

# The adversary's own images, each more useful than the one before.
IMAGES = ("none", "shifted", "same")
# Records of before there were keys name none: nobody lacked one.
KEYS = ("secret", "known")
# What each adversary knows of the client.
KNOWLEDGE: Mapping[str, frozenset[str]] = {
    "none": frozenset(),
    "architecture": frozenset({"architecture"}),
    "query": frozenset({"answers"}),
    "weights": frozenset({"architecture", "answers", "weights"}),
}


@dataclass(frozen=True, kw_only=True)
class Message:
    """A release under one adversary, as its records describe it.

    Attributes:
        cut: Where the model is split.
        cut_index: Its depth.
        defense: Constructor expression.
        codec: Constructor expression.
        threat: Fields of the threat model.
        traits: Of the defense and the codec, see `Record`; what is unknown is not assumed.
    """

    cut: str
    cut_index: int
    defense: str
    codec: str
    threat: Mapping[str, Any]
    traits: Mapping[str, Any]

    @property
    def exact(self) -> bool:
        """The release equals the features of the undefended client, bit for bit."""
        return bool(self.traits.get("exact", False))


def follows(message: Message, other: Message) -> bool:
    """Whether whoever attacks `message` could have computed, or been content with, `other`.

    Then `message` leaks at least as much as `other`. True in three cases, and never by default:

    * Same system, and an adversary that knows less or sees fewer observations, and is not answered
      by another device.
    * `message` is exact, the adversary has the client's weights and knows the defense, and
      `other` is made from the same frozen client at the same or a deeper cut.
    * Same cut and codec, and the same defense with more of a knob whose settings are nested:
      more noise of a self-decomposable kind, or a quantiser whose cells are unions of cells; and
      an adversary that learns the client from the client (`_learns_from_client`).
    """
    if message == other:
        return False
    system = (message.cut, message.defense, message.codec)
    if system == (other.cut, other.defense, other.codec):
        return knows_more(message.threat, other.threat) and _asks_alike(message, other)
    if dict(message.threat) != dict(other.threat) or message.threat.get("defense") != "known":
        return False
    if message.exact and message.threat.get("client") == "weights":
        frozen = not other.traits.get("changes_client", True)
        return frozen and other.cut_index >= message.cut_index
    beside = message.cut == other.cut and _learns_from_client(message)
    return beside and _is_weaker(message, other)


def knows_more(more: Mapping[str, Any], less: Mapping[str, Any]) -> bool:
    """Whether the first adversary can do all that the second can, and is not the same."""

    def rank(threat: Mapping[str, Any]) -> tuple[Any, ...]:
        known = KNOWLEDGE[threat.get("client", "none")]
        budget = threat.get("query_budget") if "answers" in known else 0
        return (
            known,
            threat.get("defense") == "known",
            IMAGES.index(threat.get("auxiliary", "same")),
            float("inf") if budget is None else budget,
            threat.get("observations", 1),
            KEYS.index(threat.get("key", "known")),
        )

    first, second = rank(more), rank(less)
    return first != second and all(a >= b for a, b in zip(first, second, strict=True))


def parse(expression: str) -> tuple[str, dict[str, Any]]:
    """Name and keywords of a constructor expression; nothing is evaluated but literals.

    A keyword that is not a literal keeps its source; what is not a call has no keywords.
    """
    name, keywords = _parsed(expression)
    return name, dict(keywords)


@cache
def _parsed(expression: str) -> tuple[str, Mapping[str, Any]]:
    """The same; remembered, as every row of a board is held against every other."""
    try:
        call = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError):
        return expression, {}
    if not isinstance(call, ast.Call):
        return expression, {}
    keywords: dict[str, Any] = {}
    for keyword in call.keywords:
        try:
            keywords[str(keyword.arg)] = ast.literal_eval(keyword.value)
        except ValueError:
            keywords[str(keyword.arg)] = ast.unparse(keyword.value)
    return ast.unparse(call.func), keywords


def _asks_alike(message: Message, other: Message) -> bool:
    """Whether answers that the second adversary gets can be had by the first.

    One that does not expect the defense is answered as if there were none. Who expects it can
    leave it out with the client's weights, those of before it was trained included; a device that
    is asked does not.
    """
    expects = [one.threat.get("defense") == "known" for one in (message, other)]
    answered = "answers" in KNOWLEDGE[other.threat.get("client", "none")]
    return not answered or expects[0] == expects[1] or message.threat.get("client") == "weights"


def _learns_from_client(message: Message) -> bool:
    """Whether the adversary knows the client by its weights or its answers, not by the server.

    Noise can be added to the release of a target and to every answer, which costs no query. But
    each setting has a server of its own, tuned to its noise, and that of the other setting cannot
    be made from this one's. It tells nothing of a target to whom the client is known. Whoever
    learns the client from what the server expects, with less noise has another teacher, and not
    both.
    """
    return message.threat.get("client") in ("query", "weights")


def _is_weaker(message: Message, other: Message) -> bool:
    """Same defense in all but the knob, which protects less here, in a way that nests."""
    knob, nested = message.traits.get("knob"), message.traits.get("nested", "no")
    if nested not in ("all", "multiples") or knob is None:
        return False
    (name, mine), (other_name, theirs) = parse(message.defense), parse(other.defense)
    (codec, packed), (other_codec, other_packed) = parse(message.codec), parse(other.codec)
    if (name, codec) != (other_name, other_codec) or knob not in mine or knob not in theirs:
        return False
    weak, strong = mine.pop(knob), theirs.pop(knob)
    if mine != theirs or {**packed, knob: 0} != {**other_packed, knob: 0}:
        return False
    if not all(isinstance(v, int | float) for v in (weak, strong)):
        return False
    if nested == "multiples":
        return bool(0 < strong < weak and weak % strong == 0)
    if not message.traits.get("lossless", False):
        return False  # noise cannot be added to what was rounded after the noise
    # 0 is where a noise is off: that release is another kind of message.
    up = message.traits.get("protects") == "up"
    return bool(0 < weak < strong if up else 0 < strong < weak)
