"""What a report is made from, and its words and figures: sections, columns, quantities, how a figure is shown. Pure: no files.

Costs are stored in bytes, microseconds and microjoules and shown in KB (1,024 bytes), milliseconds and microjoules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Front = Mapping[str, Any]
Trial = Mapping[str, Any]

NONE = "–"  # noqa: RUF001  (an en dash, for a figure that does not exist)
PREDICTED, EMULATED = "predicted", "emulated"
KINDS = {PREDICTED: "predicted", EMULATED: "emulated (modelled cycles)"}


Student = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """All that a page shows. Whatever was not recorded is left out, and the page says so.

    Attributes:
        front: the content of `front.json`.
        trials: one row a candidate, as `hwnas.report.from_log` makes them.
        portraits: student's id -> `portrait.json`: operators, arena, confusion, reliability, files.
        benches: student's id -> `bench.json`: the shipped program, emulated.
        boards: student's id -> name of the target -> what `hwnas bench` wrote about it.
        run_yaml: the content of `run.yaml`.
    """

    front: Front
    trials: Sequence[Trial] = ()
    portraits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    benches: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    boards: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    run_yaml: Mapping[str, Any] = field(default_factory=dict)

    @property
    def students(self) -> list[Student]:
        """Students on the front, then those that were fully distilled and fell."""
        return [*self.front.get("students", []), *self.front.get("fallen", [])]


@dataclass(frozen=True, slots=True)
class Metric:
    """How one metric is shown: name, unit (none for a share or a coefficient), and whether a smaller one is better."""

    name: str
    unit: str = ""
    lower: bool = False

    @property
    def title(self) -> str:
        """Name and unit, for the head of a column."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def axis(self) -> str:
        """The title, and which way is up where that is not the better one."""
        return f"{self.title}, lower is better" if self.lower else self.title

    def show(self, value: float | None, decimals: int = 3) -> str:
        """`value`, one decimal fewer where it has a unit."""
        return figure(value, decimals - bool(self.unit))


# In the order in which a report shows them after a run's primary one.
METRICS = {
    "af_auc": Metric("AF AUC"),
    "kappa": Metric("kappa"),
    "accuracy": Metric("accuracy"),
    "macro_f1": Metric("macro-F1"),
    "mae_bpm": Metric("MAE", "BPM", lower=True),
    "mae_clipped_bpm": Metric("MAE, clipped", "BPM", lower=True),
    "mae_subjects_bpm": Metric("MAE, mean of subjects", "BPM", lower=True),
    "rmse_bpm": Metric("RMSE", "BPM", lower=True),
    "within_5_bpm": Metric("within 5 BPM"),
}


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
    """A titled table with the sentence that says how to read it.

    Attributes:
        figures: cells are figures, aligned to the right.
        marked: (row, column) of the cells to look at.
    """

    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    figures: bool = False
    marked: frozenset[tuple[int, int]] = frozenset()


def primary(front: Front) -> str:
    """Name of the metric that students were compared by."""
    return str(front.get("primary", "af_auc"))


def measure(metric: str) -> Metric:
    """How the metric of that name is shown; one that is not known is better the larger it is."""
    return METRICS.get(metric, Metric(metric.replace("_", " ")))


def title(metric: str) -> str:
    """A metric's name as people write it, and its unit."""
    return measure(metric).title


def metrics_of(front: Front) -> list[str]:
    """The primary metric and all others in `METRICS` that some student has."""
    students = (*front.get("students", []), *front.get("fallen", []))
    found = {name for s in students for part in (s.get("metrics") or {}).values() for name in part or {}}
    return [primary(front), *(name for name in METRICS if name in found and name != primary(front))]


def best_student(front: Front) -> Mapping[str, Any] | None:
    """The student of the front with the best validation score."""
    metric = primary(front)
    known = [(s, value) for s in front.get("students", []) if (value := score(s, "validation", metric)) is not None]
    sign = -1 if measure(metric).lower else 1
    return max(known, key=lambda pair: sign * pair[1])[0] if known else None


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


def share(value: float | None, decimals: int = 1) -> str:
    """A share as a percentage."""
    return NONE if value is None else f"{100 * value:.{decimals}f} %"


def families(front: Front) -> list[str]:
    """The student families of a run, in the order in which it names them."""
    named = (front.get("search") or {}).get("families") or {}
    seen = [str(s["family"]) for s in (*front.get("students", []), *front.get("fallen", [])) if s.get("family")]
    return list(dict.fromkeys([*named, *seen]))


def flatten(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested mappings as (words, value); upper case for the abbreviations of calibration."""
    rows: list[tuple[str, Any]] = []
    for key, value in content.items():
        words = " ".join(w.upper() if w in ("nll", "ece") else w for w in str(key).split("_"))
        name = f"{prefix} {words}".strip()
        rows += flatten(value, name) if isinstance(value, Mapping) else [(name, value)]
    return rows
