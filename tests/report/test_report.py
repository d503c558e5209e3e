"""The report: every figure arrives, kinds stay apart, nothing breaks out of the page, and what is missing is shown as missing."""

from __future__ import annotations

import copy
import csv
import errno
import io
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hwnas.errors import RunError
from hwnas.report import from_log, terminal_table, write
from hwnas.report.content import FIGURES, KINDS, NONE, sections
from hwnas.report.facts import LOOK, OBJECTIVES, facts
from hwnas.report.figures import axes, interactive
from hwnas.report.page import tiles
from hwnas.report.points import cloud

Row = dict[str, Any]
FILES = {"report.md", "report.html", "front.csv", "figures/pareto.png"}


class Page(HTMLParser):
    """Collects what a browser would load, and checks that elements close in order."""

    VOID = ("meta", "link", "img", "br", "input", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "dd", "strong"):
            self.cells.append(data)


@pytest.fixture
def written(tmp_path: Path, front: Row, trials: list[Row]) -> Path:
    write(tmp_path, front, trials)
    return tmp_path


def test_writes_its_files_and_no_others(written: Path) -> None:
    assert {str(p.relative_to(written)) for p in written.rglob("*") if p.is_file()} == FILES


def test_the_page_is_whole_and_loads_nothing(written: Path) -> None:
    text = (written / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.loaded == []
    assert "__AXES__" not in text
    assert "prefers-color-scheme: dark" in text


def test_every_student_is_in_every_format(written: Path, front: Row) -> None:
    cells = Page((written / "report.html").read_text()).cells
    for name in ("report.md", "front.csv"):
        for student in (*front["students"], *front["fallen"]):
            assert student["id"] in (written / name).read_text()
            assert student["id"] in cells


def test_csv_holds_the_stored_figures(written: Path, front: Row) -> None:
    rows = list(csv.DictReader(io.StringIO((written / "front.csv").read_text())))
    assert [r["status"] for r in rows] == ["front"] * 6 + ["fallen"]
    for row, student in zip(rows, [*front["students"], *front["fallen"]], strict=True):
        for name in FIGURES:
            for kind in KINDS:
                assert float(row[f"{name}_{kind}"]) == student["cost"][name][kind]
        assert {row[f"{name}_uncertainty_factor"] for name in ("latency_us", "energy_uj", "average_power_uw")} == {"1.0"}
        assert row["test_af_auc"] == (str(student["metrics"]["test"]["af_auc"]) if "test" in student["metrics"] else "")
        assert float(row["short_validation_af_auc"]) == student["short_validation"]["af_auc"]
        assert row["data"] == "synthetic"


def test_png_is_a_picture_and_the_same_each_time(written: Path, tmp_path: Path, front: Row, trials: list[Row]) -> None:
    first = (written / "figures" / "pareto.png").read_bytes()
    assert first.startswith(b"\x89PNG\r\n\x1a\n")
    assert (int.from_bytes(first[16:20]), int.from_bytes(first[20:24])) == (1500, 675)
    write(tmp_path / "again", front, trials)
    for name in FILES:
        if name != "report.html":  # plotly's own markup is its business
            assert (tmp_path / "again" / name).read_bytes() == (written / name).read_bytes(), name


def test_a_cost_column_holds_one_kind(front: Row, trials: list[Row]) -> None:
    (table,) = (s for s in sections(front, trials) if s.title == "Students on the Pareto front: cost")
    groups = [c.group for c in table.columns[1:]]
    assert groups == [label for label in KINDS.values() for _ in FIGURES]
    student = front["students"][0]["cost"]
    assert table.rows[0][1] == f"{student['latency_us']['predicted'] / 1000:.2f}"
    assert table.rows[0][2] == f"{student['ram_bytes']['predicted'] / 1024:.1f}"
    assert table.rows[0][5] == f"{student['average_power_uw']['predicted']:.2f}"
    assert table.rows[0][6] == f"{student['latency_us']['emulated'] / 1000:.2f}"


def test_without_emulation_nothing_claims_it(front: Row, trials: list[Row]) -> None:
    for student in front["students"]:
        for figures in student["cost"].values():
            figures["emulated"] = None
    (table,) = (s for s in sections(front, trials) if s.title == "Students on the Pareto front: cost")
    assert all(row[6:] == (NONE,) * 5 for row in table.rows)
    assert all("emul" not in kind for _, _, kind in tiles(front))
    assert not any("emulated" in line for p in cloud(front, trials).front for line in p.text)
    shown = io.StringIO()
    Console(file=shown, width=100).print(terminal_table(front))
    assert "emul" not in shown.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_table_fits(front: Row, width: int) -> None:
    shown = io.StringIO()
    Console(file=shown, width=width).print(terminal_table(front))
    text = shown.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert all(s["id"] in text for s in front["students"])
    assert "synthetic data" in text


def test_scatter_draws_every_point_once(front: Row, trials: list[Row]) -> None:
    points = cloud(front, trials)
    scored = sum(t["status"] == "scored" for t in trials)
    assert (len(points.scored), len(points.fallen), len(points.front)) == (scored, 1, 6)
    figure = interactive(points, "AF AUC")
    for switch in axes(points).values():
        for trace, x in zip(figure.data, switch["x"], strict=True):
            assert len(x) == len(trace.y)
    assert list(figure.data[3].x) == [s["cost"]["latency_us"]["predicted"] / 1000 for s in front["students"]]
    assert axes(points)["ram_bytes"]["x"][4] == [64.0, 64.0]
    low, high = points.y_range
    assert all(low < p.y < high for p in (*points.scored, *points.front))


def test_hover_tells_what_a_point_is(front: Row, trials: list[Row]) -> None:
    text = "\n".join(cloud(front, trials).front[0].text)
    student = front["students"][0]
    assert student["id"] in text
    assert student["summary"] in text
    assert "predicted:" in text
    assert "emulated (modelled cycles):" in text
    assert "1,400 parameters" in text


def test_text_from_elsewhere_stays_text(tmp_path: Path, front: Row, trials: list[Row]) -> None:
    evil = "</script><script>alert(1)</script>|<b>"
    front["data"] = front["fallen"][0]["fallen"] = front["students"][0]["summary"] = front["task"] = evil
    write(tmp_path, front, trials)
    page = (tmp_path / "report.html").read_text()
    assert "<script>alert(1)" not in page
    assert Page(page).open == []
    table = [line for line in (tmp_path / "report.md").read_text().splitlines() if "alert" in line and line.startswith("| ")]
    assert table
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {5, 9}  # architectures, and students not on the front


@pytest.mark.parametrize(
    "gone", ["hardware", "fallen", "search", "teacher", "budget", "data", "source", "windows", "effort", "service", "seed", "split_seed"]
)
def test_an_absent_part_leaves_the_rest(tmp_path: Path, front: Row, trials: list[Row], gone: str) -> None:
    del front[gone]
    write(tmp_path, front, trials)
    assert all(s["id"] in (tmp_path / "report.md").read_text() for s in front["students"])


def test_the_least_front(tmp_path: Path) -> None:
    write(tmp_path, {"profile": "p", "task": "t", "students": []}, [])
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "front.csv").read_text() == ""


def test_plain_metrics_of_a_teacher(front: Row, trials: list[Row]) -> None:
    """The teacher's metrics may be of one part only, without saying which: then no line claims a part."""
    front["teacher"]["metrics"] = {"af_auc": 0.97}
    assert cloud(front, trials).teacher is None
    (card,) = (s for s in sections(front, trials) if s.title == "Teacher card")
    assert ("AF AUC", "0.970") in card.rows


def test_teacher_card_tells_calibration_before_and_after(front: Row, trials: list[Row]) -> None:
    (card,) = (s for s in sections(front, trials) if s.title == "Teacher card")
    rows = {row[0]: row[1] for row in card.rows}
    assert (rows["NLL before"], rows["NLL after"], rows["ECE before"], rows["ECE after"]) == ("0.612", "0.498", "0.091", "0.027")
    assert rows["entropy validation mean bits"] == "0.870"
    assert rows["entropy validation passed"] == "yes"
    assert rows["AF AUC, test"] == "0.971"
    assert "same validation windows that the temperature is fitted on" in card.note


def test_unstated_data_is_not_called_real(front: Row, trials: list[Row]) -> None:
    front["data"] = "/some/folder"
    del front["source"]
    assert all("real" not in note.note for note in sections(front, trials))
    assert "unstated" in sections(front, trials)[0].note


def test_facts_tell_the_windows_of_every_part(front: Row) -> None:
    told = dict(facts(front))
    assert told["data"] == "signal generator (synthetic)"
    assert told["window length"] == "10 s"
    assert told["train"] == "2,160 windows of 36 subjects"
    assert told["validation"] == "720 windows of 12 subjects"
    assert told["test"] == "719 windows of 11 subjects"
    assert (told["seed"], told["split seed"], told["effort"], told["service"]) == ("0", "7", "normal", "local")


@pytest.mark.parametrize(("effort", "warned"), [("quick", True), ("normal", False)])
def test_a_quick_run_says_so_everywhere(
    tmp_path: Path, front: Row, trials: list[Row], monkeypatch: pytest.MonkeyPatch, effort: str, warned: bool
) -> None:
    drawn: list[str] = []

    def draw(cloud: object, y_title: str, heading: str) -> bytes:
        drawn.append(heading)
        return b""

    monkeypatch.setattr("hwnas.report.figures.png", draw)
    front["effort"] = effort
    write(tmp_path, front, trials)
    shown = io.StringIO()
    Console(file=shown, width=80).print(terminal_table(front))
    page, report = ((tmp_path / name).read_text() for name in ("report.html", "report.md"))
    h1 = re.findall("<h1>(.*?)</h1>", page)[0]
    for text in (drawn[0], shown.getvalue(), h1, report.splitlines()[0], dict(facts(front))["effort"]):
        assert (LOOK in text) == warned


def test_every_fallen_student_says_why(written: Path, front: Row, trials: list[Row]) -> None:
    (table,) = (s for s in sections(front, trials) if s.title == "Fully distilled, not on the front")
    student, reason = front["fallen"][0]["id"], front["fallen"][0]["fallen"]
    assert [c.title for c in table.columns[:2]] == ["student", "why"]
    assert table.rows[0][:2] == (student, reason)
    assert f"| {student} | {reason} |" in (written / "report.md").read_text()
    assert [r["reason"] for r in csv.DictReader(io.StringIO((written / "front.csv").read_text()))] == [""] * 6 + [reason]
    assert any(reason in line for line in cloud(front, trials).fallen[0].text)


def test_tiles_name_the_kind_of_cost_in_full(front: Row) -> None:
    kinds = [kind for name, _, kind in tiles(front) if name.startswith("its ")]
    assert kinds == ["emulated (modelled cycles)"] * 3


def test_the_scatter_names_the_objectives(written: Path) -> None:
    assert OBJECTIVES in (written / "report.md").read_text()
    assert OBJECTIVES in (written / "report.html").read_text()


DOUBTFUL = {"latency_us": "(x2 either way)", "energy_uj": "(x4 either way)", "average_power_uw": "(x4 either way)"}


def test_uncertainty_stands_beside_every_figure_that_has_it(tmp_path: Path, doubtful: Row, trials: list[Row]) -> None:
    for section in sections(doubtful, trials):
        marks = [next((DOUBTFUL[n] for n, q in FIGURES.items() if n in DOUBTFUL and c.title == q.title), "") for c in section.columns]
        for row in section.rows:
            for text, mark in zip(row, marks, strict=True):
                assert ("either way" in text) == bool(mark) and (not mark or text.endswith(mark)), (section.title, text)
    points = cloud(doubtful, trials)
    for point in (*points.scored, *points.fallen, *points.front):
        for line in point.text:
            for name, quantity in FIGURES.items():
                if found := re.search(rf"\b{quantity.name} [\d.,]+ {quantity.unit}(.*?)(, |$)", line):
                    assert found[1].strip() == DOUBTFUL.get(name, ""), line
    shown = {name.removeprefix("its "): note for name, _, note in tiles(doubtful) if name.startswith("its ")}
    assert {title: "either way" in note for title, note in shown.items()} == {
        q.title: n in DOUBTFUL for n, q in FIGURES.items() if q.title in shown
    }
    for name, axis in axes(points).items():
        assert axis["title"].endswith(DOUBTFUL.get(name, "(predicted)"))
    write(tmp_path, doubtful, trials)
    row = next(csv.DictReader(io.StringIO((tmp_path / "front.csv").read_text())))
    assert (row["latency_us_uncertainty_factor"], row["energy_uj_uncertainty_factor"]) == ("2.0", "4.0")


def test_uncertainty_is_told_in_the_terminal_too(doubtful: Row) -> None:
    shown = io.StringIO()
    Console(file=shown, width=160).print(terminal_table(doubtful))
    assert shown.getvalue().count("(x2 either way)") == 2 * len(doubtful["students"])


def test_a_certain_profile_claims_no_uncertainty(written: Path, front: Row) -> None:
    assert all("either way" not in (written / name).read_text() for name in ("report.md", "report.html", "front.csv"))


def test_facts_tell_what_figures_come_from(front: Row, doubtful: Row) -> None:
    told = dict(facts(front))
    assert told["core"] == "cortex-m4, 128 MHz"
    assert told["predicted"] == told["emulated (modelled cycles)"] == "cortex-m4, rules of a manual"
    assert told["energy figure"] == "155 pJ/cycle at 3 V, DC/DC: a data sheet"
    assert not {"uncertainty", "waits for flash"} & set(told)
    assert dict(facts(doubtful))["uncertainty"] == "latency (x2 either way), energy (x4 either way): static model, uncalibrated"
    front["hardware"]["flash_wait"] = "measured by others"
    assert dict(facts(front))["waits for flash"] == "measured by others"


def test_rejections_are_counted_by_limit(front: Row, trials: list[Row]) -> None:
    (table,) = (s for s in sections(front, trials) if s.title == "Limits that candidates broke")
    rejected = [t for t in trials if t["status"] == "rejected"]
    latency = sum("latency_us" in t["violations"] for t in rejected)
    assert table.rows[0] == ("latency us", str(latency), f"{100 * latency / len(rejected):.1f} %")


def test_input_is_not_changed(tmp_path: Path, front: Row, trials: list[Row]) -> None:
    before = copy.deepcopy((front, trials))
    write(tmp_path, front, trials)
    terminal_table(front)
    assert (front, trials) == before


def test_a_full_disk_is_one_error(tmp_path: Path, front: Row, trials: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match="No space left"):
        write(tmp_path, front, trials)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_rows_from_the_log() -> None:
    log = [
        {"n": 0, "kind": "header", "config": {}, "crc": "0"},
        {"n": 1, "kind": "rejected", "hash": "aa", "cost": {"ram_bytes": 9}, "violations": {"ram_bytes": [9, 8]}},
        {"n": 2, "kind": "proposed", "id": 0, "hash": "bb", "cost": {"ram_bytes": 1}},
        {"n": 3, "kind": "duplicate", "hash": "bb"},
        {"n": 4, "kind": "proposed", "id": 1, "hash": "cc", "cost": {"ram_bytes": 2}},
        {"n": 5, "kind": "failed", "id": 1, "hash": "cc", "reason": "worker died"},
        {"n": 6, "kind": "scored", "id": 0, "hash": "bb", "metrics": {"af_auc": 0.9}},
        {"n": 7, "kind": "proposed", "id": 2, "hash": "dd", "cost": {"ram_bytes": 3}},
    ]
    rows = from_log(log)
    assert [(r["hash"], r["status"]) for r in rows] == [
        ("aa", "rejected"),
        ("bb", "scored"),
        ("cc", "failed"),
        ("dd", "proposed"),
    ]
    assert rows[1] == {"id": 0, "hash": "bb", "status": "scored", "cost": {"ram_bytes": 1}, "metrics": {"af_auc": 0.9}}
    assert rows[0]["violations"] == {"ram_bytes": [9, 8]}
