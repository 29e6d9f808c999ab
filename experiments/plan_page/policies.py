"""What came of each policy while a network was played again, in words and numbers."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from experiments.plan_page.adapted import CLAIRVOYANT, STATIC, Adapted
from experiments.plan_page.drawing import COLOURS, LETTERS, Key
from experiments.plan_page.words import MARKS, long
from offloading.adaptation.replay import Replay

SAME = 0.005  # means that differ by less are called equal
OTHER = "…"


class Signs:
    """A letter and a colour for each plan that some policy uses, most used first.

    There are no more than the colours; the rest look alike.

    Args:
        adapted: What was played again.
    """

    def __init__(self, adapted: Adapted) -> None:
        used = Counter(n for each in adapted.moving for n in each.chosen.tolist())
        single = [int(each.chosen[0]) for each in adapted.static]
        order = [number for number, _ in used.most_common()]
        self.numbers = list(dict.fromkeys([*order[: len(COLOURS) - len(single)], *single, *order]))
        self.plans = adapted.replays[0].plans

    def letter(self, number: int) -> str:
        """Of the plan with this index in the menu."""
        place = self.numbers.index(number)
        return LETTERS[place] if place < len(COLOURS) else OTHER

    def colour(self, number: int) -> str:
        """Likewise."""
        place = self.numbers.index(number)
        return COLOURS[place] if place < len(COLOURS) else "var(--quiet)"

    def name(self, replay: Replay) -> str:
        """Of a policy; where it always takes the same plan, by the letter of the plan."""
        if replay.policy.startswith(STATIC):
            return f"{STATIC}{self.letter(int(replay.chosen[0]))}"
        return replay.policy

    def keys(self) -> Iterator[Key]:
        """The plans, for a legend."""
        for number in self.numbers[: len(COLOURS)]:
            yield Key(self.plans[number], self.colour(number), self.letter(number))
        others = len(self.numbers) - len(COLOURS)
        if others > 0:
            yield Key(f"{others} other plan{'s' if others > 1 else ''}", "var(--quiet)", OTHER)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One policy.

    Attributes:
        name: As in the figure.
        what: In a few words.
        mean_ms, p95_ms: Of all requests.
        regret_ms: Mean.
        late: Share of the requests; None where there is no deadline.
        changes: A minute.
    """

    name: str
    what: str
    mean_ms: float
    p95_ms: float
    regret_ms: float
    late: float | None
    changes: float


def rows(adapted: Adapted) -> Iterator[Row]:
    """One for each policy, in the order of the file."""
    signs = Signs(adapted)
    best = _best_single(adapted)
    for each in adapted.replays:
        what = ""
        if each.policy.startswith(STATIC):
            what = each.plans[int(each.chosen[0])]
            what += "; the best of these, as one knows afterwards" if each is best else ""
        elif each.policy == CLAIRVOYANT:
            what = "knows the network before it comes: the bound"
        yield Row(
            name=signs.name(each),
            what=what,
            mean_ms=float(each.latency_ms.mean()),
            p95_ms=float(np.quantile(each.latency_ms, 0.95)),
            regret_ms=max(each.mean_regret_ms, 0.0),
            late=each.violations if math.isfinite(each.deadline_ms) else None,
            changes=each.changes_per_minute,
        )


def reading(adapted: Adapted) -> str:
    """What changing the plan was worth, in a sentence."""
    first, best = adapted.adaptive[0], _best_single(adapted)
    rates, mean = first.mbps, float(first.latency_ms.mean())
    about = (
        f"Over {_long(float(first.seconds[-1] - first.seconds[0]))} with {rates.min():.2g} to "
        f"{rates.max():.3g} Mbit/s, the {first.policy} takes {long(mean)} ms on average"
    )
    bound = f"with these plans nobody can do better than {long(float(first.best_ms.mean()))} ms."
    if len(first.plans) == 1:
        return f"{about}; there is only one plan, so that nothing can be changed."
    if best is None:
        return f"{about}; {bound}"
    letter = Signs(adapted).letter(int(best.chosen[0]))
    single = float(best.latency_ms.mean())
    than = f"the best single plan ({letter}, {long(single)} ms)"
    share = mean / single - 1
    changes = f"{first.changes_per_minute:.1f} changes a minute"
    if abs(share) < SAME:
        return f"{about} with {changes}, as much as {than}; {bound}"
    if share > 0:
        return (
            f"{about} with {changes}, {share:.0%} more than {than}: changing does not pay here; "
            f"{bound}"
        )
    return f"{about} with {changes}, {-share:.0%} less than {than}; {bound}"


def rests(adapted: Adapted, per_point: int) -> str:
    """What the numbers rest on, and what a replay leaves out.

    Args:
        adapted: What was played again.
        per_point: Most requests for which one point of a line stands.
    """
    kind = "invented; nobody measured it" if adapted.invented else "a file"
    load = f", with {adapted.load}" if adapted.replays[0].waiting.any() else ""
    thinned = (
        f"; each point stands for {per_point} requests: mean rates, and the plan that most take"
        if per_point > 1
        else ""
    )
    return (
        f"{MARKS[adapted.basis]} {adapted.basis}: the plans' own times, with the rate of the "
        f"device's link from {adapted.trace} ({kind}){load}. Nothing was run: requests "
        "do not wait for each other, and a change takes no time, as both halves of every plan are "
        f"loaded; on the menu are {_menu(adapted)}{thinned}"
    )


def _menu(adapted: Adapted) -> str:
    count = len(adapted.replays[0].plans)
    plans = f"{count} plan{'s' if count > 1 else ''}"
    if not adapted.refused:
        return f"{plans}, all that the files have"
    many = adapted.refused > 1
    more = f"the other {adapted.refused} exceed" if many else "the other one exceeds"
    return f"{plans} within the limits ({adapted.limits}); {more} them"


def _best_single(adapted: Adapted) -> Replay | None:
    """Of the plans that are always taken, the one with the lowest mean."""
    return min(adapted.static, key=lambda each: float(each.latency_ms.mean()), default=None)


def _long(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
