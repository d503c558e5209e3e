"""Reports of nights: every figure is in them, they parse, names cannot break out of their markup, kinds of figures do not mix."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import PREDICTED_CYCLES, record, row

from hwnas.validation.config import Limits
from hwnas.validation.history import Night, Row
from hwnas.validation.page import page
from hwnas.validation.quarantine import quarantined, to_csv
from hwnas.validation.reading import reading
from hwnas.validation.render import Report, as_json, figures, junit, markdown, number, quarantine_table
from hwnas.validation.verdict import Past, judge, not_reached

LIMITS = Limits()
SLOWER = (*PREDICTED_CYCLES[:2], 2 * PREDICTED_CYCLES[2], PREDICTED_CYCLES[3])


def night(number: int, fault: str = "", done: int = 2, ended: str | None = "2026-01-01T01:00:00Z") -> Night:
    return Night(number, "2026-01-01T00:00:00Z", ended, 2, done, fault, "finished" if ended else "interrupted")


def judged(number: int, past: list[Past], fault: str = "", student: str = "a", target: str = "emulator", **changes: Any) -> Row:
    found = reading(record(**changes), target)
    verdict = judge(found, LIMITS, past, number)
    past.append(Past(number, verdict.kind, found, verdict.drifts, fault))
    return replace(row(number, student, target, verdict, **changes), fault=fault)


@pytest.fixture
def report() -> Report:
    """Four nights: clean, slow on purpose, interrupted, and slow for real; one target measured, one not reached."""
    past: list[Past] = []
    rows = [judged(1, past), judged(2, past, "delay:k:1", cycles=SLOWER), judged(3, past, ram_bytes=7285), judged(4, past, cycles=SLOWER)]
    board = judged(4, [], target="bench <1>", student="a|b & <c>", kind="measured", more={"provenance": "measured on a board"})
    gone = replace(row(4, "z", "bench <1>", not_reached('no "port" <here>, and nothing else answers\x1b[31m')), record=None)
    rows += [board, gone]
    nights = (night(1), night(2, "delay:k:1"), night(3, ended=None, done=1), night(4, done=3))
    tonight = tuple(each for each in rows if each.night == 4)
    return Report(nights[-1], tonight, tuple(quarantined(rows, LIMITS.predicted_percent, 4)), nights, tuple(rows), LIMITS)


class Reader(HTMLParser):
    """Text of a page, and that its elements are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read_page(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


def test_the_page_holds_every_figure_of_every_night(report: Report) -> None:
    text = " ".join(read_page(page(report)).text)
    for each in report.rows:
        for figure in figures(each):
            assert number(figure.value) in text, (each.night, figure)
            assert figure.predicted is None or number(figure.predicted) in text
        for drift in each.verdict.drifts if each.night == report.night.night else ():
            assert drift.operator in text and number(drift.expected) in text and f"{drift.change:+.4g}" in text
    for each in report.nights:
        assert each.state in text and each.began in text
    assert "delay:k:1" in text and "dense" not in text


def test_the_page_needs_nothing_else_and_no_name_breaks_out(report: Report) -> None:
    text = page(report)
    reader = read_page(text)
    assert not reader.links and "http" not in text and "<script" not in text and "@import" not in text
    assert not any(name in text for name in ("<c>", "<1>", "<here>")) and "bench <1>" in "".join(reader.text)
    assert "prefers-color-scheme: dark" in text


def test_charts_say_in_words_what_they_show(report: Report) -> None:
    labels = re.findall(r'role="img" aria-label="([^"]*)"', page(report))
    total = sum(PREDICTED_CYCLES) / 128
    assert (
        f"latency, modelled (us): 4 nights, {number(total)} to {number(sum(SLOWER) / 128)}, the last {number(sum(SLOWER) / 128)}"
        in labels[0]
    )
    assert f"predicted {number(total)}" in labels[0]
    assert len(labels) == page(report).count("<svg")


def test_kinds_of_figures_do_not_share_a_column(report: Report) -> None:
    text = page(report)
    for table in re.findall(r"<table>.*?</table>", text):
        header = re.findall(r"<th[^>]*>(.*?)</th>", table)
        assert not ("latency, modelled (us)" in header and "latency, measured (us)" in header)
    assert "latency, measured (us)" in text and "measured on a board" in text


def test_junit(report: Report) -> None:
    root = ElementTree.fromstring(junit(report))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("3", "1", "1")
    cases = {(case.get("classname"), case.get("name")): case for case in root.iter("testcase")}
    assert set(cases) == {("emulator", "a"), ("bench <1>", "a|b & <c>"), ("bench <1>", "z")}
    failure = cases["emulator", "a"].find("failure")
    assert failure is not None and failure.get("type") == "drift" and "hwnas_depthwise" in (failure.get("message") or "")
    error = cases["bench <1>", "z"].find("error")
    assert error is not None and error.get("message") == 'no "port" <here>, and nothing else answers\ufffd[31m'
    assert [child.tag for child in cases["bench <1>", "a|b & <c>"]] == ["system-out"]
    said = cases["emulator", "a"].findtext("system-out") or ""
    assert "quarantined: conv1d int16 2 at length 250: predicted 23,870 cycles, modelled 47,740 (+100 %), night 4" in said


def test_markdown_tables_keep_their_columns(report: Report) -> None:
    text = markdown(report)
    assert text.startswith("# Night 4: not passed\n")
    columns = 0
    for line in text.splitlines():
        bars = len(re.findall(r"(?<!\\)\|", line))
        columns = columns or bars
        assert bars == columns or not bars, line
        columns = bars
    assert r"a\|b & \<c\>" in text and "since night 3" not in text and "interrupted" in text
    assert "conv1d int16 2" in text


def test_quarantine_as_csv(report: Report) -> None:
    (line,) = csv.DictReader(io.StringIO(to_csv(report.quarantine)))
    assert (line["key"], line["length"], line["predicted_cycles"]) == ("conv1d int16 2", "250", "23870")
    assert (line["modelled_cycles"], line["measured_cycles"], line["profile"]) == ("47740", "", "cortex-m4-192k")
    assert (line["night"], line["fault"], line["target"]) == ("4", "", "emulator")


def test_an_operator_within_the_limit_does_not_clear_another_of_its_shape() -> None:
    twins = [each | {"key": "same", "in_length": 9} for each in record(cycles=SLOWER)["operators"][2:]]
    (found,) = quarantined([row(1, more={"operators": twins})], 10, 1)
    assert (found.key, found.predicted, found.found) == ("same", 23_870, 47_740)


def test_kinds_of_quarantined_cycles_do_not_share_a_column() -> None:
    rows = [row(1, cycles=SLOWER), row(1, "b", "bench", cycles=SLOWER, kind="measured")]
    table = quarantine_table(Report(night(1), tuple(rows), tuple(quarantined(rows, 10, 1)), (night(1),), tuple(rows), LIMITS))
    modelled, measured = (table.header.index(f"{kind} cycles") for kind in ("modelled", "measured"))
    assert {(line[modelled], line[measured]) for line in table.rows} == {("–", "47,740"), ("47,740", "–")}  # noqa: RUF001


@pytest.mark.parametrize(
    ("later", "left"),
    [
        (row(2, "renamed"), 0),
        (row(2, weights="f" * 16), 1),
        (row(2, kernel_set="e" * 16), 1),
        (row(2, kind="measured"), 1),
        (row(2, more={"profile": "stm32f405"}), 1),
        (row(2, target="other"), 1),
    ],
)
def test_only_a_good_figure_of_the_same_thing_clears_a_row(later: Row, left: int) -> None:
    assert len(quarantined([row(1, cycles=SLOWER), later], 10, 2)) == left


def test_json(report: Report) -> None:
    found = as_json(report)
    assert (found["night"], found["passed"], found["fault"]) == (4, False, None)
    assert [each["verdict"] for each in found["rows"]] == ["drift", "pass", "not reached"]
    assert found["rows"][0]["drifts"][0]["change"] == pytest.approx(100 * 23_870 / sum(PREDICTED_CYCLES))


def test_a_night_that_ran_nothing(report: Report) -> None:
    empty = Report(night(1, done=0), (), (), (night(1, done=0),), (), LIMITS)
    assert "nothing was run" in markdown(empty)
    assert ElementTree.fromstring(junit(empty)).get("tests") == "0"
    read_page(page(empty))


names = st.text(min_size=1, max_size=20)


@given(names, names, names)
def test_any_name_and_reason(student: str, target: str, reason: str) -> None:
    """Whatever characters there are: the page is whole, the XML parses, Markdown cells stay cells."""
    rows = (row(1, student, target), replace(row(1, student + "2", target, not_reached(reason)), record=None))
    report = Report(night(1, reason), rows, tuple(quarantined(rows, 10, 1)), (night(1, reason),), rows, LIMITS)
    read_page(page(report))
    assert len(list(ElementTree.fromstring(junit(report)).iter("testcase"))) == 2
    for line in markdown(report).splitlines():
        assert not line.startswith("|") or line.endswith("|")
