"""Columns of the table of costs."""

from collections.abc import Callable

from experiments.page.details import Detail
from experiments.page.words import milliseconds, rate, size
from splitbench.leaderboard import Row


def _of(name: str, text: str, key: str, show: Callable[[float], str]) -> Detail:
    def value(row: Row) -> str:
        found = row.costs.get(key)
        return "—" if found is None else show(found)

    return Detail(name, text, value, lambda row: "" if key in row.costs else "not measured")


def count(value: float) -> str:
    """A large number in three digits, with thousands as k and millions as M."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds, or minutes where there are many."""
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


EXPENSES = (
    _of("Client parameters", "of the client and its defense", "client_params", count),
    _of("Client FLOPs", "of one request; one multiply-add is 2", "client_flops", count),
    _of("Client ms", "median of client and defense, on the CPU", "client_ms", milliseconds),
    _of(
        "Client memory",
        "parameters, and the tensors alive at the worst moment of one request",
        "client_memory_bytes",
        size,
    ),
    _of("Server parameters", "of the server", "server_params", count),
    _of("Server FLOPs", "of one request; one multiply-add is 2", "server_flops", count),
    _of("Server ms", "median of the server, on the CPU", "server_ms", milliseconds),
    _of(
        "Server memory",
        "parameters, and the tensors alive at the worst moment of one request",
        "server_memory_bytes",
        size,
    ),
    _of("Payload", "mean length of a message", "payload_bytes_mean", size),
    _of(
        "Entropy coded",
        "what is left of the payload after entropy coding, message by message",
        "payload_bytes_entropy",
        size,
    ),
    _of("Making it", "seconds that fitting the defense took", "defense_seconds", duration),
    Detail(
        "Dependence",
        "squared distance correlation of images and releases, corrected for bias: 0 where they are "
        "independent, 1 where they are alike",
        lambda row: rate(row.dependence),
        lambda row: "" if row.dependence is not None else "not measured",
    ),
)
