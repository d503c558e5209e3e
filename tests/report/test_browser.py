"""The page in a browser: it loads nothing, says no error, and what a reader does with it gives the figures of front.json."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from made_reports import joint_run, sample_report, sample_trials

from hwnas.report import page
from hwnas.report.battery import WRIST_SENSOR, life
from hwnas.report.content import FIGURES, KINDS, Report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")
PHONE, TABLET, DESK = {"width": 390, "height": 844}, {"width": 820, "height": 1180}, {"width": 1440, "height": 900}
PLACE = """([x, y]) => {
  const plot = document.getElementById("pareto"), area = plot.getBoundingClientRect(), full = plot._fullLayout;
  return [area.left + full.xaxis._offset + full.xaxis.d2p(x), area.top + full.yaxis._offset + full.yaxis.d2p(y)];
}"""
POINTS = """() => document.getElementById("pareto").data.filter((t) => t.mode.startsWith("markers")).reduce((n, t) => n + t.x.length, 0)"""
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def run() -> Report:
    """A run of three families."""
    return sample_report(*joint_run())


@pytest.fixture(scope="module")
def report_file(run: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page.render(run), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any, report_file: Path) -> Iterator[Open]:
    """Opens the page; at the end nothing may have been requested but the file itself, and nothing have gone wrong."""
    contexts, wrong = [], []

    def open_page(path: Path = report_file, anchor: str = "", **settings: Any) -> Any:
        context = browser.new_context(**{"viewport": DESK, **settings})
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(20_000)
        tab.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("dialog", lambda dialog: wrong.append(f"a dialog: {dialog.message}"))
        allowed = (path.as_uri(), "data:", "blob:")
        tab.on("request", lambda request: None if request.url.startswith(allowed) else wrong.append(f"requested {request.url}"))
        tab.goto(path.as_uri() + anchor)
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def rows(tab: Any) -> list[str]:
    """The students that the table shows, in order."""
    return tab.eval_on_selector_all("#students tbody tr:not([hidden])", "rows => rows.map((row) => row.dataset.id)")


def column(tab: Any, name: str) -> list[Any]:
    """Stored figures of a column, in the order shown."""
    index = tab.eval_on_selector(f'#students [data-name="{name}"]', "head => head.cellIndex")
    return tab.eval_on_selector_all(
        "#students tbody tr:not([hidden])", f"rows => rows.map((row) => JSON.parse(row.cells[{index}].dataset.value))"
    )


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "dark"), (PHONE, "light")], ids=["desk, dark", "phone, light"])
def test_the_page_fits_its_window(opened: Open, size: dict[str, int], scheme: str, run: Report) -> None:
    tab = opened(viewport=size, color_scheme=scheme)
    wide = "document.documentElement.scrollWidth"
    assert tab.evaluate(wide) <= size["width"]
    tab.evaluate(f"location.hash = 'student-{run.students[0]['id']}'")
    tab.wait_for_selector("article.student:not([hidden])")
    assert tab.evaluate(wide) <= size["width"]
    dark = tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 27)"
    assert dark == (scheme == "dark")


@pytest.mark.slow
def test_every_axis_can_be_drawn(opened: Open) -> None:
    tab = opened()
    names = tab.eval_on_selector_all("#x-axis option", "options => options.map((option) => option.value)")
    titles = tab.evaluate("Object.fromEntries(data.axes.map((axis) => [axis.name, axis.title]))")
    assert {f"{cost}_{kind}" for cost in ("latency_us", "ram_bytes", "flash_bytes", "energy_uj") for kind in KINDS} < set(names)
    assert {"parameters", "macs", "validation_af_auc", "test_af_auc"} < set(names)
    for x, y in zip(names, names[1:] + names[:1], strict=True):
        tab.select_option("#x-axis", x)
        tab.select_option("#y-axis", y)
        shown = tab.evaluate("['xaxis', 'yaxis'].map((axis) => document.getElementById('pareto').layout[axis].title.text)")
        assert shown == [titles[x], titles[y]]
        assert titles[y] in tab.get_attribute("#pareto", "aria-label")


def test_rejected_candidates_are_points_among_costs_and_ticks_beside_scores(opened: Open, run: Report) -> None:
    tab = opened()
    rejected = sum(t["status"] == "rejected" for t in run.trials)
    scored = sum(t["status"] == "scored" for t in run.trials)
    ticks = "() => document.getElementById('pareto').data.filter((t) => t.yaxis === 'y2').reduce((n, t) => n + t.x.length, 0)"
    assert tab.evaluate(ticks) == rejected and f"{rejected} rejected candidates" in tab.inner_text("#scatter-note")
    tab.select_option("#y-axis", "ram_bytes_predicted")
    assert tab.evaluate(ticks) == 0 and tab.inner_text("#scatter-note") == ""
    assert tab.evaluate(POINTS) == rejected + scored + len(run.students)
    lines = tab.evaluate("document.getElementById('pareto').layout.annotations.map((note) => note.text)")
    assert sorted(lines) == ["budget 20 ms", "budget 64 KB"]
    tab.select_option("#y-axis", "latency_us_emulated")
    assert f"{rejected + scored} networks have no figure" in tab.inner_text("#scatter-note")


def test_keys_hide_what_they_name(opened: Open, run: Report) -> None:
    tab = opened()
    tab.select_option("#y-axis", "ram_bytes_predicted")
    everything = tab.evaluate(POINTS)
    tab.locator("#keys label", has_text="rejected").locator("input").uncheck()
    rejected = sum(t["status"] == "rejected" for t in run.trials)
    assert tab.evaluate(POINTS) == everything - rejected
    tab.locator("#keys label", has_text="lstm").locator("input").uncheck()
    others = [*run.trials, *run.students]
    left = sum(t.get("status") in (None, "scored", "front", "fallen") and t["family"] != "lstm" for t in others)
    assert tab.evaluate(POINTS) == left


def test_the_pointer_reads_architecture_and_figures(opened: Open, run: Report) -> None:
    tab = opened()
    student = run.front["students"][2]
    tab.locator("#pareto").scroll_into_view_if_needed()
    place = tab.evaluate(PLACE, [student["cost"]["latency_us"]["predicted"] / 1000, student["metrics"]["validation"]["af_auc"]])
    tab.mouse.move(place[0] - 40, place[1] - 40)
    tab.mouse.move(*place, steps=4)
    tab.wait_for_selector("#told:not([hidden])")
    told = tab.inner_text("#told")
    assert student["id"] in told and student["summary"] in told and "Pareto front" in told
    latency = student["cost"]["latency_us"]
    assert f"predicted: latency {latency['predicted'] / 1000:.2f} ms" in told
    assert f"emulated (modelled cycles): latency {latency['emulated'] / 1000:.2f} ms" in told
    tab.mouse.click(*place)
    tab.wait_for_selector(f"#student-{student['id']}:not([hidden])")


def test_the_table_has_the_figures_of_the_front(opened: Open, run: Report) -> None:
    tab = opened()
    assert rows(tab) == [s["id"] for s in run.students]
    for name in FIGURES:
        for kind in KINDS:
            assert column(tab, f"{name}_{kind}") == [s["cost"][name][kind] for s in run.students]
    for part in ("validation", "test"):
        for metric in ("af_auc", "accuracy", "macro_f1"):
            assert column(tab, f"{part}_{metric}") == [s["metrics"].get(part, {}).get(metric) for s in run.students]
    assert column(tab, "parameters") == [s["parameters"] for s in run.students]
    first = tab.inner_text('#students tbody tr:first-child td[data-group="3"]')
    assert first == f"{run.students[0]['cost']['latency_us']['emulated'] / 1000:.2f}"


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_any_column_sorts_both_ways_with_what_is_missing_last(opened: Open, every: bool) -> None:
    tab = opened()
    for box in tab.locator("input[data-group]").all():
        box.check()
    names = tab.eval_on_selector_all("#students [data-name]", "heads => heads.map((head) => head.dataset.name)")
    for name in names if every else ("id", "test_af_auc", "latency_us_serial_ttyACM0"):
        head = tab.locator(f'#students [data-name="{name}"]')
        for direction in ("ascending", "descending"):
            head.locator("button").click()
            assert head.get_attribute("aria-sort") == direction
            found = column(tab, name)
            known = [value for value in found if value is not None]
            assert known == sorted(known, key=lambda v: v.lower() if isinstance(v, str) else v, reverse=direction == "descending")
            assert found[len(known) :] == [None] * (len(found) - len(known))
    assert tab.locator('[aria-sort="descending"]').count() == 1


def test_filters_join(opened: Open, run: Report) -> None:
    tab = opened()
    tab.select_option("#family-filter", "lstm")
    assert rows(tab) == [s["id"] for s in run.students if s["family"] == "lstm"]
    tab.select_option("#family-filter", "")
    tab.fill("#text-filter", "DOMINATED")
    assert rows(tab) == [run.front["fallen"][0]["id"]] and tab.inner_text("#shown") == "1 of 7 students"
    tab.fill("#text-filter", "stem 24 nothing")
    assert rows(tab) == []
    tab.fill("#text-filter", "")
    assert len(rows(tab)) == 7


def test_downloads_hold_what_is_shown(opened: Open, run: Report) -> None:
    tab = opened()
    tab.select_option("#family-filter", "mobilenet1d")
    tab.click('#students [data-name="latency_us_emulated"] button')
    tab.click('#students [data-name="latency_us_emulated"] button')
    tab.uncheck('input[data-group="4"]')  # predicted
    with tab.expect_download() as started:
        tab.click("#download-csv")
    found = list(csv.DictReader(io.StringIO(Path(started.value.path()).read_text(encoding="utf-8"))))
    with tab.expect_download() as started:
        tab.click("#download-json")
    as_json = json.loads(Path(started.value.path()).read_text(encoding="utf-8"))
    assert [row["id"] for row in found] == [row["id"] for row in as_json] == rows(tab)
    shown = tab.eval_on_selector_all("#students [data-name]:not([hidden])", "heads => heads.map((head) => head.dataset.name)")
    assert list(found[0]) == list(as_json[0]) == shown and "latency_us_predicted" not in shown and "validation_macro_f1" not in shown
    students = {s["id"]: s for s in run.students}
    for row, typed in zip(found, as_json, strict=True):
        for name in FIGURES:
            assert float(row[f"{name}_emulated"]) == typed[f"{name}_emulated"] == students[row["id"]]["cost"][name]["emulated"]
        assert row["test_af_auc"] == ("" if typed["test_af_auc"] is None else str(typed["test_af_auc"]))


def test_a_keyboard_reaches_a_student_and_comes_back(opened: Open, run: Report) -> None:
    tab = opened()
    second = run.students[1]["id"]
    tab.focus(f'#students a[href="#student-{second}"]')
    tab.keyboard.press("Enter")
    tab.wait_for_selector(f"#student-{second}:not([hidden])")
    assert tab.evaluate("document.activeElement.textContent") == f"Student {second}"
    assert not tab.is_visible("#overview") and tab.title().startswith(second)
    assert tab.locator("article.student:not([hidden])").count() == 1
    tab.keyboard.press("Escape")
    tab.wait_for_selector("#overview:not([hidden])")
    assert tab.evaluate("document.activeElement.textContent") == second, "where the reader left"
    assert tab.locator("article.student:not([hidden])").count() == 0
    tab.keyboard.press("Enter")
    tab.keyboard.press("Shift+Tab")
    tab.keyboard.press("Shift+Tab")
    tab.keyboard.press("Shift+Tab")
    assert tab.evaluate("document.activeElement.className") == "back"
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#overview:not([hidden])")
    tab.go_back()
    tab.wait_for_selector(f"#student-{second}:not([hidden])")


def test_a_link_opens_a_student_directly_and_the_scatter_is_drawn_later(opened: Open, run: Report) -> None:
    tab = opened(anchor=f"#student-{run.students[0]['id']}")
    assert tab.is_visible(f"#student-{run.students[0]['id']}") and not tab.is_visible("#pareto")
    tab.click("article:not([hidden]) .back")
    tab.wait_for_selector("#pareto .main-svg")
    assert tab.evaluate("document.querySelector('#pareto .main-svg').getBoundingClientRect().width") > 600


def test_a_row_points_at_its_mark(opened: Open, run: Report) -> None:
    tab = opened()
    student = run.students[3]
    tab.focus(f'#students a[href="#student-{student["id"]}"]')
    place = tab.evaluate(PLACE, [student["cost"]["latency_us"]["predicted"] / 1000, student["metrics"]["validation"]["af_auc"]])
    area = tab.evaluate(
        "(() => { const r = document.getElementById('ring').getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )
    assert area == [pytest.approx(at, abs=1) for at in place]
    tab.focus("#download-csv")
    assert not tab.is_visible("#ring")


def test_battery_life_follows_the_reader(opened: Open, run: Report) -> None:
    tab = opened()
    energies = [s["cost"]["energy_uj"]["emulated"] for s in run.students]

    def days() -> list[str]:
        return tab.eval_on_selector_all("#battery-days .days", "cells => cells.map((cell) => cell.textContent)")

    assert days() == [f"{life(e).days:,.0f}" for e in energies]
    changed = {"capacity_mah": 45.0, "supply_v": 1.8, "period_s": 5.0, "sleep_ua": 1.2, "sensing_uw": 12.5}
    for name, value in changed.items():
        tab.fill(f'#battery [name="{name}"]', str(value))
    expected = [life(e, WRIST_SENSOR.given("a test", **changed)).days for e in energies]
    assert days() == [f"{d:,.0f}" if d >= 10 else f"{d:,.1f}" for d in expected]
    assert "sensing power given" in tab.inner_text("#battery-note")
    tab.fill('#battery [name="period_s"]', "0")
    assert set(days()) == {"–"} and "above 0" in tab.inner_text("#battery-wrong")  # noqa: RUF001


@pytest.mark.parametrize("viewport", [PHONE, TABLET], ids=["phone", "tablet"])
def test_a_point_that_is_tapped_is_told_and_its_link_can_be_tapped(viewport: dict[str, int], opened: Open, run: Report) -> None:
    tab = opened(viewport=viewport, has_touch=True, is_mobile=True)
    student = run.front["students"][5]
    tab.locator("#pareto").scroll_into_view_if_needed()
    place = tab.evaluate(PLACE, [student["cost"]["latency_us"]["predicted"] / 1000, student["metrics"]["validation"]["af_auc"]])
    tab.touchscreen.tap(*place)
    tab.wait_for_selector("#told:not([hidden])")
    tab.tap("#told a")
    tab.wait_for_selector(f"#student-{student['id']}:not([hidden])")


def test_nothing_in_a_file_runs(opened: Open, tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
    front, trials = joint_run()
    for student in front["students"]:
        student |= {"summary": evil, "family": evil}
    front |= {"data": evil, "task": evil}
    for trial in trials:
        trial |= {"family": evil, "parameters": {evil: evil}}
    path = tmp_path / "evil.html"
    path.write_text(page.render(sample_report(front, trials)), encoding="utf-8")
    tab = opened(path)
    student = front["students"][2]
    place = tab.evaluate(PLACE, [student["cost"]["latency_us"]["predicted"] / 1000, student["metrics"]["validation"]["af_auc"]])
    tab.mouse.move(*place, steps=4)
    tab.wait_for_selector("#told:not([hidden])")
    assert evil in tab.inner_text("#told") and tab.locator("img").count() == 0


@pytest.mark.slow
def test_two_thousand_trials_are_drawn(opened: Open, tmp_path: Path) -> None:
    front, _ = joint_run()
    few = sample_trials()
    trials = [few[n % len(few)] | {"hash": f"{n:012x}", "family": "lstm", "parameters": {"units": n}} for n in range(2000)]
    path = tmp_path / "many.html"
    path.write_text(page.render(sample_report(front, trials)), encoding="utf-8")
    tab = opened(path)
    tab.select_option("#y-axis", "ram_bytes_predicted")
    assert tab.evaluate(POINTS) == sum(t["status"] in ("rejected", "scored") for t in trials) + 7
    assert tab.evaluate("document.querySelectorAll('#pareto .point').length") > 1900


def test_a_run_without_students_opens(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "empty.html"
    path.write_text(page.render(Report({"profile": "p", "task": "t", "students": []})), encoding="utf-8")
    tab = opened(path)
    assert tab.is_visible("h1") and not tab.is_visible("#students")
