"""Numbers and adversaries in words."""

from collections.abc import Mapping
from itertools import starmap
from typing import Any

from splitbench.guarantee import Guarantee
from splitbench.leaderboard import Board, Exit, Row
from splitbench.leaderboard.simulable import parse
from splitbench.record import Interval

DASH = "—"
MINUS = "\N{MINUS SIGN}"
HEADLINE = {
    "client": "weights",
    "defense": "known",
    "auxiliary": "same",
    "query_budget": None,
    "observations": 1,
    "key": "known",
}
SELECTION = (
    "LikelihoodSelection"  # by name: the class would bring scipy and all of the attack along
)
MEASURES = {
    "L": "L",
    "lpips": "LPIPS",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "psnr_db": "PSNR",
    "top1": "Top-1",
    "rank1_faces": "rank 1 by face",
    "rank1_pixels": "rank 1 by pixels",
}
ROUNDING = 1 / 255**2 / 12  # mean squared error of images in [0, 1] that are stored as bytes
BLIND_LUCK = 0.01  # how often a guess without any message is good enough, for bounds on guarantees
FREE_POINTS = 0.02  # loss of accuracy that the lead text calls cheap


def signed(text: str) -> str:
    """With a true minus sign."""
    return text.replace("-", MINUS)


def rate(value: float | None, digits: int = 2) -> str:
    """A number around 0 to 1."""
    if value is None:
        return DASH
    text = f"{value:.{digits}f}"
    return signed(text if float(text) else f"{0:.{digits}f}")


def percent(value: float | None) -> str:
    """A rate in percent; what is not quite all or nothing is not rounded to it."""
    if value is None:
        return DASH
    text = f"{100 * value:.0f}"
    if text == "100" and value < 1:
        text = f"{100 * value:.1f}" if value < 0.9995 else "more than 99.9"
    elif text in ("0", "-0"):
        text = "0" if abs(value) < 0.0005 else f"{100 * value:.1f}"
    return signed(f"{text}\N{NO-BREAK SPACE}%")


def points(value: float | None) -> str:
    """A difference of rates in percentage points, with its sign."""
    if value is None:
        return DASH
    text = f"{100 * value:+.1f}"
    return signed("0.0" if text in ("+0.0", "-0.0") else text)


def between(interval: Interval | None, digits: int = 2) -> str:
    """The interval, without the estimate."""
    if interval is None:
        return DASH
    return f"{rate(interval.low, digits)} to {rate(interval.high, digits)}"


def size(value: float | None) -> str:
    """Bytes, in units of 1000."""
    if value is None:
        return DASH
    for unit, factor in (("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g}\N{NO-BREAK SPACE}{unit}"
    return f"{value:.0f}\N{NO-BREAK SPACE}B"


def milliseconds(value: float | None) -> str:
    """A duration in milliseconds, without the unit."""
    if value is None:
        return DASH
    return f"{value:.2g}" if value < 10 else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def place(row: Row) -> str:
    """The places that the intervals allow."""
    if row.rank is None:
        return DASH
    first, last = row.rank
    return str(first) if first == last else f"{first}\N{EN DASH}{last}"


def adversary(threat: Mapping[str, Any]) -> str:
    """What sets an adversary apart from the headline one; empty for the headline one."""
    words = []
    if threat.get("defense") == "hidden":
        words.append("naive")
    budget = threat.get("query_budget")
    if budget is not None:
        words.append(f"{budget} queries")
    elif threat.get("client") == "query":
        words.append("query access")
    if threat.get("client") == "architecture":
        words.append("no queries")
    elif threat.get("client") == "none":
        words.append("no access to the client")
    if threat.get("auxiliary") == "none":
        words.append("no auxiliary data")
    elif threat.get("auxiliary") == "shifted":
        words.append(f"other images ({threat.get('auxiliary_data', 'unknown')})")
    if threat.get("observations", 1) != 1:
        words.append(f"{threat['observations']} observations")
    if threat.get("key") == "secret":
        words.append("without the key")
    known = {*HEADLINE, "auxiliary_data"}
    words += [f"{k}={threat[k]}" for k in sorted(threat) if k not in known]
    return ", ".join(words)


def means(threat: Mapping[str, Any]) -> str:
    """The adversary in a sentence."""
    client = {
        "weights": "has the weights of the client",
        "query": "may send images through the device, without the weights of the client",
        "architecture": "knows what the client looks like, and has neither weights nor answers",
        "none": "has no access to the client",
    }.get(threat.get("client", ""), "has unknown access to the client")
    budget = threat.get("query_budget")
    limit = "" if budget is None else f" (at most {budget} images may be sent)"
    defense = {
        "known": "knows the defense and trains on defended releases",
        "hidden": "does not expect the defense and trains on undefended releases",
    }.get(threat.get("defense", ""), "may or may not know the defense")
    data = {
        "same": "has images of the same kind, none of them a target",
        "shifted": f"has images of another kind ({threat.get('auxiliary_data', 'unknown')})",
        "none": "has no images of its own",
    }.get(threat.get("auxiliary", ""), "has unknown data")
    count = threat.get("observations", 1)
    seen = "sees one release of each target" if count == 1 else f"sees {count} of each target"
    secret = threat.get("key") == "secret"
    key = ", under a secret key that it lacks and its own devices do not have" if secret else ""
    return f"The adversary {client}{limit}, {defense}, {data}, and {seen}{key}."


def attacker_selected(row: Row) -> Interval | None:
    """Leakage of the attack that chooses per image among others' guesses; None without one."""
    found = [e.leakage for e in row.attacks if parse(e.expression)[0] == SELECTION and e.leakage]
    return max(found, key=lambda leak: leak.mean, default=None)


def measure(name: str) -> str:
    """What a measure of guesses is called."""
    return MEASURES.get(name, name.replace("_", " "))


def channels(row: Row) -> str:
    """How near guesses come to the true image by every measure, each with its best attack."""
    found = [(measure(name), one) for name, one in sorted(row.quality.items()) if one.normalised]
    told = [
        f"{name} {rate(one.normalised.mean)} ({one.attack.replace('_', ' ')})"
        for name, one in found
        if one.normalised
    ]
    best = (row.best or "").replace("_", " ")
    return "; ".join([f"L {rate(row.raw.mean if row.raw else None)} ({best})", *told])


def led(board: Board) -> list[tuple[Row, str, str, Interval]]:
    """Who knows more than whom, in words, and what that adds to L."""
    headline = "the headline adversary"
    return [
        (row, adversary(row.message.threat) or headline, adversary(one.over) or headline, one.gain)
        for row in board.rows
        for one in row.leads
    ]


def stays(board: Board) -> list[Row]:
    """Rows of devices that answer some images by themselves."""
    return [row for row in board.rows if row.share_sent and row.raw]


def answered(row: Row) -> str:
    """Shares of the images that leave by each exit, and how many of these rightly."""
    return ", ".join(starmap(_left, row.exits.items())) or "—"


def _left(name: str, exit_: Exit) -> str:
    right = percent(exit_.accuracy.mean if exit_.accuracy else None)
    return f"{percent(exit_.share.mean)} at {name} ({right} right)"


def promised(board: Board) -> list[Row]:
    """Rows with a formal guarantee, one for all cuts at which the same is promised."""
    formal = [row for row in board.rows if row.guarantee.formal]
    return list({(series(row), row.guarantee): row for row in reversed(formal)}.values())[::-1]


def rebuilt_at_most(guarantee: Guarantee) -> float | None:
    """How often anybody can rebuild what blind luck rebuilds 1 % of the time; None if unproved."""
    return guarantee.best_reconstruction(prior=BLIND_LUCK) if guarantee.formal else None


def certified(board: Board) -> dict[str, list[tuple[Row, Guarantee]]]:
    """Certificates that say more than that images are rounded to bytes, and their rows.

    By what they rest on, in words: the prior, and whether attacks may be held against it.
    """
    found: dict[str, list[tuple[Row, Guarantee]]] = {}
    for row in board.rows:
        for one in row.certificates:
            if one.least_mse is not None and one.least_mse > ROUNDING:
                premise = f"images drawn from {one.prior} ({binding(one)})"
                found.setdefault(premise, []).append((row, one))
    return found


def bound(certificate: Guarantee) -> str:
    """What is certified, without the prior."""
    return certificate.statement.removesuffix(f" under {certificate.prior}")


def binding(certificate: Guarantee) -> str:
    """Whether attacks may be held against it, in a few words."""
    if certificate.binds:
        return "binds every attack here"
    return f"an assumption, no bound on attacks: {certificate.applies}"


def small(value: float | None) -> str:
    """A number of any size, such as an epsilon or a delta; 0 is exact."""
    return DASH if value is None else signed(f"{value:.3g}")


def named(row: Row) -> str:
    """The defense within a sentence."""
    return f"{row.kind} ({row.setting})" if row.setting else row.kind


def series(row: Row) -> str:
    """Label of a row among all rows of its board: the defense, and the adversary if unusual."""
    extra = adversary(row.message.threat)
    return f"{row.label} ({extra})" if extra else row.label


def lead(board: Board) -> list[str]:
    """What the numbers say, in plain sentences computed from the rows."""
    measured = [r for r in board.rows if r.closed is not None and not adversary(r.message.threat)]
    plain = [r for r in measured if r.undefended]
    sentences = [*_depth(plain), *_defenses(measured, plain), *_naivety(board)]
    return sentences or ["No row of this board has a leakage under the headline adversary yet."]


def _depth(plain: list[Row]) -> list[str]:
    found = [(row, row.closed) for row in plain if row.closed is not None]
    if not found:
        return []
    (first, shallow), (last, deep) = found[0], found[-1]
    text = (
        "Without a defense, an attacker who sees what leaves the device after "
        f"{first.cut} recovers {percent(shallow.mean)} of the variance of a private image"
    )
    if percent(shallow.low) != percent(shallow.high):
        text += f" ({percent(0.95)} interval {percent(shallow.low)} to {percent(shallow.high)})"
    if last.cut == first.cut:
        return [f"{text}."]
    return [f"{text}; after {last.cut}, the deepest cut, {percent(deep.mean)}."]


def _defenses(measured: list[Row], plain: list[Row]) -> list[str]:
    """The best cheap defense at the shallowest cut that has ranked ones."""
    for reference in plain:
        rivals = [r for r in measured if r.cut == reference.cut and r.rank is not None]
        if rivals:
            return [_best_of(rivals, reference)]
    return []


def _best_of(rivals: list[Row], reference: Row) -> str:
    cheap = [
        (row.closed, row.accuracy_drop, row)
        for row in rivals
        if row.closed is not None
        and row.accuracy_drop is not None
        and row.accuracy_drop.mean <= FREE_POINTS
    ]
    leak, loss, best = min(cheap, key=lambda c: c[0].mean, default=(None, None, None))
    plain = reference.closed
    if leak is None or loss is None or best is None or plain is None or leak.high >= plain.low:
        return (
            f"After {reference.cut}, none of {len(rivals)} defended systems leaks less than the "
            f"undefended one for at most {100 * FREE_POINTS:.0f} percentage points of accuracy."
        )
    return (
        f"After {reference.cut}, the defense that leaks least for at most "
        f"{100 * FREE_POINTS:.0f} percentage points of accuracy is {named(best)}: "
        f"{percent(leak.mean)} instead of {percent(plain.mean)}, for {_cost(loss.mean)}"
        f"{_of_the_sent(best)}."
    )


def _of_the_sent(row: Row) -> str:
    """What a mean over images hides of which nothing is sent."""
    if row.raw_sent is None or row.share_sent is None:
        return ""
    share, leak = percent(row.share_sent.mean), percent(row.raw_sent.mean)
    return f"; only {share} of the images are sent, and of these it leaks {leak}"


def _cost(drop: float) -> str:
    shown = f"{abs(100 * drop):.1f}"
    if shown == "0.0":
        return "no measurable loss of accuracy"
    return f"{shown} points {'less' if drop > 0 else 'more'} accuracy"


def _naivety(board: Board) -> list[str]:
    naive = [r for r in board.rows if r.naive and r.adaptive_gain is not None]
    if not naive:
        return []

    def size_of(row: Row) -> float:
        return 0.0 if row.adaptive_gain is None else row.adaptive_gain.mean

    widest = max(naive, key=size_of)
    if widest.adaptive_gain is None or widest.raw is None or widest.adaptive_gain.low <= 0:
        return []
    honest = widest.raw.mean + widest.adaptive_gain.mean
    blind = max(widest.raw.mean, 0.0)
    return [
        f"An evaluation that ignores the defense flatters it: against {named(widest)} after "
        f"{widest.cut}, an attacker that does not expect it recovers {percent(blind)}, one "
        f"that does {percent(honest)}."
    ]
