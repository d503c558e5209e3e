"""The page without a browser: every part is there, figures keep their kinds apart, charts are exact, text from files stays text."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from made_reports import OPERATORS, pace_portrait, sample_board, sample_front, sample_portrait, sample_report, sample_trials

from hwnas.report import charts, course, explorer, figures, listing, operators, page, quality, stills, student_sections, students
from hwnas.report.content import EMULATED, FIGURES, KINDS, NONE, PREDICTED, Report

Row = dict[str, Any]
VOID = ("meta", "link", "img", "br", "input", "hr")
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
EIGHT_MB = 8_000_000


class Elements(HTMLParser):
    """What a browser would load and run, the text of cells, and whether elements close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.loaded += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def rendered() -> str:
    return page.render(sample_report())


def networks(text: str) -> Row:
    """The data that the scatter is drawn from."""
    found = re.search(r'id="networks">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def student_page(report: Report, number: int = 0) -> str:
    return students.page(report, report.students[number])


def test_the_page_is_whole_and_loads_nothing(rendered: str) -> None:
    found = Elements(rendered)
    assert found.open == []
    assert [link for link in found.loaded if not link.startswith(("#", "data:,"))] == []
    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in found.loaded if link.startswith("#")} <= set(ids), "every link inside the page arrives"


def test_every_student_has_a_page_with_every_part(report: Report, rendered: str) -> None:
    for student in report.students:
        assert f'id="student-{student["id"]}"' in rendered
    shown = student_page(report)
    parts = (
        "Operator by operator",
        "Cost on every target",
        "Teacher, float, int8",
        "Subject by subject",
        "Calibration curve",
        "Confusion matrix",
    )
    for title in (*parts, "From float to int8", "Sensitivity to int8", "Exported files", "Files to ship", "Next"):
        assert f">{title}" in shown, title
    assert "not recorded" not in shown


def test_a_student_with_nothing_but_its_card_says_so(report: Report) -> None:
    number = len(report.front["students"]) - 1
    shown = student_page(report, number)
    for part in ("Operators", "Calibration", "Confusion matrix", "Subjects", "Files", "Boards"):
        assert f"{part}: not recorded." in shown, part
    assert Elements(shown).open == []


def test_the_least_report_renders() -> None:
    assert Elements(page.render(Report({"profile": "p", "task": "t", "students": []}))).open == []


@pytest.mark.parametrize("gone", [*sample_portrait(sample_front()["students"][0])])
def test_a_portrait_without_a_part_leaves_the_rest(report: Report, gone: str) -> None:
    identity = report.students[0]["id"]
    for portrait in (dict(report.portraits[identity]), dict(report.portraits[identity])):
        portrait.pop(gone)
        shown = student_page(replace(report, portraits={identity: portrait}))
        assert Elements(shown).open == [] and "Cost on every target" in shown
    nulled = {**report.portraits[identity], gone: None}
    assert Elements(student_page(replace(report, portraits={identity: nulled}))).open == []


def test_text_from_files_stays_text() -> None:
    """Whatever string a file holds, none becomes an element, an attribute or a script."""

    def poison(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: item if key in KEPT else poison(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [poison(item) for item in value]
        return EVIL + value if isinstance(value, str) else value

    clean = sample_report()
    front = poison(copy.deepcopy(dict(clean.front)))
    ids = [s["id"] for s in (*front["students"], *front["fallen"])]
    dirty = Report(
        front,
        poison([dict(t) for t in clean.trials]),
        {i: poison(p) for i, p in zip(ids, clean.portraits.values(), strict=False)},
        {i: poison(b) for i, b in zip(ids, clean.benches.values(), strict=False)},
        {i: {EVIL + name: poison(b) for name, b in boards.items()} for i, boards in zip(ids, clean.boards.values(), strict=False)},
        poison(dict(clean.run_yaml)),
    )
    text = page.render(dirty)
    found = Elements(text)
    assert found.open == []
    assert "img" not in {tag for tag, _ in found.tags}
    assert not [attrs for _, attrs in found.tags if any(name.startswith("on") for name in attrs)]
    assert len([tag for tag, _ in found.tags if tag == "script"]) == 3
    assert EVIL in json.dumps(networks(text)["id"]).encode().decode("unicode_escape")


# Keys whose strings are names of the format, which other programs check, and not text that is shown as it stands.
KEPT = {"status", "kind", "primary", "source"}


def test_the_page_stays_small_with_two_thousand_trials() -> None:
    front, few = sample_front(), sample_trials()
    choices = {f"block{n}_{word}": n for n in range(1, 7) for word in ("channels", "kernel", "stride", "expansion", "dilation")}
    many = [few[n % len(few)] | {"id": n, "hash": f"{n:012x}", "parameters": choices | {"blocks": 1 + n % 6}} for n in range(2000)]
    text = page.render(sample_report(front, many))
    assert len(text.encode()) < EIGHT_MB - 2_000_000, "with room for as many students as a search finishes"
    assert len(networks(text)["id"]) == sum(t["status"] in ("rejected", "scored") for t in many) + 7


# The scatter


def test_the_scatter_has_every_network_once_with_its_figures(report: Report, rendered: str) -> None:
    found = networks(rendered)
    counts = {name: sum(t["status"] == name for t in report.trials) for name in ("rejected", "scored")} | {"fallen": 1, "front": 6}
    names = [status["name"] for status in found["statuses"]]
    assert {name: found["status"].count(names.index(name)) for name in names} == counts
    front = [i for i, status in enumerate(found["status"]) if names[status] == "front"]
    for i, student in zip(front, report.front["students"], strict=True):
        assert found["id"][i] == student["id"]
        for kind in KINDS:
            assert found["values"][f"latency_us_{kind}"][i] == pytest.approx(student["cost"]["latency_us"][kind] / 1000, rel=1e-5)
            assert found["values"][f"ram_bytes_{kind}"][i] == pytest.approx(student["cost"]["ram_bytes"][kind] / 1024, rel=1e-5)
        assert found["values"]["test_af_auc"][i] == pytest.approx(student["metrics"]["test"]["af_auc"], rel=1e-5)
        assert found["values"]["parameters"][i] == student["parameters"]
        assert found["before"][i] == pytest.approx(student["short_validation"]["af_auc"], rel=1e-5)


def test_rejected_candidates_have_predicted_costs_and_no_score(report: Report) -> None:
    found = explorer.content(report)
    rejected = [i for i, status in enumerate(found["status"]) if found["statuses"][status]["name"] == "rejected"]
    trials = [t for t in report.trials if t["status"] == "rejected"]
    assert len(rejected) == len(trials) > 0
    for i, trial in zip(rejected, trials, strict=True):
        assert found["values"]["latency_us_predicted"][i] == pytest.approx(trial["cost"]["latency_us"] / 1000, rel=1e-5)
        assert found["values"]["macs"][i] == trial["cost"]["macs"]
        assert found["values"]["validation_af_auc"][i] is None and found["values"]["latency_us_emulated"][i] is None
        assert all(name.replace("_", " ") in found["notes"][found["id"][i]] for name in trial["violations"])


def test_an_axis_names_the_kind_of_its_figures(report: Report) -> None:
    titles = {axis["name"]: axis["title"] for axis in explorer.content(report)["axes"]}
    assert titles["latency_us_predicted"] == "latency, ms (predicted)"
    assert titles["latency_us_emulated"] == "latency, ms (emulated (modelled cycles))"
    assert titles["validation_af_auc"] == "AF AUC (validation, int8, synthetic data)"


def test_uncertainty_stands_at_axes_and_figures(doubtful: Row) -> None:
    found = {axis["name"]: axis for axis in explorer.content(Report(doubtful))["axes"]}
    for kind in KINDS:
        assert found[f"latency_us_{kind}"]["title"].endswith("(x2 either way)")
        assert found[f"energy_uj_{kind}"]["title"].endswith("(x4 either way)")
        assert found[f"ram_bytes_{kind}"]["doubt"] == ""
    assert "(x2 either way)" in students.costs(Report(doubtful), doubtful["students"][0])


def test_choices_of_blocks_that_a_network_lacks_are_not_told(report: Report) -> None:
    trial = dict(report.trials[0]) | {"parameters": {"stem_kernel": 7, "blocks": 1, "block1_kernel": 3, "block2_kernel": 9}}
    found = explorer.content(replace(report, trials=[trial]))
    number, *values = found["told"][0]
    assert dict(zip(found["choices"][number], values, strict=True)) == {"stem kernel": 7, "blocks": 1, "block1 kernel": 3}


def test_budget_and_teacher_stand_in_shown_units(report: Report) -> None:
    found = explorer.content(report)
    assert found["budget"]["latency_us_predicted"] == 20.0 and found["budget"]["ram_bytes_emulated"] == 64.0
    assert found["teacher"]["validation_af_auc"] == 0.978


def test_colours_of_the_page_are_those_of_the_figures() -> None:
    css = (page.HERE / "page.css").read_text()
    colours = {"front": figures.FRONT, "fallen": figures.FALLEN, "scored": figures.SCORED, "budget": figures.BUDGET}
    for name, colour in colours.items():
        assert f"--{name}: {colour};" in css


# The table of students


def test_the_table_holds_the_stored_figures(report: Report) -> None:
    for column in listing.fields(report):
        for student in report.students:
            value = column.of(student)
            for kind in KINDS:
                if column.name in {f"{name}_{kind}" for name in FIGURES}:
                    assert value == student["cost"][column.name.removesuffix(f"_{kind}")][kind] and column.group == KINDS[kind]
            if column.name == "test_accuracy":
                assert value == student["metrics"].get("test", {}).get("accuracy")


def test_no_column_of_the_table_holds_two_kinds() -> None:
    """A target that was once measured and once modelled has a column for each."""
    report = sample_report()
    first, second, *_ = (s["id"] for s in report.students)
    modelled = sample_board(report.students[1]) | {
        "provenance": "executed in QEMU; cycles modelled",
        "latency": {"kind": "modelled", "median_us": 5.0},
    }
    report = replace(report, boards={first: {"nightly": sample_board(report.students[0])}, second: {"nightly": modelled}})
    columns = [c for c in listing.fields(report) if c.name.startswith("latency_us_nightly")]
    assert len({c.name for c in listing.fields(report)}) == len(listing.fields(report)), "a download would lose one of the two"
    assert sorted(c.group for c in columns) == ["nightly: executed in QEMU; cycles modelled", "nightly: measured on NUCLEO-F405RG"]
    values = {c.group.split(": ")[1]: [c.of(s) for s in report.students[:2]] for c in columns}
    assert values["executed in QEMU; cycles modelled"] == [None, 5.0]
    assert values["measured on NUCLEO-F405RG"][1] is None


def test_names_of_targets_that_differ_in_a_dash_have_columns_of_their_own() -> None:
    report, board = sample_report(), sample_board(sample_report().students[0])
    report = replace(report, boards={report.students[0]["id"]: {"a-b": board, "a_b": board, "a.b": board}})
    names = [c.name for c in listing.fields(report)]
    assert len(names) == len(set(names)) and sum(name.startswith("latency_us_a_b") for name in names) == 3


def test_names_of_columns_are_unique(report: Report) -> None:
    names = [c.name for c in listing.fields(report)]
    assert len(names) == len(set(names))


def test_ids_that_are_no_words_are_linked(report: Report) -> None:
    """An id is quoted the same way where it is an anchor and where it is linked."""
    assert listing.anchor("a b/%") == "student-a%20b%2F%25"


# The page of a student


def columns_of(table: str) -> dict[str, dict[str, str]]:
    """Head of every column (title and kind) -> {row: cell}."""
    heads = [re.sub(r"<.*?>", "|", h) for h in re.findall(r'<th scope="col">(.*?)</th>', table)]
    rows = [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table.split("<tbody>")[1])]
    return {head: {row[0]: row[n] for row in rows} for n, head in enumerate(heads)}


def test_modelled_energy_of_a_measured_board_has_a_column_of_its_own(report: Report) -> None:
    found = columns_of(students.costs(report, report.students[0]))
    (measured,) = (head for head in found if "serial-ttyACM0" in head and "modelled;" not in head)
    (modelled,) = (head for head in found if "modelled;" in head)
    assert "measured on NUCLEO-F405RG" in measured
    assert found[measured]["energy, µJ"] == NONE and found[modelled]["energy, µJ"] == "77.7"
    assert found[measured]["latency, ms"] != NONE and found[modelled]["latency, ms"] == NONE
    latency = report.students[0]["cost"]["latency_us"]
    assert found[PREDICTED + ""]["latency, ms"] == f"{latency['predicted'] / 1000:.2f}"
    (emulated,) = (head for head in found if head.startswith(KINDS[EMULATED]))
    assert found[emulated]["windows that differ from the int8 reference"] == "0 of 200"


def test_a_board_whose_energy_was_measured_has_one_column(report: Report) -> None:
    identity = report.students[0]["id"]
    board = sample_board(report.students[0]) | {"energy": {"kind": "measured", "energy_uj": 77.7}}
    found = columns_of(students.costs(replace(report, boards={identity: {"b": board}}), report.students[0]))
    (head,) = (head for head in found if head.startswith("b|"))
    assert found[head]["energy, µJ"] == "77.7"


def test_flash_with_the_link_has_a_row_of_its_own_and_warnings_are_shown(report: Report) -> None:
    identity, clean = report.students[0]["id"], sample_board(report.students[0])
    memory = {"flash_bytes": 61_440, "flash_includes_link": True}
    linked = replace(report, boards={identity: {"b": clean | {"memory": memory, "warnings": ["clock <120>", "too hot"]}}})
    found = columns_of(students.costs(linked, report.students[0]))
    (head,) = (head for head in found if head.startswith("b|") and "modelled;" not in head)
    assert (found[head]["flash, KB"], found[head]["flash with the link, KB"]) == (NONE, "60.0")
    assert found[head]["warnings"] == "clock &lt;120&gt;; too hot"
    text = {row[0]: row[3] for row in student_sections.costs(linked, report.students[0]).rows}
    assert (text["flash, KB"], text["flash with the link, KB"], text["warnings"]) == (NONE, "60.0", "clock <120>; too hot")


def test_bars_of_confidence_are_as_wide_as_a_bin(report: Report) -> None:
    bins = [{"confidence": c, "accuracy": 0.5, "windows": 9} for c in (0.55, 0.95)]  # the empty ones are left out
    blocks = re.findall(r'<rect[^>]*class="[^"]*count[^>]*>', quality.reliability({"reliability": {"validation": {"int8": bins}}}))
    widths = [float(found[1]) for block in blocks if (found := re.search(r'width="([0-9.]+)', block))]
    assert widths == pytest.approx([10.0, 10.0]), blocks


def test_a_kappa_below_0_stays_in_the_plot(report: Report) -> None:
    front = copy.deepcopy(dict(report.front)) | {"primary": "kappa"}
    html = quality.subjects(replace(report, front=front), {"by_subject": {"s1": {"int8": -0.2}, "s2": {"int8": 0.7}}})
    places = [float(x) for x in re.findall(r'cx="(-?[0-9.]+)%', html)]
    assert len(places) == 2 and all(0 <= x <= 100 for x in places), places


def test_pictures_have_the_colours_of_the_page() -> None:
    css = (page.HERE / "page.css").read_text()
    for form, (_, colour, _) in stills.FORMS.items():
        variable = re.search(rf"^\.{form} {{ stroke: var\((--\w+)\)", css, re.MULTILINE)
        assert variable and f"{variable[1]}: {colour};" in css, form


def test_metrics_of_every_form_stand_apart(report: Report) -> None:
    student, teacher = report.students[1], report.front["teacher"]["metrics"]
    found = columns_of(quality.forms(report, student))
    by = {head.split("|")[0] + "," + head.split("|")[1].split(",")[0]: cells for head, cells in found.items() if "|" in head}
    assert by["teacher, float,validation"]["AF AUC"] == f"{teacher['validation']['af_auc']:.3f}"
    assert by["teacher, float,test"]["AF AUC"] == f"{teacher['test']['af_auc']:.3f}"
    assert by["student, float,validation"]["AF AUC"] == f"{student['quantisation']['float']['af_auc']:.3f}"
    assert by["student, int8,test"]["AF AUC"] == f"{student['metrics']['test']['af_auc']:.3f}"


def test_latencies_are_cycles_at_the_clock_and_boards_as_they_timed(report: Report) -> None:
    student = report.students[0]
    portrait = report.portraits[student["id"]]
    rows = operators.operators(portrait, None)
    predicted, emulated, board = operators.latencies(rows, report.boards[student["id"]], 128e6)
    assert (predicted.label, emulated.label) == tuple(KINDS.values())
    assert "measured on NUCLEO-F405RG" in board.label
    for row in portrait["operators"]:
        assert predicted.us[row["index"]] == pytest.approx(row["predicted_cycles"] / 128)
        assert board.us[row["index"]] == pytest.approx(row["predicted_cycles"] / 120)
    assert operators.latencies(rows, {}, None) == []


def test_without_a_portrait_operators_come_from_the_bench(report: Report) -> None:
    identity = report.students[0]["id"]
    rows = operators.operators(None, report.benches[identity])
    assert [row.emulated_cycles for row in rows] == [row["emulated_cycles"] for row in report.portraits[identity]["operators"]]
    assert "Memory: not recorded" in operators.drawing(rows, None, operators.latencies(rows, {}, 128e6), "input")


def rectangles(svg: str, style: str) -> list[tuple[float, float, float, float]]:
    """x and width in shares, y and height in pixels, of all rectangles of a class."""
    form = rf'<rect x="([\d.]+)%?" y="([\d.]+)" width="([\d.]+)%" height="([\d.]+)"[^>]*class="{style}"'
    return [(float(x) / 100, float(y), float(w) / 100, float(h)) for x, y, w, h in re.findall(form, svg)]


def test_boxes_of_the_arena_lie_where_the_plan_put_them(report: Report) -> None:
    portrait, height = report.portraits[report.students[0]["id"]], 50
    rows = operators.operators(portrait, None)
    drawn = rectangles(operators.arena(rows, portrait, height), "tensor")
    outputs = [t for t in portrait["tensors"] if t["kind"] == "output"]
    assert len(drawn) == len(outputs) == 6
    for (x, y, width, deep), tensor in zip(drawn, outputs, strict=True):
        assert x == pytest.approx(operators.ARENA * tensor["offset"] / portrait["arena_bytes"], abs=1e-4)
        assert width == pytest.approx(operators.ARENA * tensor["bytes"] / portrait["arena_bytes"], abs=1e-4)
        assert y == (tensor["from"] - 1) * height + 1
        assert y + deep == tensor["to"] * height - 1


def test_bars_are_as_long_as_their_figures(report: Report) -> None:
    student = report.students[0]
    rows = operators.operators(report.portraits[student["id"]], None)
    series = operators.latencies(rows, report.boards[student["id"]], 128e6)
    svg, most = operators.bars(rows, series, 60), max(v for s in series for v in s.us.values())
    for s in series:
        widths = [w for _, _, w, _ in rectangles(svg, s.style)]
        assert widths == pytest.approx([operators.LONGEST * s.us[row.index] / most for row in rows], abs=1e-4)


def test_connections_that_skip_operators_are_drawn(report: Report) -> None:
    rows = operators.operators(report.portraits[report.students[0]["id"]], None)
    svg = operators.architecture(rows, 50, "input")
    assert svg.count('class="wire skip"') == 1 and svg.count('class="wire"') == sum(len(row[2]) for row in OPERATORS) - 1
    assert Elements(svg).open == []


def test_shares_of_the_confusion_matrix_are_of_rows(report: Report) -> None:
    portrait = report.portraits[report.students[0]["id"]]
    html = quality.confusion(portrait, ())
    first = portrait["confusion"]["validation"]["int8"][2]
    assert f'--share:{first[1] / sum(first):.3f}">{first[1]}<small>{100 * first[1] / sum(first):.0f} %' in html
    assert html.index("student, int8, validation") < html.index("student, int8, test") < html.index("teacher, float, validation")


def test_an_empty_row_of_a_confusion_matrix_has_no_share() -> None:
    html = quality.confusion({"confusion": {"validation": {"int8": [[0, 0], [1, 2]]}}, "classes": ["a"]}, ())
    assert html.count(f"<small>{NONE}</small>") == 2


def test_a_regression_shows_estimates_against_truth(pace: tuple[Row, list[Row]]) -> None:
    front, trials = pace
    student = front["students"][0]
    report = Report(front, trials, {student["id"]: pace_portrait(student)})
    shown = student_page(report)
    assert "Estimates against truth" in shown and "Confusion matrix" not in shown and "Calibration curve" not in shown
    cells = report.portraits[student["id"]]["values"]["validation"]["int8"]
    assert shown.count('class="density"') == 3 * len(cells)
    assert "400 windows" in shown and "MAE (BPM)" in shown


def test_subjects_without_a_score_are_counted(report: Report) -> None:
    html = quality.subjects(report, report.portraits[report.students[0]["id"]])
    assert "1 of 7 subjects have no AF AUC of their own" in html
    assert html.index("p06 (test): 0.810") < html.index("p00 (validation): 0.990"), "worst first"


# Search, battery, how to reproduce


def test_battery_starts_with_the_figures_of_its_formula(report: Report) -> None:
    html = course.battery(report)
    kind, known = course.energies(report)
    assert kind == EMULATED and known == {s["id"]: s["cost"]["energy_uj"]["emulated"] for s in report.students}
    for energy in known.values():
        assert f'<td class="days">{1000 * 10 * 3 / (24 * (energy / 30 + 3.16 * 3)):,.0f}</td>' in html


def test_battery_never_mixes_predicted_with_emulated(report: Report) -> None:
    report.students[2]["cost"]["energy_uj"]["emulated"] = None
    kind, known = course.energies(report)
    assert kind == PREDICTED and known[report.students[0]["id"]] == report.students[0]["cost"]["energy_uj"]["predicted"]


def test_search_history_ends_at_its_figures(report: Report) -> None:
    html = course.search(report)
    assert "22 (100 %)" in html
    assert re.search(r">0\.\d{3}</text>", html)
    assert "not recorded" in course.search(replace(report, trials=()))


def test_what_a_run_was_made_with_is_told(report: Report) -> None:
    html = course.reproduce(report)
    for text in ("hwnas search --config RUN/run.yaml", "budget preset", "2.13.0", "725aa0c133304188"):
        assert text in html
    assert "not recorded" in course.reproduce(replace(report, run_yaml={}))


# Charts


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0.283), (3, 970), (-2, 5), (0, 1e-5), (58, 162)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = charts.ticks(low, high)
    assert 2 <= len(found) <= 11 and low - 1e-9 <= found[0] and found[-1] <= high * (1 + 1e-9)
    steps = np.diff(found)
    assert np.allclose(steps, steps[0])
    assert round(steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9), 6) in (1, 2, 5)


def test_a_plane_puts_corners_into_corners() -> None:
    plane = charts.Plane((10, 20), (-1, 1))
    assert (plane.left(10), plane.left(20), plane.top(1), plane.top(-1)) == ("0%", "100%", "0%", "100%")
    assert plane.block((10, 15), (-1, 0), "s") == '<rect x="0%" y="50%" width="50%" height="50%" class="s"></rect>'
    assert plane.line([(10, 1), (15, 0), (20, -1)], "s").count("<line") == 2


def test_a_chart_of_one_value_divides_by_nothing() -> None:
    assert charts.ticks(1, 1) == [1]
