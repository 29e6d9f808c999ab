"""What a request costs: closed forms for operations, memory and bytes."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import nn

from defenses.dropout import Dropout
from defenses.no_defense import NoDefense
from experiments.costs import costs_of
from experiments.page.render import render
from experiments.page.spreadsheet import to_csv
from splitbench.codecs.float32 import Float32
from splitbench.defense import Defense
from splitbench.deployment import Deployment
from splitbench.leaderboard import Board, Evidence, boards
from splitbench.memory import peak_bytes
from splitbench.operations import operations
from splitbench.split import cuts, split
from tests.unit.records import cells

TIMING = {"runs": 2, "warmup": 0, "threads": 1}


def small_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    ).eval()


def deployed(defense: Defense) -> Deployment:
    model, example = small_net(), torch.zeros(1, 1, 8, 8)
    cut = next(c for c in cuts(model, example) if c.tensors[0].shape == (4, 8, 8))
    plain = NoDefense(), Float32()
    return Deployment(split(model, example, cut.name), defense, Float32(), (), plain)


def costs(defense: Defense, images: torch.Tensor) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    return costs_of(deployed(defense), images, timing=TIMING, generator=generator)


def test_operations_of_a_convolution_are_two_for_each_multiply_add() -> None:
    layer = nn.Conv2d(3, 5, 3, padding=1, bias=False)
    assert operations(lambda: layer(torch.zeros(1, 3, 8, 8))) == 2 * 5 * 8 * 8 * 3 * 9


def test_tensors_that_are_freed_do_not_add_up() -> None:
    start = torch.zeros(1000)

    def chain() -> torch.Tensor:
        value = start
        for _ in range(20):
            value = value + 1
        return value

    assert peak_bytes(chain) == 2 * 4000  # the one that is read, and the one that is made


def test_tensors_that_are_kept_add_up() -> None:
    start = torch.zeros(1000)
    assert peak_bytes(lambda: [start + i for i in range(20)]) == 20 * 4000


def test_views_and_tensors_from_before_are_free() -> None:
    start = torch.zeros(1000)
    assert peak_bytes(lambda: start.view(10, 100).t()) == 0
    assert peak_bytes(lambda: start.add_(1)) == 0


def test_memory_of_a_client_is_its_parameters_and_its_live_features() -> None:
    found = costs(NoDefense(), torch.rand(3, 1, 8, 8))
    parameters = 4 * 9 + 4
    assert found["client_params"] == parameters
    assert found["client_flops"] == 2 * 4 * 64 * 9
    assert found["server_flops"] == 2 * 256 * 10
    features = 4 * 64 * 4
    least = 4 * parameters + features
    assert least <= found["client_memory_bytes"] <= least + features


def test_a_defense_that_needs_memory_is_charged_for_it() -> None:
    images = torch.rand(3, 1, 8, 8)
    plain, masked = costs(NoDefense(), images), costs(Dropout(rate=0.5), images)
    assert masked["client_memory_bytes"] >= plain["client_memory_bytes"] + 4 * 64 * 4


def test_entropy_coding_shrinks_what_repeats_and_nothing_else() -> None:
    torch.manual_seed(0)
    raw = 4 * 64 * 4 + 64  # with its header
    dense = costs(NoDefense(), torch.rand(3, 1, 8, 8))["payload_bytes_entropy"]
    sparse = costs(Dropout(rate=0.9), torch.rand(3, 1, 8, 8))["payload_bytes_entropy"]
    assert sparse < 0.5 * raw
    assert sparse < dense <= raw


@pytest.mark.parametrize("key", ["client_ms", "server_ms", "encode_ms", "decode_ms"])
def test_times_are_measured(key: str) -> None:
    assert costs(NoDefense(), torch.rand(1, 1, 8, 8))[key] > 0


KNOWN = {"server_flops": 2.5e6, "defense_seconds": 12.0, "client_memory_bytes": 4096.0}


def found_with(cost: Mapping[str, float], diagnostics: Mapping[str, float]) -> Sequence[Board]:
    """A board whose records say what their systems cost."""
    made = [
        Evidence(dataclasses.replace(record, cost=cost, diagnostics=diagnostics), scores)
        for record, scores in cells(cuts=("relu1",), targets=24)
    ]
    return boards(made, resamples=100)


def test_rows_page_and_csv_show_what_a_system_costs() -> None:
    found = found_with(KNOWN, {"distance_correlation": 0.25})
    row = found[0].rows[0]
    assert row.costs == KNOWN
    assert row.dependence == 0.25
    page = render(found)
    assert "What it costs" in page
    assert "2.5 M" in page
    line = next(csv.DictReader(io.StringIO(to_csv(found))))
    assert float(line["server_flops"]) == 2.5e6
    assert float(line["distance_correlation"]) == 0.25


def test_records_that_know_no_costs_say_nothing_of_them() -> None:
    found = found_with({}, {})
    assert not any(row.costs for row in found[0].rows)
    assert "What it costs" not in render(found)
