"""The Markdown and PNG twins of the page: every part arrives, links lead to files, kinds stay apart, nothing breaks out of a cell."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_runs import change, made_report, made_run, write_run

from hwnas.errors import RunError
from hwnas.report import write, writer
from hwnas.report.battery import life
from hwnas.report.content import NONE, Report
from hwnas.report.history import hypervolumes
from hwnas.report.markdown import battery, cell, growth, render, table
from hwnas.report.student_sections import costs, per_operator, quality

BOARD = {
    "provenance": "measured on NUCLEO-F405RG",
    "windows": 500,
    "windows_differing": 3,
    "latency": {"kind": "measured", "median_us": 1234.5, "spread_us": 2.0},
    "cycles": {"kind": "modelled", "median": 777},
    "memory": {"ram_bytes": 2048, "flash_bytes": 4096, "stack_bytes": 99},
    "energy": {"kind": "modelled", "energy_uj": 55.5},
    "operators": [{"index": 1, "us": 1.25}],
    "date": "2026-01-02",
}


@pytest.fixture
def report() -> Report:
    return made_report()


def with_board(report: Report) -> Report:
    return replace(report, boards={report.front["students"][0]["id"]: {"serial-tty": BOARD}})


def test_pictures_are_linked_where_they_are_written(report: Report, tmp_path: Path) -> None:
    writer.put(tmp_path, writer.render(report))
    linked = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (tmp_path / "report.md").read_text())
    assert sorted(linked) == ["figures/calibration.png", "figures/history.png", "figures/pareto.png"]
    for name in linked:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_run_of_an_earlier_version_has_what_was_recorded(report: Report) -> None:
    """Neither portraits nor boards nor run.yaml; and nothing was scored."""
    bare = Report(report.front, [])
    files = writer.render(bare)
    assert {name for name in files if name.endswith(".png")} == {"figures/pareto.png"}
    text = files["report.md"].decode()
    assert "calibration.png" not in text and "history.png" not in text
    for student in report.front["students"]:
        assert f"## Student {student['id']}" in text


def test_every_student_has_its_section_with_every_operator(report: Report) -> None:
    text = render(report, [])
    parts = text.split("\n## Student ")[1:]
    assert [part.split("\n", 1)[0] for part in parts] == [s["id"] for s in report.students]
    for part, student in zip(parts, report.students, strict=True):
        for row in report.portraits[student["id"]]["operators"]:
            assert f"| {row['index']} | {row['name']} | {row['kernel']} |" in part
        assert "firmware/ | 1 files | 41,000" in part


def test_forms_of_a_student_stand_in_columns_of_their_own(report: Report) -> None:
    student = report.front["students"][0]
    section = quality(report, student)
    (row,) = (row for row in section.rows if row[0] == "AF AUC")
    own = student["metrics"]
    expected = [0.978, student["metrics_float"]["validation"]["af_auc"], own["validation"]["af_auc"], 0.971, own["test"]["af_auc"]]
    assert list(row[1:]) == [f"{value:.3f}" for value in expected]
    assert "98.1 %" in section.note and "93.4 %" in section.note


def test_kinds_of_figures_of_a_board_stand_in_columns_of_their_own(report: Report) -> None:
    section = costs(with_board(report), report.front["students"][0])
    heads = [(c.title, c.group) for c in section.columns[1:]]
    assert [title for title, _ in heads] == ["predicted", "emulated (modelled cycles)", "serial-tty", "serial-tty"]
    assert heads[2][1] == "measured on NUCLEO-F405RG; measured" and heads[3][1].startswith("modelled, beside")
    rows = {row[0]: row[1:] for row in section.rows}
    assert rows["latency, ms"][2:] == ("1.23", NONE)
    assert rows["energy, µJ"][2:] == (NONE, "55.5")
    assert rows["cycles"][2:] == (NONE, "777")
    assert rows["windows that differ from the int8 reference"] == (NONE, "0 of 200", "3 of 500", NONE)


def test_operators_are_timed_by_every_source(report: Report) -> None:
    student = report.front["students"][0]
    section = per_operator(with_board(report), student)
    timed = [(i, c.group) for i, c in enumerate(section.columns) if c.title == "µs"]
    assert [group for _, group in timed] == ["predicted", "emulated (modelled cycles)", "serial-tty: measured on NUCLEO-F405RG"]
    us = report.portraits[student["id"]]["operators"][0]["predicted_cycles"] / 128
    assert [section.rows[0][i] for i, _ in timed] == [f"{us:,.2f}", f"{us:,.2f}", "1.25"]
    assert section.rows[1][timed[2][0]] == NONE


def test_the_history_rises_and_ends_in_the_last_figure(report: Report) -> None:
    rows = growth(report).rows
    volumes = [float(row[2]) for row in rows]
    assert volumes == sorted(volumes)
    assert volumes[-1] == pytest.approx(hypervolumes(report.front, report.trials)[-1].hypervolume, abs=5e-5)
    assert growth(Report(report.front, [])).rows == ()


def test_battery_life_is_that_of_the_formula_and_states_its_assumptions(report: Report) -> None:
    section = battery(report)
    for row, student in zip(section.rows, report.students, strict=True):
        assert row[0] == student["id"]
        assert row[3] == f"{life(student['cost']['energy_uj']['emulated']).days:,.0f}"
    assert "10 mAh" in section.note and "modelled" in {c.group for c in section.columns}
    assert len(section.columns) == 4
    uncertain = {**report.front, "hardware": {**report.front["hardware"], "energy_uncertainty_factor": 4.0}}
    assert len(battery(replace(report, front=uncertain)).columns) == 5


@pytest.mark.parametrize("text", ["a|b", "a\nb", "<img src=x onerror=y>", "`a", "\\|", "[x](javascript:y)"])
def test_no_text_leaves_its_cell(text: str) -> None:
    shown = cell(text)
    assert "\n" not in shown and "<" not in shown
    assert not re.search(r"(?<!\\)(\\\\)*[|`\[]", shown)


def test_names_from_files_leave_no_row(report: Report) -> None:
    front = copy.deepcopy(dict(report.front))
    front["students"][0]["summary"] = "a | b\n# c <script>"
    text = render(replace(report, front=front), [])
    assert "<script>" not in text and "\n# c" not in text
    for section in (quality(report, front["students"][0]), costs(report, front["students"][0])):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table(section) if line.startswith("|")}
        assert widths == {len(section.columns) + 1}


def test_write_reads_what_the_folder_holds_and_is_repeatable(report: Report, tmp_path: Path) -> None:
    """As a search calls it: with the front and the trials; the rest is in the folder."""
    root = write_run(tmp_path / "run", report)
    write(root, report.front, report.trials)
    for name, content in writer.render(report).items():
        assert (root / name).read_bytes() == content, name
    folder = root / "boards" / report.front["students"][0]["id"]
    folder.mkdir(parents=True)
    (folder / "serial-tty.json").write_text('{"provenance": "measured on X", "latency": {"kind": "measured", "median_us": 5}}')
    assert "measured on X" in render(writer.gather(root, report.front, report.trials), [])


def test_boards_of_other_weights_or_another_profile_say_so(report: Report, tmp_path: Path) -> None:
    root = write_run(tmp_path / "run", report)
    student = report.front["students"][0]["id"]
    (root / "students" / student / "card.json").write_text('{"weights_hash": "mine"}')
    folder = root / "boards" / student
    folder.mkdir(parents=True)
    own = {"provenance": "measured on X", "weights_hash": "mine", "profile": "p"}
    others = {
        "same": own,
        "weights": own | {"weights_hash": "theirs"},
        "profile": own | {"profile": "q"},
        "old": {"provenance": "measured"},
    }
    for name, found in others.items():
        (folder / f"{name}.json").write_text(json.dumps(found))
    boards = writer.gather(root, {**report.front, "profile": "p"}, []).boards[student]
    assert {name: found["provenance"] for name, found in boards.items()} == {
        "same": "measured on X",
        "weights": "measured on X; of other weights than the student's (theirs)",
        "profile": "measured on X; hardware profile q",
        "old": "measured",
    }


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"a": NaN}', "\xff", "[" * 100_000])
def test_damaged_files_of_a_student_are_named(content: str, tmp_path: Path) -> None:
    root = made_run(tmp_path / "run")
    path = next(root.glob("students/*/portrait.json"))
    path.write_text(content, encoding="latin-1")
    with pytest.raises(RunError, match=re.escape(str(path))):
        writer.gather(root, made_report().front, [])


@pytest.mark.parametrize("identity", ["../../x", "/etc", "", ".hidden", "a/b", "a\x00"])
def test_ids_that_are_no_names_of_files_are_refused(identity: str, tmp_path: Path) -> None:
    report = made_report()
    students: list[dict[str, Any]] = [{**report.front["students"][0], "id": identity}]
    change(write_run(tmp_path / "run", report), students=students)
    with pytest.raises(RunError, match="file name"):
        writer.gather(tmp_path / "run", {**report.front, "students": students}, [])
