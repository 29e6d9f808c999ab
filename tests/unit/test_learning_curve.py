"""What an adversary finds with fewer images, on the rows with most of them and on the page."""

import dataclasses
import json
import re

import pytest

from experiments.page.learning import learning
from experiments.page.plots import curves_of, lines_of
from experiments.page.render import render
from splitbench.leaderboard import Evidence, boards
from tests.unit.records import SETTINGS, cells

KEEPS = {500: 0.3, 1000: 0.4, 2000: 0.5}


def one(record, images):
    roles = {**record.data_fingerprints, "auxiliary": f"sha{images}"}
    name = f"{record.cell_id}-{images}"
    return dataclasses.replace(
        record, cell_id=name, images={"auxiliary": images}, data_fingerprints=roles
    )


def evidence(images, cuts=("relu2", "relu3"), settings=SETTINGS[:2], **options):
    changed = tuple(dataclasses.replace(s, keeps=(KEEPS[images],) * 6) for s in settings)
    found = cells(settings=changed, cuts=cuts, attacks=("inverse_network",), targets=40, **options)
    return [Evidence(one(record, images), scores) for record, scores in found]


def boards_of(*sizes, **options):
    return boards([e for size in sizes for e in evidence(size, **options)], resamples=100)


@pytest.fixture(scope="module")
def found():
    return boards_of(2000, 500, 1000)


def test_rows_with_most_images_know_what_fewer_found(found):
    few, more, most = found
    assert not [row for board in (few, more) for row in board.rows if row.learning]
    for row in most.rows:
        same = [r for b in found for r in b.rows if (r.cut, r.label) == (row.cut, row.label)]
        assert row.learning == tuple(zip(KEEPS, (r.raw for r in same), strict=True))
        leaks = [leak.mean for _, leak in row.learning]
        assert leaks == sorted(leaks)
        assert leaks[0] < leaks[-1]


def test_a_row_that_only_one_size_has_has_no_curve():
    *_, most = boards([*evidence(500, cuts=("relu2",)), *evidence(1000)], resamples=100)
    assert {row.cut for row in most.rows if row.learning} == {"relu2"}


def test_sizes_are_compared_at_the_seeds_that_all_of_them_have(found):
    *_, most = boards([*evidence(500), *evidence(1000), *evidence(2000, seeds=2)], resamples=100)
    assert {row.seeds for row in most.rows} == {2}
    assert [row.learning for row in most.rows] == [row.learning for row in found[-1].rows]
    assert all(row.raw != row.learning[-1][1] for row in most.rows)


def test_one_size_is_no_curve(found):
    (alone,) = boards_of(2000)
    assert not [row for row in alone.rows if row.learning]
    assert learning(curves_of(alone, lines_of(alone))) is None
    assert "-images" not in re.sub(r"<script.*?</script>", "", render([alone]), flags=re.DOTALL)


@pytest.mark.parametrize("cuts", [("relu3",), ("relu2", "relu3")])
def test_each_row_is_drawn_once_in_the_look_of_its_line(cuts):
    *_, most = boards_of(500, 1000, 2000, cuts=cuts)
    lines = curves_of(most, lines_of(most))
    figure = learning(lines)
    assert len(figure.data) == len(most.rows)
    rows = [row for line in lines for row in line.rows]
    for trace, row in zip(figure.data, rows, strict=True):
        line = lines[trace.meta["line"]]
        assert row in line.rows
        assert (trace.line.color, trace.marker.symbol) == (line.colour, line.symbol)
        assert list(zip(trace.x, trace.y, strict=True)) == [(n, v.mean) for n, v in row.learning]
        low = [v.mean - below for v, below in zip_intervals(row, trace)]
        assert low == pytest.approx([v.low for _, v in row.learning])
        assert trace.text[-1] == (row.cut if len(cuts) > 1 else "")


def zip_intervals(row, trace):
    return zip((v for _, v in row.learning), trace.error_y.arrayminus, strict=True)


def test_the_page_has_the_figure_and_its_numbers(found):
    page = render(found)
    section = page.split('id="b3-images"')[1].split("</section>")[0]
    assert 'data-figure="b3-learning"' in section
    assert [f"{n:,}" for n in KEEPS] == re.findall(r'<th scope="col">([\d,]+)</th>', section)
    (source,) = re.findall(r'<script[^>]*id="b3-learning"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert len(json.loads(source)["data"]) == len(found[-1].rows)
    for row in found[-1].rows:
        for _, leak in row.learning:
            assert f"{leak.mean:.3f}" in section
    names = re.findall(r' id="([^"]*)"', page)
    assert len(names) == len({*names})
