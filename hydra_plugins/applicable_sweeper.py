"""``hydra/sweeper: applicable``: a sweep over choices drops keywords that a choice does not have.

Hydra finds sweepers in this package only (it is a namespace that plugins share).
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf


class ApplicableSweeper(BasicSweeper):  # type: ignore[misc]  # hydra is not typed
    """Hydra's basic sweeper, for choices with different keywords.

    ``defense=none,gaussian_noise defense.noise_std=0.5,2`` means three jobs, not four of which two
    fail: a keyword is dropped from the jobs whose choice does not have it, provided that another
    swept choice does (so a misspelt keyword still fails), and jobs that become equal run once.

    Args:
        max_batch_size: Jobs that are launched together; None for all.
        params: What is swept, as overrides by key; the command line comes on top.
        also: More sweeps, each in place of `params`, for jobs that are no product of choices. All
            jobs are launched together.
    """

    def __init__(
        self,
        max_batch_size: int | None = None,
        params: Mapping[str, str] | None = None,
        also: Sequence[Mapping[str, str]] | None = None,
    ) -> None:
        super().__init__(max_batch_size, dict(params or {}))
        self.also = [dict(sweep) for sweep in also or ()]

    def split_arguments(
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """The jobs, in batches that are launched together.

        Args:
            overrides: Those of `params`, then those of the command line.
            max_batch_size: Jobs of a batch; None for all.
        """
        jobs = expand(overrides, configured=len(self.params), also=self.also)
        size = max_batch_size or len(jobs) or 1
        return [jobs[i : i + size] for i in range(0, len(jobs), size)]


def expand(
    overrides: list[Override], *, configured: int = 0, also: Sequence[Mapping[str, str]] = ()
) -> list[list[str]]:
    """Expand sweeps as Hydra does, then prune each job; equal jobs are left out.

    Args:
        overrides: What is swept, and what all jobs share.
        configured: How many of them, from the first, the sweeps in `also` replace.
        also: More sweeps.
    """
    jobs: list[list[str]] = []
    for sweep in (overrides, *([*_parsed(more), *overrides[configured:]] for more in also)):
        swept = choices_of(sweep)
        batches = BasicSweeper.split_arguments(sweep, None)
        for job in (prune(job, swept) for batch in batches for job in batch):
            if job not in jobs:
                jobs.append(job)
    return jobs


def _parsed(sweep: Mapping[str, str]) -> list[Override]:
    parsed: list[Override] = OverridesParser.create().parse_overrides(
        [f"{key}={value}" for key, value in sweep.items()]
    )
    return parsed


def choices_of(overrides: list[Override]) -> dict[str, list[str]]:
    """All choices that a command line makes for each group."""
    return {
        o.get_key_element().lstrip("+~"): list(o.sweep_string_iterator())
        if o.is_sweep_override()
        else [str(o.get_value_element_as_str())]
        for o in overrides
        if "." not in o.get_key_element()
    }


def prune(job: list[str], swept: dict[str, list[str]]) -> list[str]:
    """Drop the overrides of one job that its choices do not have but other swept ones do."""
    chosen = dict(o.split("=", 1) for o in job if "=" in o and "." not in o.split("=", 1)[0])
    kept = []
    for override in job:
        group, _, rest = override.split("=", 1)[0].partition(".")
        key = rest.partition(".")[0]
        here = keywords(group, chosen.get(group, ""))
        elsewhere = [keywords(group, other) for other in swept.get(group, [])]
        if not key or here is None or key in here or not any(key in (o or ()) for o in elsewhere):
            kept.append(override)
    return kept


@cache  # a product of sweeps asks for the same few files a hundred thousand times
def keywords(group: str, choice: str) -> frozenset[str] | None:
    """Keys of one group file, those it inherits included; None where there is no such file."""
    file = files("configs") / group / f"{choice}.yaml"
    if not choice or not file.is_file():
        return None
    node = OmegaConf.create(file.read_text())
    if not isinstance(node, DictConfig):
        return None
    found = {str(k) for k in node if k != "defaults"}
    for entry in node.get("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            found |= keywords(group, entry) or frozenset()
    return frozenset(found)


def as_sweep(arguments: list[str]) -> list[str]:
    """Turn ``defense.noise_std=0.5`` into a sweep over one value where ``defense`` is swept.

    Hydra composes the configuration once with all fixed overrides before it looks at the swept
    ones; a keyword that only some choices have must not take part in that.
    """
    parser = OverridesParser.create()
    parsed = [
        (a, parser.parse_override(a) if "=" in a and a[0] != "-" else None) for a in arguments
    ]
    swept = {o.get_key_element() for _, o in parsed if o is not None and o.is_sweep_override()}
    return [
        f"{o.get_key_element()}=choice({a.split('=', 1)[1]})"
        if o is not None
        and not o.is_sweep_override()
        and "." in o.get_key_element()
        and o.get_key_element().partition(".")[0] in swept
        else a
        for a, o in parsed
    ]


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="applicable",
    node={
        "_target_": f"{ApplicableSweeper.__module__}.{ApplicableSweeper.__qualname__}",
        "max_batch_size": None,
        "params": None,
        "also": None,
    },
    provider="splitbench",
)
