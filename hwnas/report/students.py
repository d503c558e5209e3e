"""The page of one student, inside the page of the run: architecture, latency, memory, quality, cost on every target, files. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from hwnas.report import tables
from hwnas.report.charts import missing, table, tag
from hwnas.report.content import (
    COSTS,
    EMULATED,
    FIGURES,
    KINDS,
    NONE,
    PREDICTED,
    Report,
    Student,
    cost,
    doubt,
    figure,
    measure,
    primary,
    score,
    source,
)
from hwnas.report.integers import exports, quantisation, sensitivity
from hwnas.report.listing import anchor, status
from hwnas.report.operators import drawing, latencies, operators
from hwnas.report.quality import agreement, confusion, densities, forms, reliability, strip, subjects

ABOUT = {
    "model.tflite": "full int8, for TensorFlow Lite",
    "model.onnx": "int8 as QDQ, opset 17",
    "int8.safetensors": "the integers that every form holds",
    "weights.safetensors": "float weights",
    "graph.json": "the graph: operators and shapes",
    "bench.json": "how the program ran in the emulator",
    "firmware/README.md": "how to add it to a build",
}
FIRMWARE = "firmware/"
LINKED_FLASH = "flash with the link, KB"
DIFFERING, SPREAD = "windows that differ from the int8 reference", "spread of runs, ms"
ARENA, STACK = "arena, bytes", "stack, bytes"
COST = {name: quantity.title for name, quantity in FIGURES.items()}
SHOWN = (
    *(COST["latency_us"], SPREAD, "cycles", COST["ram_bytes"], ARENA, STACK, COST["flash_bytes"], LINKED_FLASH),
    *(COST["energy_uj"], COST["average_power_uw"], DIFFERING, "link trouble", "warnings", "date"),
)
UNSTATED = "provenance not stated"
OPERATORS_NOTE = (
    "Time runs down the page: an operator, its latency and the memory alive with it share a line. Cycles of operators are those of zero "
    "wait states, without calls and frame, at the clock of the profile."
)
COSTS_NOTE = (
    "Each column holds figures of one kind. Predicted: from the lookup table and the arena plan, before training. Emulated: the shipped "
    "ELF executed with a cycle model of the core. A figure of a board is measured where its column says so, and nowhere else. KB is 1,024 "
    "bytes."
)
FORMS_NOTE = (
    "Students are chosen on validation subjects; test subjects are scored once, after the front is frozen, with the int8 form alone."
)


def page(report: Report, student: Student, before: str = "", after: str = "") -> str:
    """The page of a student; `before` and `after` are the ids of its neighbours in the table."""
    identity = str(student["id"])
    portrait, bench, boards = report.portraits.get(identity), report.benches.get(identity), report.boards.get(identity) or {}
    rows = operators(portrait, bench)
    hardware = (bench or {}).get("hardware") or report.front.get("hardware") or {}
    series = latencies(rows, boards, hardware.get("clock_hz"))
    made, kinds = source(report.front), tuple(KINDS.values()) + tuple(boards)
    described = _section(
        "Teacher, float, int8", (f"{made} data",), FORMS_NOTE, strip(report, student) + agreement(portrait) + forms(report, student)
    )
    every = _section("Subject by subject", (f"{made} data",), "", subjects(report, portrait))
    shipped = _section("Files to ship", (), f"In {student.get('folder') or NONE}, relative to the run.", files(student, portrait))
    alone = {**report.front, "students": [student], "fallen": []}
    lost = sensitivity(alone)
    sections = [
        _section("Operator by operator", kinds, OPERATORS_NOTE if series else "", drawing(rows, portrait, series, _input(student))),
        _section("Cost on every target", kinds, COSTS_NOTE, costs(report, student)),
        f'<div class="halves">{described}{every}</div>',
        f'<div class="halves">{"".join(_answers(report, student, portrait))}</div>',
        *(tables.render(section) for section in (quantisation(alone), exports(alone)) if section.rows),
        f'<div class="halves">{shipped}{tables.render(lost) if lost.rows else ""}</div>',
        _section("Next", (), "", _next(student)),
    ]
    links = [
        f'<a href="#{escape(anchor(name))}">{word} {escape(name)}</a>'
        for name, word in ((before, "&larr;"), (after, "next &rarr;"))
        if name
    ]
    name, family, summary = escape(identity), *(escape(str(student.get(word) or "")) for word in ("family", "summary"))
    return (
        f'<article class="student" id="{escape(anchor(identity))}" data-student="{name}" aria-label="student {name}">'
        f'<nav class="crumbs"><a class="back" href="#students-table">&larr; all students</a><span>{" ".join(links)}</span></nav>'
        f'<h1 tabindex="-1">Student <code>{name}</code></h1>'
        f'<p class="lead">{family} {tag(status(student))}<br>{summary}</p>'
        f"{_tiles(report, student)}{''.join(sections)}</article>"
    )


def _section(title: str, kinds: tuple[str, ...], note: str, body: str) -> str:
    tags = "".join(tag(kind) for kind in kinds)
    told = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)} {tags}</h2>{told}{body}</section>"


def _input(student: Student) -> str:
    rate, window, channels = (student.get(name) for name in ("rate_hz", "window_s", "channels"))
    if rate and window and channels:
        return f"input: {channels} x {round(rate * window):,} ({window:g} s at {rate:g} Hz)"
    return "input"


def _tiles(report: Report, student: Student) -> str:
    first = primary(report.front)
    metric = measure(first)
    kind = EMULATED if cost(student, "latency_us", EMULATED) is not None else PREDICTED
    part = "test" if score(student, "test", first) is not None else "validation"
    made = [(metric.title, metric.show(score(student, part, first)), f"{part}, int8, {source(report.front)}")]
    for name, quantity in COSTS.items():
        made.append(
            (quantity.title, quantity.show(cost(student, name, kind)), " ".join(filter(None, (doubt(report.front, name), KINDS[kind]))))
        )
    made.append(("parameters", figure(student.get("parameters")), f"{figure(student.get('macs'))} MACs"))
    return '<div class="tiles">' + "".join(tile(*each) for each in made) + "</div>"


def tile(name: str, value: str, kind: str) -> str:
    """One figure to see first."""
    return f'<div class="tile"><span>{escape(name)}</span><strong>{escape(value)}</strong><em>{escape(kind)}</em></div>'


def costs(report: Report, student: Student) -> str:
    """Predicted, emulated and every board side by side; a board's figures of another kind have a column of their own."""
    identity = str(student["id"])
    columns: list[tuple[str, str, Mapping[str, str]]] = []
    bench = report.benches.get(identity) or {}
    for kind, label in KINDS.items():
        known = {name: cost(student, name, kind) for name in FIGURES}
        if any(value is not None for value in known.values()):
            shown = {q.title: q.show(known[name], doubt(report.front, name)) for name, q in FIGURES.items()}
            own = bench.get(kind) or {}
            shown["cycles"] = figure(own.get("cycles"))
            if kind == EMULATED:
                shown |= {ARENA: figure(bench.get("arena_bytes")), STACK: figure(bench.get("stack_bytes"))}
                shown[DIFFERING] = _differing(bench, "windows_different_from_reference")
            columns.append((label, bench.get("target", "") if kind == EMULATED else "", shown))
    for target, found in (report.boards.get(identity) or {}).items():
        columns += _board(target, found)
    if not columns:
        return missing("Costs", "The student's card has none.")
    rows = [(name, *(shown.get(name, NONE) for _, _, shown in columns)) for name in SHOWN]
    heads = [("figure", ""), *((title, kind) for title, kind, _ in columns)]
    bench_it = f"hwnas bench RUN/{student.get('folder') or 'STUDENT'} --target serial:/dev/ttyACM0 adds a column."
    return table(heads, [row for row in rows if set(row[1:]) != {NONE}]) + (
        "" if report.boards.get(identity) else missing("Boards", bench_it)
    )


def _differing(found: Mapping[str, Any], name: str) -> str:
    count = found.get(name)
    return NONE if count is None else f"{count:,} of {found.get('windows', 0):,}"


def _board(target: str, found: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """The columns of a target: the first with its latency and memory, further ones with figures of other kinds."""
    latency, cycles, energy, memory = (found.get(name) or {} for name in ("latency", "cycles", "energy", "memory"))
    ms, kb = COSTS["latency_us"], COSTS["ram_bytes"]
    first = str(latency.get("kind") or "")
    of_kind: dict[str, dict[str, str]] = {first: {}}
    of_kind[first] = {
        ms.title: ms.show(latency.get("median_us")),
        SPREAD: figure(None if latency.get("spread_us") is None else latency["spread_us"] / ms.divisor, 4),
        COST["ram_bytes"]: kb.show(memory.get("ram_bytes")),
        LINKED_FLASH if memory.get("flash_includes_link") else COST["flash_bytes"]: kb.show(memory.get("flash_bytes")),
        ARENA: figure(memory.get("arena_bytes")),
        STACK: figure(memory.get("stack_bytes")),
        DIFFERING: _differing(found, "windows_differing"),
        "link trouble": _trouble(found.get("link")),
        "warnings": "; ".join(map(str, found.get("warnings") or ())) or NONE,
        "date": str(found.get("date") or NONE),
    }
    if cycles.get("median") is not None:
        of_kind.setdefault(str(cycles.get("kind") or ""), {})["cycles"] = figure(round(cycles["median"]))
    if energy.get("energy_uj") is not None:
        of_kind.setdefault(str(energy.get("kind") or ""), {})[COST["energy_uj"]] = COSTS["energy_uj"].show(energy["energy_uj"])
    provenance = str(found.get("provenance") or UNSTATED)
    for number, (kind, shown) in enumerate(of_kind.items()):
        if number:
            yield target, f"{kind}; the rest {provenance}", shown
        else:
            yield target, provenance if kind in provenance else f"{provenance}; {kind}", shown


def _trouble(link: Mapping[str, Any] | None) -> str:
    if link is None:
        return NONE
    return ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in link.items() if value) or "none"


def _answers(report: Report, student: Student, portrait: Mapping[str, Any] | None) -> Iterator[str]:
    """Calibration and confusion of classes, or estimates against truth."""
    made = (f"{source(report.front)} data",)
    if (portrait or {}).get("values") or measure(primary(report.front)).unit:
        note = "2-BPM bins; the darker, the more windows. On the diagonal an estimate is right."
        yield _section("Estimates against truth", ("validation", *made), note, densities(portrait))
    else:
        note = "Windows in bins of confidence. On the diagonal a student is right as often as it says; below it is too sure."
        yield _section("Calibration curve", ("validation", *made), note, reliability(portrait))
        note = "Rows are truth, columns what was said; the shade is the share of the row."
        yield _section("Confusion matrix", made, note, confusion(portrait, student.get("labels") or ()))


def files(student: Student, portrait: Mapping[str, Any] | None) -> str:
    """What is in the student's folder; the firmware as one."""
    found = [(str(row["path"]), int(row["bytes"])) for row in (portrait or {}).get("files") or ()]
    if not found:
        return missing("Files", "Runs of this version list them in students/ID/portrait.json.")
    code = [(path, size) for path, size in found if path.startswith(FIRMWARE)]
    rows = [(path, f"{size:,}", ABOUT.get(path, "")) for path, size in found if not path.startswith(FIRMWARE)]
    if code:
        said = "C99: model.c, model.h, the kernels it uses and their headers; its README has the ten lines that call it"
        rows.insert(0, (FIRMWARE, f"{sum(size for _, size in code):,}", f"{len(code)} files. {said}"))
    listed = table([("file", ""), ("bytes", ""), ("what", "")], rows, "figures files")
    inside = table([("file", ""), ("bytes", "")], ((path, f"{size:,}") for path, size in code), "figures files")
    return listed + (f"<details><summary>{len(code)} files of the firmware</summary>{inside}</details>" if code else "")


def _next(student: Student) -> str:
    folder = str(student.get("folder") or "STUDENT")
    commands = {
        "Run it on a board, and compare bit for bit": f"hwnas bench RUN/{folder} --target serial:/dev/ttyACM0",
        "Score it on other recordings": f"hwnas evaluate RUN/{folder} --data OTHER_DIR",
        "Write it again, for another target": f"hwnas export RUN/{folder} --format c --profile PROFILE",
    }
    return "".join(f'<p class="command"><span>{escape(words)}</span><code>{escape(text)}</code></p>' for words, text in commands.items())
