"""The page, the tables and the words: true to the rows, safe, complete, and always the same."""

import csv
import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from attacks.likelihood_selection import LikelihoodSelection
from experiments.page import gallery, words
from experiments.page.flags import BY_NAME, FLAGS, explain
from experiments.page.gallery import data_uri, panels
from experiments.page.markdown import to_markdown
from experiments.page.plots import curves_of, embedded, figures, lines_of
from experiments.page.render import render
from experiments.page.spreadsheet import to_csv
from experiments.page.view import View
from splitbench.leaderboard import UNRANKED, Evidence, boards, families
from splitbench.link import Link
from splitbench.record import Interval
from tests.unit.records import CUTS, GALLERY, SETTINGS, World, cells

LINK = Link(name="wifi", up_mbps=45.74, down_mbps=85.73, rtt_ms=21.0)
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;|\n=1"
ROOT = Path(__file__).parents[2]


def made(**options):
    evidence = [Evidence(*pair) for pair in cells(**options)]
    return boards(evidence, link=LINK, resamples=100)


@pytest.fixture(scope="module")
def found():
    return made(cuts=CUTS[-3:], targets=40)


@pytest.fixture(scope="module")
def page(found):
    return render(found, link=LINK, commands={found[0].jobs[0]: "splitbench run defense=none"})


class Reader(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.ids, self.texts, self._open = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        self._open.append(tag)

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        if not {"script", "style"} & {*self._open}:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


def read(page):
    reader = Reader()
    reader.feed(page.replace(get_plotlyjs(), ""))  # megabytes in which nothing can be seen
    return reader


def visible(page):
    return read(page).text


def test_the_page_asks_nothing_of_the_network(page):
    reader = read(page)
    for _, attributes in reader.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (name, value[:60])
    assert not re.search(r"@import|url\(", (ROOT / "experiments/page/page.css").read_text())
    (policy,) = [a for a in reader.all("meta") if "http-equiv" in a]
    assert policy["content"].startswith("default-src 'none'")


def test_the_same_boards_give_the_same_bytes(found, page):
    again = made(cuts=CUTS[-3:], targets=40)
    assert (
        render(again, link=LINK, commands={again[0].jobs[0]: "splitbench run defense=none"}) == page
    )
    assert to_csv(again, link="wifi") == to_csv(found, link="wifi")
    assert to_markdown(again, link="wifi") == to_markdown(found, link="wifi")


def test_every_row_value_on_the_page_is_that_of_the_board(found, page):
    text = visible(page)
    for row in found[0].rows:
        assert row.cut in text
        assert row.kind in text
        assert words.rate(row.raw.mean) in text


def test_the_table_of_details_shows_tails_and_envelopes(found, page):
    details = page[page.index('class="matrix details"') :]
    text = visible(details[: details.index("</table>")])
    for row in found[0].rows:
        if row.raw is None:
            continue
        shown = (row.oracle_max.mean, row.oracle_null.mean, row.oracle_corrected.mean)
        for value in (row.raw.mean, *shown, row.p95.mean, row.p99.mean, row.cvar5.mean):
            assert words.rate(value) in text
        for tail in (row.p95, row.p99, row.cvar5):
            assert f'title="{words.between(tail)}"' in details
        low, high = row.share_above_half.low, row.share_above_half.high
        assert f'title="{words.percent(low)} to {words.percent(high)}"' in details
    assert "no attack of this row chooses among others" in details


def test_what_the_attacker_selects_is_shown_where_an_attack_does(found):
    assert words.attacker_selected(found[0].rows[0]) is None
    evidence = [
        Evidence(
            dataclasses.replace(
                record,
                cell=dataclasses.replace(
                    record.cell,
                    attack_name="likelihood_selection",
                    attack="LikelihoodSelection(members={'a': Ridge(), 'b': MeanImage()})",
                ),
            ),
            scores,
        )
        if record.cell.attack_name == "nearest_neighbor"
        else Evidence(record, scores)
        for record, scores in cells(settings=SETTINGS[1:2], cuts=CUTS[:1], targets=40)
    ]
    boards_found = boards(evidence, resamples=100)
    row = boards_found[0].rows[0]
    chosen = next(e.leakage for e in row.attacks if e.name == "likelihood_selection")
    assert words.attacker_selected(row) == chosen
    (line,) = csv.DictReader(io.StringIO(to_csv(boards_found)))
    assert float(line["attacker_selected"]) == pytest.approx(chosen.mean, rel=1e-5)
    assert float(line["best_single"]) == pytest.approx(row.raw.mean, rel=1e-5)


def test_links_inside_the_page_lead_somewhere_and_ids_are_unique(page):
    reader = read(page)
    assert len(reader.ids) == len(set(reader.ids))
    for attributes in reader.all("a"):
        if attributes["href"].startswith("#"):
            assert attributes["href"][1:] in reader.ids


def test_images_and_figures_have_text_for_those_who_cannot_see_them(page):
    reader = read(page)
    assert reader.all("img")
    assert all(a.get("alt") for a in reader.all("img"))
    plots = [a for _, a in reader.tags if "data-figure" in a]
    assert len(plots) == 3
    assert all(a["role"] == "img" and a["aria-label"] for a in plots)
    assert all(a["data-figure"] in reader.ids for a in plots)


def test_tables_have_headings_that_a_keyboard_can_sort_by(page):
    table = page[page.index('class="rows"') :]
    head = table[: table.index("</thead>")]
    assert head.count('<th scope="col"') == head.count("<button") + 1
    assert 'aria-sort="ascending"' in head


def test_hostile_names_stay_text_everywhere():
    settings = (
        SETTINGS[0],
        dataclasses.replace(SETTINGS[5], name=HOSTILE, expression=f"Evil(x={HOSTILE!r})"),
    )
    evidence = [
        Evidence(
            dataclasses.replace(
                record,
                environment={HOSTILE: HOSTILE},
                unavailable={"lpips": HOSTILE},
                claimed={HOSTILE: 1.0},
                flags=(*record.flags, HOSTILE),
                cell=dataclasses.replace(record.cell, cut=f"{HOSTILE}{record.cell.cut}"),
            ),
            scores,
        )
        for record, scores in cells(settings=settings, cuts=CUTS[-2:], targets=40, data=HOSTILE)
    ]
    found = boards(evidence, link=LINK, resamples=100)
    made = render(found, link=LINK, commands={found[0].jobs[0]: HOSTILE})
    tame = render(boards([Evidence(*p) for p in cells(settings=SETTINGS[:1], targets=40)]))
    reader = read(made)
    assert len(reader.all("script")) == len(read(tame).all("script")) == 5
    assert not [a for _, a in reader.tags if any(name.startswith("on") for name in a)]
    assert all(a["src"].startswith("data:image/png") for a in reader.all("img"))
    assert "<script>alert(1)" in reader.text
    figure = figures(found[0], lines_of(found[0]))["depth"]
    assert "<" not in figure
    traces = json.loads(figure)["data"]
    # Plotly reads a little HTML in its texts: names arrive there escaped as well.
    assert not any("<script" in t or "<img" in t for trace in traces for t in trace["text"])
    markdown = to_markdown(found)
    assert "<" not in markdown
    tables = [block for block in markdown.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1


def test_a_value_that_a_spreadsheet_would_run_is_quoted():
    found = made(settings=SETTINGS[:1], cuts=CUTS[:1], targets=40, data="=HYPERLINK(0)")
    (line,) = csv.DictReader(io.StringIO(to_csv(found)))
    assert line["data"] == "'=HYPERLINK(0)"


def test_json_in_a_script_element_cannot_end_it():
    text = embedded({"a": "</script><!--&\u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!--&\u2028"}


def test_nothing_is_ever_shown_as_nan_or_none(found, page):
    for text in (visible(page), to_markdown(found)):
        assert not re.search(r"\b(nan|inf|None)\b", text)
    values = {value for line in csv.reader(io.StringIO(to_csv(found))) for value in line}
    assert not {"nan", "inf", "-inf", "None"} & values


def test_markdown_has_every_attack_of_every_row_and_the_best_in_bold(found):
    text = to_markdown(found)
    table = text[text.index("What every attack found") :].split("\n\n")[1].splitlines()
    names = [cell.strip().replace(" ", "_") for cell in table[0].strip("|").split("|")][3:]
    assert len(table) - 2 == len(found[0].rows)
    for line, row in zip(table[2:], found[0].rows, strict=True):
        cells = dict(zip(names, [c.strip() for c in line.strip("|").split("|")][3:], strict=True))
        for entry in row.attacks:
            shown = cells.pop(entry.name)
            if entry.leakage is None:
                assert shown == ("failed" if entry.failed else "—")
            else:
                assert shown.strip("*") == words.rate(entry.leakage.mean)
            assert shown.startswith("**") == (entry.name == row.best)
        assert set(cells.values()) <= {"—"}
    floors = {e.name for row in found[0].rows for e in row.attacks if e.floor}
    assert floors
    assert set(names[-len(floors) :]) == floors


def test_missing_values_are_dashes_with_their_reason(page):
    assert 'title="the AlexNet weights are not installed; see docs/metrics.md">—' in page
    assert "LPIPS: the AlexNet weights are not installed" in visible(page)


def test_a_failed_cell_is_shown_with_its_error(found, page):
    assert "1 failed" in visible(page)
    assert "LinAlgError: the normal equations are singular" in visible(page)
    assert "LinAlgError: the normal equations are singular" in to_markdown(found)
    assert "ridge: LinAlgError" in to_csv(found)


def test_a_row_of_failures_is_shown_with_its_error():
    evidence = [
        Evidence(dataclasses.replace(record, status="failed", error="RuntimeError: no memory"))
        for record, _ in cells(settings=SETTINGS[1:2], cuts=CUTS[:1], targets=40)
    ]
    page = render(boards(evidence))
    assert "failed: RuntimeError: no memory" in visible(page)
    assert not [a for _, a in read(page).tags if "data-figure" in a]


def test_naive_rows_are_marked_and_kept_out_of_the_ranking(found, page):
    table = page[page.index('class="rows"') :]
    body = table[: table.index("</table>")]
    ranked = [r for r in found[0].rows if not r.naive]
    assert body.count("<tr data-cut") == len(ranked) < len(found[0].rows)
    assert "naive, never ranked" in visible(page)
    naive = [r for r in found[0].rows if r.naive]
    for row in naive:
        assert words.rate(row.adaptive_gain.mean) in visible(page)


def test_a_protocol_for_demonstrations_says_that_it_does_not_rank(found, page):
    assert "not a ranking" in visible(page)
    standard = made(settings=SETTINGS[:2], cuts=CUTS[:1], targets=40, protocol="standard-1")
    assert "not a ranking" not in visible(render(standard))


def test_several_boards_have_a_heading_and_figures_of_their_own(found):
    both = [*found, *made(settings=SETTINGS[:2], cuts=CUTS[:2], targets=40, data="faces")]
    made_page = render(both)
    assert "le_net5 on faces" in visible(made_page)
    assert len([a for _, a in read(made_page).tags if "data-figure" in a]) == 6
    assert len(read(made_page).ids) == len(set(read(made_page).ids))


def test_the_gallery_shows_originals_and_every_best_guess_with_its_leakage(found):
    board = found[0]
    shown = panels(board, lines_of(board))
    assert [p.cut for p in shown] == list(board.cuts)
    for panel in shown:
        original, *guesses = panel.strips
        assert original.row is None
        assert len(original.pictures) == GALLERY
        assert len(guesses) == len(SETTINGS)
        for strip in guesses:
            assert [p.caption for p in strip.pictures] == [words.rate(v) for v in strip.row.shown]


def test_of_many_settings_the_gallery_shows_one_of_each_kind_and_folds_the_rest(monkeypatch):
    monkeypatch.setattr(gallery, "FEW", 2)
    found = made(cuts=CUTS[-1:], targets=40)
    board = found[0]
    (panel,) = panels(board, lines_of(board))
    _, *shown = panel.strips
    assert panel.others
    assert len(shown) + len(panel.others) == len(board.rows)
    kinds = [(strip.row.kind, strip.row.naive) for strip in shown]
    assert len(kinds) == len(set(kinds))
    assert {(strip.row.kind, strip.row.naive) for strip in panel.others} <= set(kinds)
    worth = {id(row) for one in families(board) for row in one.at.values() if row}
    for one in families(board):
        if any(one.at.values()):
            (strip,) = [s for s in shown if (s.row.kind, s.row.naive) == (one.kind, False)]
            assert id(strip.row) in worth
    page = render(found, link=LINK, commands={})
    assert f"{len(panel.others)} other settings of these defenses</summary>" in page


def test_gallery_images_are_the_pixels_of_the_scores():
    import base64

    import numpy as np
    from PIL import Image

    image = (World(targets=8).truth[0] * 255).round().astype("uint8")
    for planes in (image, np.repeat(image, 3, axis=0)):
        content = base64.b64decode(data_uri(planes).partition(",")[2])
        pixels = np.asarray(Image.open(io.BytesIO(content)))
        assert (pixels.reshape(28, 28, -1).transpose(2, 0, 1) == planes).all()


def test_figures_draw_each_line_with_the_closed_values_and_their_intervals(found):
    board, lines = found[0], lines_of(found[0])
    traces = json.loads(figures(board, lines)["depth"])["data"]
    assert len(traces) == len(lines) + 1  # the floor
    for line, trace in zip(lines, traces, strict=False):
        assert trace["y"] == pytest.approx([r.closed.mean for r in line.rows])
        assert trace["error_y"]["array"] == pytest.approx(
            [r.closed.high - r.closed.mean for r in line.rows]
        )
        assert trace["visible"] is (line.turn == 0)


def test_figures_show_one_adversary_until_another_is_asked_for(found, page):
    view = View(found[0], 0, {})
    assert view.adversaries == [("", True), ("naive", False)]
    buttons = read(page).all("button")
    asking = {b["data-adversary"]: b["aria-pressed"] for b in buttons if "data-adversary" in b}
    assert asking == {"": "true", "naive": "false"}
    hidden = [b["data-of"] for b in buttons if "data-line" in b and "hidden" in b]
    shown = [b["data-of"] for b in buttons if "data-line" in b and "hidden" not in b]
    assert set(hidden) == {"naive"}
    assert set(shown) == {""}
    assert len(hidden) + len(shown) == len(view.curves)


def test_where_there_is_one_adversary_nobody_is_asked_which():
    made_page = render(made(settings=SETTINGS[:1], cuts=CUTS[:2], targets=40))
    assert not [b for b in read(made_page).all("button") if "data-adversary" in b]


def test_every_setting_is_drawn_as_the_curve_of_its_defense():
    (board,) = made(cuts=CUTS[-1:], targets=40)
    view = View(board, 0, {})
    assert len(view.lines) > len(view.curves)
    curve_of = {id(row): curve for curve in view.curves for row in curve.rows}
    for line in view.lines:
        (row,) = line.rows
        curve = curve_of[id(row)]
        assert (line.symbol, line.colour, line.dash) == (curve.symbol, curve.colour, curve.dash)
        assert view.line_of(row) is line


def test_the_reference_comes_first_and_lines_differ_in_shape_and_colour(found):
    lines = lines_of(found[0])
    assert lines[0].rows[0].undefended
    assert len({(line.symbol, line.dash) for line in lines}) == len(lines)
    assert len({(line.colour, line.turn) for line in lines}) == len(lines)
    colours = {}
    for line in lines:
        colours.setdefault(line.rows[0].label, set()).add(line.colour)
    assert all(len(same) == 1 for same in colours.values())  # whoever attacks
    assert [line.name for line in lines if "noise_std" in line.name] == [
        "gaussian noise noise_std=0.5",
        "gaussian noise noise_std=2.0",
        "gaussian noise noise_std=0.5 (naive)",
    ]


def test_csv_has_one_line_per_row_and_plain_numbers(found):
    lines = list(csv.DictReader(io.StringIO(to_csv(found, link="wifi"))))
    rows = found[0].rows
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert float(line["leakage"]) == pytest.approx(row.closed.mean, rel=1e-5)
        assert float(line["leakage_low"]) == pytest.approx(row.closed.low, rel=1e-5, abs=1e-9)
        assert float(line["payload_bytes_mean"]) == pytest.approx(row.payload_bytes_mean)
        assert line["lpips"] == ""
        if row.raw is not None:
            assert float(line["leakage_p99"]) == pytest.approx(row.p99.mean, rel=1e-5)
            assert float(line["leakage_cvar5"]) == pytest.approx(row.cvar5.mean, rel=1e-5)
            for name, tail in (
                ("leakage_p95", row.p95),
                ("share_above_half", row.share_above_half),
            ):
                assert float(line[f"{name}_low"]) == pytest.approx(tail.low, rel=1e-5, abs=1e-9)
                assert float(line[f"{name}_high"]) == pytest.approx(tail.high, rel=1e-5)
            assert float(line["oracle_corrected"]) == pytest.approx(
                row.oracle_corrected.mean, rel=1e-5
            )
        assert line["link"] == "wifi"
        assert (line["place_first"] == "") == (row.rank is None)


def test_markdown_has_one_line_per_row_and_explains_its_flags(found):
    text = to_markdown(found, link="wifi")
    for row in found[0].rows:
        assert f"| {row.cut} | {row.label} |" in text
    for flag in {f for r in found[0].rows for f in r.flags}:
        assert explain(flag).raised_if in text


def test_the_lead_says_what_the_rows_say(found):
    text = " ".join(words.lead(found[0]))
    first = found[0].rows[0]
    assert f"after {first.cut} recovers {words.percent(first.closed.mean)}" in text
    assert "distillation bottleneck (channels=4)" in text
    assert "does not expect it recovers" in text


def test_the_lead_never_calls_a_useless_or_costly_defense_the_best():
    useless = dataclasses.replace(SETTINGS[1], keeps=(0.985,) * 6)
    costly = dataclasses.replace(SETTINGS[2], accuracy=(0.5,) * 6)
    for setting in (useless, costly):
        (board,) = made(settings=(SETTINGS[0], setting), cuts=CUTS[:1], targets=40)
        text = " ".join(words.lead(board))
        assert "none of 1 defended systems" in text


def test_a_board_without_a_reference_still_has_a_lead_and_a_page():
    found = made(settings=SETTINGS[1:2], cuts=CUTS[:1], targets=40)
    assert words.lead(found[0]) == [
        "No row of this board has a leakage under the headline adversary yet."
    ]
    assert "gaussian noise" in visible(render(found))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.985, "98\u00a0%"),
        (0.998, "99.8\u00a0%"),
        (0.99999, "more than 99.9\u00a0%"),
        (1.0, "100\u00a0%"),
        (0.0, "0\u00a0%"),
        (0.003, "0.3\u00a0%"),
        (0.0001, "0\u00a0%"),
        (-0.04, "\N{MINUS SIGN}4\u00a0%"),
        (None, "—"),
    ],
)
def test_percent_does_not_round_to_all_or_nothing(value, text):
    assert words.percent(value) == text


def test_small_negative_numbers_are_not_minus_zero():
    assert words.rate(-0.001) == "0.00"
    assert words.points(-0.0001) == "0.0"
    assert words.points(0.012) == "+1.2"
    assert words.rate(-0.04) == "\N{MINUS SIGN}0.04"


def test_sizes_and_times_have_two_or_three_digits():
    assert words.size(75288) == "75.3\u00a0kB"
    assert words.size(96) == "96\u00a0B"
    assert words.size(2.5e6) == "2.5\u00a0MB"
    assert words.milliseconds(36.968) == "37"
    assert words.milliseconds(0.196) == "0.2"
    assert words.milliseconds(1234.5) == "1234"


def test_adversaries_are_named_by_what_sets_them_apart():
    assert words.adversary(words.HEADLINE) == ""
    assert words.adversary({**words.HEADLINE, "defense": "hidden"}) == "naive"
    odd = {"client": "query", "query_budget": 500, "auxiliary": "none", "observations": 16}
    assert words.adversary({**words.HEADLINE, **odd}) == (
        "500 queries, no auxiliary data, 16 observations"
    )
    assert "16 of each target" in words.means({**words.HEADLINE, **odd})
    lacking = {**words.HEADLINE, "key": "secret"}
    assert words.adversary(lacking) == "without the key"
    assert "under a secret key that it lacks" in words.means(lacking)


def test_an_adversary_without_queries_is_told_from_one_without_anything():
    free, none = ({**words.HEADLINE, "client": c} for c in ("architecture", "none"))
    assert words.adversary(free) == "no queries"
    assert words.adversary(none) == "no access to the client"
    assert "what the client looks like, and has neither weights nor answers" in words.means(free)


def test_every_flag_is_explained_in_the_documentation_in_the_same_words():
    text = " ".join((ROOT / "docs/leaderboard.md").read_text().split())
    for flag in FLAGS:
        assert f"`{flag.name}`" in text
        for sentence in (flag.raised_if, flag.means, flag.do):
            assert sentence in text, flag.name


def test_the_documentation_marks_and_gives_a_reason_for_each_flag_that_costs_the_place():
    text = (ROOT / "docs/leaderboard.md").read_text()
    reasons = " ".join(text.split("## Flags")[1].split("###")[0].split())
    costly, others = (part.lower() for part in reasons.split("The others inform"))
    for flag in FLAGS:
        mark = " *(unranked)*" if flag.unranks else ""
        assert f"### {flag.short}{mark}\n" in text
        assert f"*{flag.short}*" in (costly if flag.unranks else others), flag.name


def test_every_flag_that_the_code_can_raise_is_explained():
    sources = [*(ROOT / "splitbench/leaderboard").glob("*.py"), ROOT / "experiments/doubts.py"]
    code = "\n".join(path.read_text() for path in sources)
    assert {*UNRANKED} <= {*BY_NAME}
    for name in BY_NAME:
        assert f'"{name}"' in code, f"nothing raises {name}"
    raised = re.findall(r'flags\.add\("(\w+)"\)|\["(\w+)"\] if|\{"(\w+)"\} if', code)
    judged = re.findall(r'^ {8}"(\w+)": (?:not |blind |search|found)', code, re.M)
    assert {name for match in raised for name in match if name} <= {*BY_NAME}
    assert {*judged} <= {*BY_NAME}
    assert {"few_targets", "at_floor"} <= {*judged}


def test_an_unknown_flag_is_shown_under_its_name():
    assert explain("some_new_flag").short == "some new flag"


def test_intervals_are_given_as_from_to():
    assert words.between(Interval(mean=0, low=-0.051, high=0.4, n=3)) == "−0.05 to 0.40"  # noqa: RUF001


def test_the_attack_that_chooses_is_named_as_its_class_is():
    assert LikelihoodSelection.__name__ == words.SELECTION


def test_at_a_single_cut_a_line_joins_the_settings_of_a_defense():
    (board,) = made(cuts=CUTS[-1:], targets=40)
    lines = lines_of(board)
    curves = curves_of(board, lines)
    drawn = figures(board, curves)
    assert "depth" not in drawn
    assert sum(len(curve.rows) for curve in curves) == len(board.rows) == len(lines)
    assert len({curve.name for curve in curves}) == len(curves) < len(lines)
    for curve, trace in zip(curves, json.loads(drawn["accuracy"])["data"], strict=True):
        assert {row.kind for row in curve.rows} == {curve.name.partition(" (")[0]}
        assert trace["y"] == sorted(trace["y"])
    page = render([board])
    assert "Leakage against depth" not in visible(page)
    assert len([a for a in read(page).all("button") if "data-line" in a]) == len(curves)
