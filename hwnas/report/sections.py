"""The tables of the report, which every format renders. Pure: no files, no plotting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hwnas.report.content import (
    FIGURES,
    KINDS,
    NONE,
    Column,
    Front,
    Section,
    Trial,
    cost,
    doubt,
    families,
    figure,
    flatten,
    measure,
    metrics_of,
    primary,
    score,
    share,
    short_score,
    source,
    title,
)
from hwnas.report.integers import exports, quantisation, sensitivity

FALLEN = "Fully distilled, not on the front"


def sections(front: Front, trials: Sequence[Trial]) -> list[Section]:
    """The tables of the report, in order; those without rows are left out."""
    students, fallen = front.get("students", []), front.get("fallen", [])
    made = [
        _quality("Students on the Pareto front: quality", students, front),
        _cost("Students on the Pareto front: cost", students, front),
        _quality(FALLEN, fallen, front, reasons=True),
        _cost(f"{FALLEN}: cost", fallen, front),
        _architectures([*students, *fallen]),
        quantisation(front),
        sensitivity(front),
        exports(front),
        teacher(front),
        search(front, trials),
        family_counts(front),
        rejections(trials),
    ]
    return [section for section in made if section.rows]


def _quality(heading: str, students: Sequence[Mapping[str, Any]], front: Front, *, reasons: bool = False) -> Section:
    first = primary(front)
    metrics = metrics_of(front)
    parts = {"validation": "validation, int8"} | ({} if reasons else {"test": "test, int8"})
    several = len(families(front)) > 1
    columns = [Column("student"), *([Column("family", words=True)] if several else [])]
    columns += [*([Column("why", words=True)] if reasons else []), Column("parameters"), Column("MACs")]
    columns += [Column(title(first), "short, validation")]
    columns += [Column(title(m), group) for group in parts.values() for m in metrics]
    rows = tuple(
        (
            str(s["id"]),
            *([str(s.get("family") or NONE)] if several else []),
            *([str(s.get("fallen") or NONE)] if reasons else []),
            figure(s.get("parameters")),
            figure(s.get("macs")),
            measure(first).show(short_score(s, first) if "short_validation" in s else None),
            *(measure(m).show(score(s, part, m)) for part in parts for m in metrics),
        )
        for s in students
    )
    note = (
        f'Scores of the int8 form on {source(front)} data; "short" is after the short distillation of the search. Students are '
        "chosen on validation subjects; test subjects are scored once, after that."
    )
    note += f" {title(first)}: lower is better." if measure(first).lower else ""
    note += " Students that are not on the front are not scored on test subjects." if reasons else ""
    return Section(heading, note, tuple(columns), rows, figures=True)


def _cost(heading: str, students: Sequence[Mapping[str, Any]], front: Front) -> Section:
    several = len(families(front)) > 1
    columns = [Column("student"), *([Column("family", words=True)] if several else [])]
    columns += [Column(q.title, label) for label in KINDS.values() for q in FIGURES.values()]
    shown = [(name, kind, q, doubt(front, name)) for kind in KINDS for name, q in FIGURES.items()]
    rows = tuple(
        (
            str(s["id"]),
            *([str(s.get("family") or NONE)] if several else []),
            *(q.show(cost(s, name, kind), mark) for name, kind, q, mark in shown),
        )
        for s in students
    )
    note = (
        "Predicted: from the lookup table and the arena plan, before training. Emulated: the shipped ELF executed with a cycle "
        "model of the core, not measured on silicon. Average power is that of inference alone, once a window. KB is 1,024 bytes."
    )
    return Section(heading, note, tuple(columns), rows, figures=True)


def _architectures(students: Sequence[Mapping[str, Any]]) -> Section:
    names = ("family", "summary", "folder")
    rows = tuple((str(s["id"]), *(str(s.get(name) or NONE) for name in names)) for s in students)
    columns = (Column("student"), Column("family"), Column("architecture"), Column("folder"))
    return Section("Architectures", "Layers in order; folders are relative to the run.", columns, rows)


def teacher(front: Front) -> Section:
    """Who taught: size, metrics, calibration before and after, members of an ensemble."""
    found = front.get("teacher") or {}
    rows = [(key, figure(found.get(key))) for key in ("id", "name", "parameters", "hash") if found.get(key) is not None]
    rows += [(f"{title(name)}{suffix}", measure(name).show(value)) for name, value, suffix in _flat_metrics(found.get("metrics") or {})]
    calibration = flatten(found.get("calibration") or {})
    rows += [(name, figure("; ".join(map(str, value)) if isinstance(value, list) else value)) for name, value in calibration]
    for number, member in enumerate(found.get("members") or (), start=1):
        temperature = figure(member["calibration"]["temperature"])
        rows.append((f"member {number}", f"{member['name']}, {figure(member['parameters'])} parameters, temperature {temperature}"))
    note = (
        f"Float teacher, {source(front)} data. NLL in nats. NLL and ECE before and after are computed on the same validation "
        "windows that the temperature is fitted on: they describe that fit, not unseen subjects."
    )
    return Section("Teacher card", note, (Column("what"), Column("value")), tuple(rows))


def _flat_metrics(metrics: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    if any(isinstance(v, Mapping) for v in metrics.values()):
        return [(name, value, f", {part}") for part, inner in metrics.items() for name, value in (inner or {}).items()]
    return [(name, value, "") for name, value in metrics.items()]


def search(front: Front, trials: Sequence[Trial]) -> Section:
    """How many candidates there were, and what became of them."""
    found = front.get("search") or {}
    counted = Counter(str(t.get("status")) for t in trials)
    counts = {name: found.get(name, counted.get(name)) for name in ("rejected", "scored", "failed")}
    rows = [("candidates proposed", figure(found.get("proposed", len(trials) or None)))]
    rows += [(f"candidates {name}", figure(value)) for name, value in counts.items() if value is not None]
    rows += [("random candidates over budget", share(found["reject_share"]))] if found.get("reject_share") is not None else []
    known = {"proposed", "reject_share", "spaces", "families", *counts}
    rows += [(name, figure(value)) for name, value in flatten({k: v for k, v in found.items() if k not in known})]
    note = "A rejected candidate is over budget as predicted; it is never trained."
    return Section("Search", note, (Column("what"), Column("value")), tuple(rows))


def rejections(trials: Sequence[Trial]) -> Section:
    """How many candidates broke which limit."""
    rejected = [t for t in trials if t.get("status") == "rejected"]
    counts = Counter(name for t in rejected for name in (t.get("violations") or {}))
    rows = tuple((name.replace("_", " "), f"{n:,}", share(n / len(rejected))) for name, n in counts.most_common())
    note = f"Of {len(rejected):,} rejected candidates; one can break several limits."
    return Section("Limits that candidates broke", note, (Column("limit"), Column("candidates"), Column("share")), rows)


def family_counts(front: Front) -> Section:
    """What became of every family, from the proposals to the front."""
    names = {
        "proposed": "proposed",
        "rejected": "rejected",
        "duplicates": "duplicates",
        "scored": "scored",
        "failed": "failed",
        "finished": "fully distilled",
        "front": "on the front",
    }
    found = (front.get("search") or {}).get("families") or {}
    rows = tuple(
        (family, *(figure(counts.get(name)) for name in names), share(counts.get("reject_share"))) for family, counts in found.items()
    )
    columns = (Column("family"), *map(Column, names.values()), Column("random candidates over budget"))
    note = "Those proposed were rejected as over budget, scored, or failed; a duplicate is no candidate of its own."
    return Section("Student families", note, columns, rows, figures=True)
