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
from hwnas.report import from_log, terminal_families, terminal_table, write
from hwnas.report import table as csv_table
from hwnas.report.content import FIGURES, KINDS, NONE
from hwnas.report.facts import LOOK, OBJECTIVES, facts
from hwnas.report.figures import colours_of, layers
from hwnas.report.page import tiles
from hwnas.report.points import cloud
from hwnas.report.sections import sections

Row = dict[str, Any]
FILES = {"report.md", "report.html", "front.csv", "figures/pareto.png", "figures/history.png"}


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
def pictures() -> None:
    """For a test that looks at the pictures."""


@pytest.fixture(autouse=True)
def no_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests look at text; drawing takes longer than all the rest."""
    if "pictures" not in request.fixturenames:
        monkeypatch.setattr("hwnas.report.figures.png", lambda *_: b"a picture")
        monkeypatch.setattr("hwnas.report.stills.history", lambda *_: b"a picture")
        monkeypatch.setattr("hwnas.report.stills.calibration", lambda *_: None)


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
    assert [link for link in page.loaded if not link.startswith(("#", "data:,"))] == []
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


def test_png_is_a_picture_and_the_same_each_time(pictures: None, tmp_path: Path, front: Row, trials: list[Row]) -> None:
    write(tmp_path, front, trials)
    first = (tmp_path / "figures" / "pareto.png").read_bytes()
    assert first.startswith(b"\x89PNG\r\n\x1a\n")
    assert (int.from_bytes(first[16:20]), int.from_bytes(first[20:24])) == (1500, 675)
    write(tmp_path / "again", front, trials)
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes(), name


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
    assert [p.x["latency_us"] for p in points.front] == [s["cost"]["latency_us"]["predicted"] / 1000 for s in front["students"]]
    assert points.budget["ram_bytes"] == 64.0
    low, high = points.y_range
    assert all(low < p.y < high for p in (*points.scored, *points.front))


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


def test_teacher_card_names_the_members_of_an_ensemble(front: Row, trials: list[Row]) -> None:
    member = {"name": "resnet18_1d", "parameters": 217470, "calibration": {"temperature": 1.25}}
    front["teacher"]["members"] = [member, member | {"name": "ppg_transformer"}]
    (card,) = (s for s in sections(front, trials) if s.title == "Teacher card")
    rows = {row[0]: row[1] for row in card.rows}
    assert rows["member 1"] == "resnet18_1d, 217,470 parameters, temperature 1.250"
    assert rows["member 2"].startswith("ppg_transformer")


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
    head = re.findall("<header>(.*?)</header>", page)[0]
    for text in (drawn[0], shown.getvalue(), head, report.splitlines()[0], dict(facts(front))["effort"]):
        assert (LOOK in text) == warned


def test_every_fallen_student_says_why(written: Path, front: Row, trials: list[Row]) -> None:
    (table,) = (s for s in sections(front, trials) if s.title == "Fully distilled, not on the front")
    student, reason = front["fallen"][0]["id"], front["fallen"][0]["fallen"]
    assert [c.title for c in table.columns[:2]] == ["student", "why"]
    assert table.rows[0][:2] == (student, reason)
    assert f"| {student} | {reason} |" in (written / "report.md").read_text()
    assert [r["reason"] for r in csv.DictReader(io.StringIO((written / "front.csv").read_text()))] == [""] * 6 + [reason]
    assert reason in (written / "report.html").read_text()


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
    assert points.doubts == {name: DOUBTFUL.get(name, "") for name in FIGURES}
    shown = {name.removeprefix("its "): note for name, _, note in tiles(doubtful) if name.startswith("its ")}
    assert {title: "either way" in note for title, note in shown.items()} == {
        q.title: n in DOUBTFUL for n, q in FIGURES.items() if q.title in shown
    }
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


Joint = tuple[Row, list[Row]]


def section(title: str, front: Row, trials: list[Row]) -> Any:
    (found,) = (s for s in sections(front, trials) if s.title == title)
    return found


def test_a_joint_run_names_families_where_students_stand(tmp_path: Path, joint: Joint) -> None:
    front, trials = joint
    for title in ("quality", "cost"):
        table = section(f"Students on the Pareto front: {title}", front, trials)
        assert [c.title for c in table.columns[:2]] == ["student", "family"]
        assert [row[1] for row in table.rows] == [s["family"] for s in front["students"]]
    write(tmp_path, front, trials)
    assert "mobilenet1d 3, lstm 3, modality_conv 0" in (tmp_path / "report.html").read_text()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "front.csv").read_text())))
    assert [row["family"] for row in rows] == [s["family"] for s in (*front["students"], *front["fallen"])]
    assert dict(facts(front))["spaces"] == "mobilenet1d, lstm, modality_conv"


def test_one_family_has_no_column_of_its_own(front: Row, trials: list[Row]) -> None:
    assert "family" not in [c.title for c in section("Students on the Pareto front: quality", front, trials).columns]
    points = cloud(front, trials)
    assert colours_of(points) == {} and [layer.points for layer in layers(points)] == [points.scored, points.fallen, points.front]


def test_a_joint_scatter_draws_every_point_once_in_the_colour_of_its_family(joint: Joint) -> None:
    points = cloud(*joint)
    colours = colours_of(points)
    assert list(colours) == ["mobilenet1d", "lstm", "modality_conv"] and len(set(colours.values())) == 3
    drawn = [(layer.mark.label, layer.colour, p) for layer in layers(points) for p in layer.points]
    assert len(drawn) == len(points.scored) + len(points.fallen) + len(points.front)
    assert all(colour == colours[p.family] for _, colour, p in drawn)


def test_families_are_counted(joint: Joint) -> None:
    front, trials = joint
    table = section("Student families", front, trials)
    assert table.rows[1] == ("lstm", "96", "48", "3", "30", "1", "3", "3", "41.2 %")
    assert [row[0] for row in table.rows] == list(front["search"]["families"])
    assert not any("families" in row[0] for row in section("Search", front, trials).rows)


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_tables_of_a_joint_run_fit(joint: Joint, width: int) -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=width)
    console.print(terminal_table(joint[0]))
    console.print(terminal_families(joint[0]))
    text = shown.getvalue()
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    assert text.count("modality_conv") == 1 and text.count("lstm") == 4


def test_quantisation_stands_beside_the_float_student(front: Row, trials: list[Row]) -> None:
    table = section("From float to int8", front, trials)
    heads = [f"{c.group} {c.title}".strip() for c in table.columns]
    by = dict(zip(heads, table.rows[2], strict=True))
    found = front["students"][2]["quantisation"]
    assert by["method"] == "QAT, ranges: percentile" and by["why"] == found["reason"]
    assert (by["temperature"], by["ECE"], by["ECE, calibrated"]) == ("1.250", "0.061", "0.022")
    for form, name in {"float": "float", "ptq": "PTQ", "qat": "QAT", "shipped": "shipped"}.items():
        assert by[f"AF AUC {name}"] == f"{found[form]['af_auc']:.4f}"
    assert dict(zip(heads, table.rows[0], strict=True))["AF AUC QAT"] == NONE
    rows = list(csv.DictReader(io.StringIO(csv_table.render(front))))
    assert (rows[2]["quantisation"], rows[2]["validation_af_auc_ptq"]) == ("qat", str(found["ptq"]["af_auc"]))


def test_layers_that_int8_hurts_are_marked(written: Path, front: Row, trials: list[Row]) -> None:
    table = section("Sensitivity to int8, layer by layer", front, trials)
    students = [*front["students"], *front["fallen"]]
    assert [c.title for c in table.columns[1:]] == [s["id"] for s in students]
    for column, student in enumerate(students, start=1):
        losses = {str(row["node"]): row["loss"] for row in student["quantisation"]["sensitivity"]}
        for number, row in enumerate(table.rows):
            loss = losses.get(row[0])
            assert row[column].endswith(NONE if loss is None else f"{loss:+.2f}")
            assert ((number, column) in table.marked) == (loss is not None and loss >= 0.1)
    text = table.rows[1][7]
    assert (
        f'<td class="marked">{text}</td>' in (written / "report.html").read_text() and f"**{text}**" in (written / "report.md").read_text()
    )


def test_exported_files_stand_with_size_and_every_set_of_kernels(front: Row, trials: list[Row]) -> None:
    table = section("Exported files against the int8 reference", front, trials)
    heads = [c.title for c in table.columns]
    rows = [dict(zip(heads, row, strict=True)) for row in table.rows if row[0] == front["students"][0]["id"]]
    assert [row["file"] for row in rows] == ["tflite (reference)", "tflite (xnnpack)", "onnx", "c"]
    assert [row["size, KB"] for row in rows] == ["21.0", "", NONE, "23.4"]
    assert [row["outputs differing"] for row in rows] == ["0.31 %", "1.07 %", "0.21 %", "0.00 %"]
    assert [row["same class"] for row in rows] == ["99.75 %", "99.75 %", "99.75 %", "100.00 %"]
    assert [row["largest step"] for row in rows] == ["1", "2", "1", "0"]
    assert [row["largest step, one operator"] for row in rows] == ["1", NONE, "1", "0"]


def test_a_file_that_is_lacking_says_why(front: Row, trials: list[Row]) -> None:
    front["students"][0] |= {"exports": {}, "exports_lacking": {"onnx": "node 3 is 5 steps away"}}
    row = section("Exported files against the int8 reference", front, trials).rows[0]
    assert row[1] == "no onnx: node 3 is 5 steps away" and row[2:] == (NONE,) * 8


def test_a_program_that_differs_claims_no_agreement(front: Row, trials: list[Row]) -> None:
    front["students"][0]["exports"] = {"c": {"windows": 200, "windows_differing": 3}}
    row = section("Exported files against the int8 reference", front, trials).rows[0]
    assert row[1] == "c" and row[4:] == (NONE,) * 6


@pytest.mark.parametrize("gone", ["quantisation", "exports", "family"])
def test_a_student_without_a_part_leaves_the_rest(tmp_path: Path, front: Row, trials: list[Row], gone: str) -> None:
    for student in front["students"]:
        del student[gone]
    write(tmp_path, front, trials)
    assert all(s["id"] in (tmp_path / "report.md").read_text() for s in front["students"])


# A regression: an error with a unit, of which less is better.


def test_an_error_is_named_with_its_unit_everywhere(tmp_path: Path, pace: Joint) -> None:
    front, trials = pace
    write(tmp_path, front, trials)
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert "MAE (BPM): lower is better" in text and "| MAE (BPM): validation, int8 |" in text and "RMSE (BPM)" in text
    for foreign in ("AF AUC", "accuracy", "macro-F1", "same class", "ECE, calibrated", "temperature divides"):
        assert foreign not in text, foreign
    assert "largest difference, BPM" in text and "| 0.25" in text
    assert "MAE (BPM), lower is better (validation, int8, synthetic data)" in page
    (first, *_) = csv.DictReader(io.StringIO(csv_table.render(front)))
    assert {"validation_mae_bpm", "test_within_5_bpm", "short_validation_mae_bpm"} <= first.keys() and "test_af_auc" not in first


def test_of_an_error_the_smallest_is_the_best_student(pace: Joint) -> None:
    front, _ = pace
    shown = {name: value for name, value, _ in tiles(front)}
    least = min(front["students"], key=lambda s: s["metrics"]["validation"]["mae_bpm"])
    assert shown["best student, MAE (BPM)"] == f"{least['metrics']['test']['mae_bpm']:.2f}"
    assert least is front["students"][-1]


def test_what_int8_costs_a_regression_is_in_its_unit(pace: Joint) -> None:
    front, trials = pace
    found = {section.title: section for section in sections(front, trials)}
    layers = found["Sensitivity to int8, layer by layer"]
    assert layers.note.startswith("BPM of MAE that a student loses") and "0.05 BPM and more are marked" in layers.note
    losses = {(r, c): float(row[c].split()[-1]) for r, row in enumerate(layers.rows) for c in range(1, len(row)) if row[c] != NONE}
    # Cells show two decimals, so one that shows the limit itself may be on either side of it.
    assert {at for at, loss in losses.items() if loss > 0.05} <= layers.marked <= {at for at, loss in losses.items() if loss >= 0.05}
    assert layers.marked


@pytest.mark.parametrize("width", [80, 160])
def test_the_terminal_table_of_a_regression_fits(pace: Joint, width: int) -> None:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(terminal_table(pace[0]))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, shown.splitlines())) <= width and "…" not in shown and "MAE" in shown and "BPM" in shown
    assert f"{pace[0]['students'][0]['metrics']['test']['mae_bpm']:.2f}" in shown
