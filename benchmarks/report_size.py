"""Size of the largest report, and how long a browser takes to show it. Writes `benchmarks/results/report_size.json`.

    python benchmarks/report_size.py [--repetitions 15] [--chromium /usr/bin/chromium] [--keep FOLDER]

The run is made up by a seeded generator (synthetic, nothing was trained): 2,000 candidates, 8 students of 40 operators each. Its page is
timed in headless Chromium beside a plain plotly page of the same points, in turn, from the beginning of the navigation to the first
frame in which the points are drawn; what counts is the ratio of the two, since both run under the same load.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from made_runs import BUDGET, made_report

from hwnas.report import writer
from hwnas.report.content import Report
from hwnas.resources import write_bytes, write_text

RESULT = Path(__file__).resolve().parent / "results" / "report_size.json"
TRIALS, STUDENTS, OPERATORS, SEED = 2000, 8, 40, 0
LIMIT_BYTES = 8_000_000
# Runs before anything of the page: asks every frame whether points are drawn, and keeps the time of the first such frame.
WATCH = """
(function watch() {
  const drawn = document.querySelectorAll("#pareto .scatterlayer .point").length;
  if (drawn > 0) { window.shown = { ms: performance.now(), points: drawn }; } else { requestAnimationFrame(watch); }
})();
"""


def plain_page(report: Report) -> bytes:
    """A plotly page of the same networks and nothing else: scored ones and students by their score, rejected ones along the edge."""
    import plotly.graph_objects as go

    groups: dict[str, list[tuple[float, float]]] = {"rejected": [], "scored": [], "students": []}
    for row in report.trials:
        score = row["metrics"]["af_auc"] if row["status"] == "scored" else 0.84
        groups[row["status"]].append((row["cost"]["latency_us"] / 1000, score))
    for student in report.students:
        groups["students"].append((student["cost"]["latency_us"]["predicted"] / 1000, student["metrics"]["validation"]["af_auc"]))
    figure = go.Figure()
    for name, points in groups.items():
        figure.add_scatter(x=[x for x, _ in points], y=[y for _, y in points], mode="markers", name=name)
    figure.add_vline(x=BUDGET["latency_us"] / 1000)
    figure.update_layout(height=520, xaxis={"type": "log"})
    return str(figure.to_html(include_plotlyjs=True, div_id="pareto")).encode()


def shown(browser: Browser, page: Path) -> dict[str, Any]:
    """Milliseconds until points are drawn, how many, and until the load event, in a fresh context without cache."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.add_init_script(WATCH)
    tab.goto(page.as_uri())
    tab.wait_for_function("window.shown !== undefined", timeout=60_000)
    found: dict[str, Any] = tab.evaluate("window.shown")
    found["load_ms"] = tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    context.close()
    return found


def measure(folder: Path, chromium: str, repetitions: int) -> dict[str, Any]:
    """Both pages in turn, the first turn thrown away; each turn swaps which one goes first."""
    pages = {"report": folder / "report.html", "plain": folder / "plain.html"}
    times: dict[str, list[dict[str, Any]]] = {name: [] for name in pages}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        version = browser.version
        for turn in range(repetitions + 1):
            for name in list(pages)[:: 1 if turn % 2 else -1]:
                found = shown(browser, pages[name])
                if turn:
                    times[name].append(found)
        browser.close()
    ratios = [a["ms"] / b["ms"] for a, b in zip(times["report"], times["plain"], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4)
    return {
        "browser": f"Chromium {version}, headless",
        "repetitions": repetitions,
        "points_drawn": {name: rows[0]["points"] for name, rows in times.items()},
        "shown_median_ms": {name: statistics.median(row["ms"] for row in rows) for name, rows in times.items()},
        "load_event_median_ms": {name: statistics.median(row["load_ms"] for row in rows) for name, rows in times.items()},
        "ratio_median": statistics.median(ratios),
        "ratio_quartiles": [quartiles[0], quartiles[2]],
        "ratios": ratios,
    }


def main() -> None:
    """Make the pages, weigh and time them, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--keep", type=Path, help="Keep the pages in this folder.")
    options = parser.parse_args()
    report = made_report(students=STUDENTS, trials=TRIALS, operators=OPERATORS, seed=SEED)
    files = writer.render(report) | {"plain.html": plain_page(report)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        for name, content in files.items():
            write_bytes(folder / name, content)
        timed = measure(folder.resolve(), options.chromium, options.repetitions)
    result = {
        "data": f"synthetic: rows of a generator, seed {SEED}; no network was trained",
        "trials": TRIALS,
        "students": STUDENTS,
        "operators": OPERATORS,
        "bytes": {name: len(content) for name, content in files.items()},
        "limit_bytes": LIMIT_BYTES,
        **timed,
    }
    write_text(RESULT, json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: value for name, value in result.items() if name != "ratios"}, indent=1))
    size = len(files["report.html"])
    if size >= LIMIT_BYTES:
        sys.exit(f"report.html has {size:,} bytes, allowed are {LIMIT_BYTES:,}")


if __name__ == "__main__":
    main()
