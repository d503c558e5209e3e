"""What the report says, as sections of plain tables that every format renders. Pure: no files, no plotting.

Costs are stored in bytes, microseconds and microjoules and shown in KB (1,024 bytes), milliseconds and microjoules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Front = Mapping[str, Any]
Trial = Mapping[str, Any]

NONE = "–"  # noqa: RUF001  (an en dash, for a figure that does not exist)
PREDICTED, EMULATED = "predicted", "emulated"
KINDS = {PREDICTED: "predicted", EMULATED: "emulated (modelled cycles)"}
FALLEN = "Fully distilled, not on the front"
METRICS = {"af_auc": "AF AUC", "accuracy": "accuracy", "macro_f1": "macro-F1"}


@dataclass(frozen=True, slots=True)
class Quantity:
    """How one cost is shown: name, unit, divisor from the stored unit, decimals."""

    name: str
    unit: str
    divisor: float
    decimals: int

    @property
    def title(self) -> str:
        """Name and unit, for the head of a column."""
        return f"{self.name}, {self.unit}"

    def phrase(self, value: float | None, doubt: str = "") -> str:
        """Name, figure, unit and uncertainty, for a sentence."""
        return f"{self.name} {self.show(value)} {self.unit}" + (f" {doubt}" if doubt else "")

    def show(self, value: float | None, doubt: str = "") -> str:
        """`value` in the shown unit with its uncertainty, or a dash."""
        if value is None:
            return NONE
        return f"{value / self.divisor:,.{self.decimals}f}" + (f" {doubt}" if doubt else "")


COSTS = {
    "latency_us": Quantity("latency", "ms", 1000, 2),
    "ram_bytes": Quantity("RAM", "KB", 1024, 1),
    "flash_bytes": Quantity("flash", "KB", 1024, 1),
    "energy_uj": Quantity("energy", "µJ", 1, 1),
}
FIGURES = COSTS | {"average_power_uw": Quantity("average power", "µW", 1, 2)}
# Which uncertainty of the profile holds for a figure.
DOUBTS = {
    "latency_us": "uncertainty_factor",
    "energy_uj": "energy_uncertainty_factor",
    "average_power_uw": "energy_uncertainty_factor",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column title, the kind of figure that the whole column holds, and whether it holds words in a table of figures."""

    title: str
    group: str = ""
    words: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A titled table with the sentence that says how to read it; `figures` are aligned to the right."""

    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    figures: bool = False


def primary(front: Front) -> str:
    """Name of the metric that the search maximised."""
    return str(front.get("primary", "af_auc"))


def title(metric: str) -> str:
    """A metric's name as people write it."""
    return METRICS.get(metric, metric.replace("_", " "))


def cost(row: Mapping[str, Any], name: str, kind: str = PREDICTED) -> float | None:
    """Cost `name` of a student ({kind: figure} each) or of a trial (plain figures, all predicted); None where there is none."""
    value = (row.get("cost") or {}).get(name)
    if isinstance(value, Mapping):
        value = value.get(kind)
    elif kind != PREDICTED:
        return None
    return None if value is None else float(value)


def score(student: Mapping[str, Any], part: str, metric: str) -> float | None:
    """`metric` of a student's int8 form on `part` ("validation" or "test"), or None."""
    value = (student.get("metrics", {}).get(part) or {}).get(metric)
    return None if value is None else float(value)


def short_score(row: Mapping[str, Any], metric: str) -> float | None:
    """`metric` after the short distillation: of a student, or of a trial."""
    found = row.get("short_validation", row.get("metrics")) or {}
    value = found.get("validation", found).get(metric)
    return None if value is None else float(value)


def source(front: Front) -> str:
    """ "real", "synthetic", or that the run does not say."""
    return str(front.get("source") or "unstated")


def doubt_factor(front: Front, name: str) -> float:
    """So many times higher or lower a cost may really be; 1 where the profile states no uncertainty for it."""
    return float((front.get("hardware") or {}).get(DOUBTS.get(name, ""), 1))


def doubt(front: Front, name: str) -> str:
    """The uncertainty to show beside every figure of cost `name`; empty where there is none."""
    factor = doubt_factor(front, name)
    return f"(x{factor:g} either way)" if factor > 1 else ""


def figure(value: Any, decimals: int = 3) -> str:
    """A number or text as a table shows it."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.{decimals}f}" if isinstance(value, float) else str(value)


def share(value: float | None) -> str:
    """A share as a percentage."""
    return NONE if value is None else f"{100 * value:.1f} %"


def sections(front: Front, trials: Sequence[Trial]) -> list[Section]:
    """The tables of the report, in order; those without rows are left out."""
    students, fallen = front.get("students", []), front.get("fallen", [])
    made = [
        _quality("Students on the Pareto front: quality", students, front),
        _cost("Students on the Pareto front: cost", students, front),
        _quality(FALLEN, fallen, front, reasons=True),
        _cost(f"{FALLEN}: cost", fallen, front),
        _architectures([*students, *fallen]),
        _teacher(front),
        _search(front, trials),
        _rejections(trials),
        _exports([*students, *fallen]),
    ]
    return [section for section in made if section.rows]


def _quality(heading: str, students: Sequence[Mapping[str, Any]], front: Front, *, reasons: bool = False) -> Section:
    first = primary(front)
    metrics = [first, *(m for m in METRICS if m != first)]
    parts = {"validation": "validation, int8"} | ({} if reasons else {"test": "test, int8"})
    columns = [Column("student"), *([Column("why", words=True)] if reasons else []), Column("parameters"), Column("MACs")]
    columns += [Column(title(first), "short, validation")]
    columns += [Column(title(m), group) for group in parts.values() for m in metrics]
    rows = tuple(
        (
            str(s["id"]),
            *([str(s.get("fallen") or NONE)] if reasons else []),
            figure(s.get("parameters")),
            figure(s.get("macs")),
            figure(short_score(s, first) if "short_validation" in s else None),
            *(figure(score(s, part, m)) for part in parts for m in metrics),
        )
        for s in students
    )
    note = (
        f'Scores of the int8 form on {source(front)} data; "short" is after the short distillation of the search. Students are '
        "chosen on validation subjects; test subjects are scored once, after that."
    )
    note += " Students that are not on the front are not scored on test subjects." if reasons else ""
    return Section(heading, note, tuple(columns), rows, figures=True)


def _cost(heading: str, students: Sequence[Mapping[str, Any]], front: Front) -> Section:
    columns = (Column("student"), *(Column(q.title, label) for label in KINDS.values() for q in FIGURES.values()))
    shown = [(name, kind, q, doubt(front, name)) for kind in KINDS for name, q in FIGURES.items()]
    rows = tuple((str(s["id"]), *(q.show(cost(s, name, kind), mark) for name, kind, q, mark in shown)) for s in students)
    note = (
        "Predicted: from the lookup table and the arena plan, before training. Emulated: the shipped ELF executed with a cycle "
        "model of the core, not measured on silicon. Average power is that of inference alone, once a window. KB is 1,024 bytes."
    )
    return Section(heading, note, columns, rows, figures=True)


def _architectures(students: Sequence[Mapping[str, Any]]) -> Section:
    names = ("family", "summary", "folder")
    rows = tuple((str(s["id"]), *(str(s.get(name) or NONE) for name in names)) for s in students)
    columns = (Column("student"), Column("family"), Column("architecture"), Column("folder"))
    return Section("Architectures", "Layers in order; folders are relative to the run.", columns, rows)


def _teacher(front: Front) -> Section:
    teacher = front.get("teacher") or {}
    rows = [(key, figure(teacher.get(key))) for key in ("id", "name", "parameters", "hash") if teacher.get(key) is not None]
    rows += [(f"{title(name)}{suffix}", figure(value)) for name, value, suffix in _flat_metrics(teacher.get("metrics") or {})]
    rows += [(name, figure(value)) for name, value in flatten(teacher.get("calibration") or {})]
    note = (
        f"Float teacher, {source(front)} data. NLL in nats. NLL and ECE before and after are computed on the same validation "
        "windows that the temperature is fitted on: they describe that fit, not unseen subjects."
    )
    return Section("Teacher card", note, (Column("what"), Column("value")), tuple(rows))


def _flat_metrics(metrics: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    if any(isinstance(v, Mapping) for v in metrics.values()):
        return [(name, value, f", {part}") for part, inner in metrics.items() for name, value in (inner or {}).items()]
    return [(name, value, "") for name, value in metrics.items()]


def flatten(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested mappings as (words, value); upper case for the abbreviations of calibration."""
    rows: list[tuple[str, Any]] = []
    for key, value in content.items():
        words = " ".join(w.upper() if w in ("nll", "ece") else w for w in str(key).split("_"))
        name = f"{prefix} {words}".strip()
        rows += flatten(value, name) if isinstance(value, Mapping) else [(name, value)]
    return rows


def _search(front: Front, trials: Sequence[Trial]) -> Section:
    search = front.get("search") or {}
    counted = Counter(str(t.get("status")) for t in trials)
    counts = {name: search.get(name, counted.get(name)) for name in ("rejected", "scored", "failed")}
    rows = [("candidates proposed", figure(search.get("proposed", len(trials) or None)))]
    rows += [(f"candidates {name}", figure(value)) for name, value in counts.items() if value is not None]
    rows += [("random candidates over budget", share(search["reject_share"]))] if search.get("reject_share") is not None else []
    known = {"proposed", "reject_share", *counts}
    rows += [(name, figure(value)) for name, value in flatten({k: v for k, v in search.items() if k not in known})]
    note = "A rejected candidate is over budget as predicted; it is never trained."
    return Section("Search", note, (Column("what"), Column("value")), tuple(rows))


def _rejections(trials: Sequence[Trial]) -> Section:
    rejected = [t for t in trials if t.get("status") == "rejected"]
    counts = Counter(name for t in rejected for name in (t.get("violations") or {}))
    rows = tuple((name.replace("_", " "), f"{n:,}", share(n / len(rejected))) for name, n in counts.most_common())
    note = f"Of {len(rejected):,} rejected candidates; one can break several limits."
    return Section("Limits that candidates broke", note, (Column("limit"), Column("candidates"), Column("share")), rows)


def _exports(students: Sequence[Mapping[str, Any]]) -> Section:
    found = [(str(s["id"]), str(form), flatten(figures)) for s in students for form, figures in (s.get("exports") or {}).items()]
    names = list(dict.fromkeys(name for _, _, rows in found for name, _ in rows))
    table = tuple((identity, form, *(figure(dict(rows).get(name), 5) for name in names)) for identity, form, rows in found)
    note = "Each exported file was run in its own runtime and compared with the int8 reference. A step is one unit of int8."
    columns = (Column("student"), Column("file"), *map(Column, names))
    return Section("Exported files against the int8 reference", note, columns, table, figures=True)
