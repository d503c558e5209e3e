"""What is known of one student, as sections: quality of its forms, cost on every target, operators, files. Pure.

The page draws the same figures; these are for formats that hold text alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hwnas.report.content import (
    COSTS,
    EMULATED,
    FIGURES,
    KINDS,
    METRICS,
    NONE,
    Column,
    Report,
    Section,
    Student,
    cost,
    doubt,
    figure,
    measure,
    primary,
    share,
    source,
    title,
)
from hwnas.report.operators import latencies, operators

TARGET = tuple[str, str, dict[str, str]]  # name, kind of its figures, figures by name
LINKED_FLASH = "flash with the link, KB"
DIFFERING = "windows that differ from the int8 reference"
FIRMWARE = "firmware/"


def sections(report: Report, student: Student) -> list[Section]:
    """The tables of a student, in order; those without rows are left out."""
    made = [quality(report, student), costs(report, student), per_operator(report, student), files(report, student)]
    return [section for section in made if section.rows]


def quality(report: Report, student: Student) -> Section:
    """Every metric of teacher, float student and int8 student, a column each."""
    first, data = primary(report.front), source(report.front)
    teacher = (report.front.get("teacher") or {}).get("metrics") or {}
    floating = (student.get("metrics_float") or {}).get("validation") or (student.get("quantisation") or {}).get("float")
    own = student.get("metrics") or {}
    found = {
        ("teacher, float", "validation"): teacher.get("validation"),
        ("student, float", "validation"): floating,
        ("student, int8", "validation"): own.get("validation"),
        ("teacher, float", "test"): teacher.get("test"),
        ("student, int8", "test"): own.get("test"),
    }
    known = {column: metrics for column, metrics in found.items() if metrics}
    present = dict.fromkeys(name for metrics in known.values() for name in metrics if name != "error")
    names = dict.fromkeys([*(n for n in (first, *METRICS) if n in present), *present])
    rows = tuple((title(n), *(measure(n).show(metrics.get(n)) for metrics in known.values())) for n in names)
    note = "Students are chosen on validation subjects; test subjects are scored once, after the front is frozen, in the int8 form alone."
    agreed = (report.portraits.get(str(student["id"])) or {}).get("agreement") or {}
    words = {"int8_float": "its float form", "int8_teacher": "its teacher"}
    said = [f"{words[name]} in {share(value)}" for name, value in agreed.items() if name in words and value is not None]
    note += f" The int8 student agrees with {' and with '.join(said)} of validation windows." if said else ""
    columns = (Column("metric"), *(Column(form, f"{part}, {data} data") for form, part in known))
    return Section("Quality", note, columns, rows, figures=True)


def costs(report: Report, student: Student) -> Section:
    """Predicted, emulated and every board, a column each; a board's figures of another kind have a column of their own."""
    found = [*_modelled(report, student)]
    for name, board in (report.boards.get(str(student["id"])) or {}).items():
        found += _board(name, board)
    names = dict.fromkeys(name for _, _, shown in found for name in shown)
    rows = tuple((name, *(shown.get(name, NONE) for _, _, shown in found)) for name in names)
    note = (
        "Predicted: from the lookup table and the arena plan, before training. Emulated: the shipped program with a cycle model. "
        "A figure of a board is measured where its column says so, and nowhere else. KB is 1,024 bytes."
    )
    shown = tuple(row for row in rows if set(row[1:]) != {NONE})
    return Section("Cost on every target", note, (Column("figure"), *(Column(t, kind) for t, kind, _ in found)), shown, figures=True)


def _modelled(report: Report, student: Student) -> Iterator[TARGET]:
    bench = report.benches.get(str(student["id"])) or {}
    for kind, label in KINDS.items():
        values = {name: cost(student, name, kind) for name in FIGURES}
        if any(value is not None for value in values.values()):
            shown = {q.title: q.show(values[name], doubt(report.front, name)) for name, q in FIGURES.items()}
            shown["cycles"] = figure((bench.get(kind) or {}).get("cycles"))
            if kind == EMULATED and bench:
                shown |= {"stack, bytes": figure(bench.get("stack_bytes")), DIFFERING: _share_of(bench, "windows_different_from_reference")}
            yield label, "", shown


def _board(name: str, found: Mapping[str, Any]) -> Iterator[TARGET]:
    """The first column has latency and memory, further ones hold figures of other kinds."""
    latency, cycles, energy, memory = (found.get(part) or {} for part in ("latency", "cycles", "energy", "memory"))
    ms, kb = COSTS["latency_us"], COSTS["ram_bytes"]
    first = str(latency.get("kind") or "")
    spread = latency.get("spread_us")
    kinds: dict[str, dict[str, str]] = {
        first: {
            ms.title: ms.show(latency.get("median_us")),
            "interquartile range of runs, ms": figure(None if spread is None else spread / ms.divisor, 4),
            COSTS["ram_bytes"].title: kb.show(memory.get("ram_bytes")),
            LINKED_FLASH if memory.get("flash_includes_link") else COSTS["flash_bytes"].title: kb.show(memory.get("flash_bytes")),
            "stack, bytes": figure(memory.get("stack_bytes")),
            DIFFERING: _share_of(found, "windows_differing"),
            "warnings": "; ".join(map(str, found.get("warnings") or ())) or NONE,
            "date": str(found.get("date") or NONE),
        }
    }
    if cycles.get("median") is not None:
        kinds.setdefault(str(cycles.get("kind") or ""), {})["cycles"] = figure(round(cycles["median"]))
    if energy.get("energy_uj") is not None:
        kinds.setdefault(str(energy.get("kind") or ""), {})[COSTS["energy_uj"].title] = COSTS["energy_uj"].show(energy["energy_uj"])
    provenance = str(found.get("provenance") or "provenance not stated")
    for kind, shown in kinds.items():
        yield name, f"{provenance}; {kind}" if kind == first else f"{kind}, beside: {provenance}", shown


def _share_of(found: Mapping[str, Any], name: str) -> str:
    count = found.get(name)
    return NONE if count is None else f"{count:,} of {found.get('windows', 0):,}"


def per_operator(report: Report, student: Student) -> Section:
    """One row an operator: what it is, its latency from every source, and what of the arena is alive with it."""
    identity = str(student["id"])
    portrait, bench = report.portraits.get(identity), report.benches.get(identity)
    rows = operators(portrait, bench)
    hardware = (bench or {}).get("hardware") or report.front.get("hardware") or {}
    series = latencies(rows, report.boards.get(identity) or {}, hardware.get("clock_hz"))
    columns = (
        *(Column("#"), Column("operator", words=True), Column("kernel", words=True), Column("weights", words=True)),
        *(Column("shape"), Column("MACs"), Column("parameters")),
        *(Column("µs", s.label) for s in series),
        *(Column("output, bytes"), Column("alive, bytes")),
    )
    cells = tuple(
        (
            *(str(row.index), row.name, row.kernel, row.weights),
            *(" x ".join(map(str, row.shape)) or NONE, figure(row.macs), figure(row.parameters)),
            *(figure(s.us.get(row.index), 2) for s in series),
            *(figure(row.bytes), figure(row.live_bytes)),
        )
        for row in rows
    )
    note = "Shapes are channels x samples. Alive: bytes of the arena that hold something while the operator runs."
    return Section("Operators", note, columns, cells, figures=True)


def files(report: Report, student: Student) -> Section:
    """What is in the student's folder; the firmware as one."""
    listed = [(str(row["path"]), int(row["bytes"])) for row in (report.portraits.get(str(student["id"])) or {}).get("files") or ()]
    code = [size for path, size in listed if path.startswith(FIRMWARE)]
    rows = [(FIRMWARE, f"{len(code)} files", f"{sum(code):,}")] if code else []
    rows += [(path, "", f"{size:,}") for path, size in listed if not path.startswith(FIRMWARE)]
    note = f"In {student.get('folder') or NONE}, relative to the run."
    return Section("Files to ship", note, (Column("file"), Column("what", words=True), Column("bytes")), tuple(rows), figures=True)
