"""`front.csv`: one row a fully distilled student, stored units, predicted and emulated in columns of their own. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from hwnas.report.content import DOUBTS, FIGURES, KINDS, Front, cost, doubt_factor, metrics_of, primary, score, short_score, source


def render(front: Front) -> str:
    """The front, then the students that fell, as CSV text; an empty field is a figure that does not exist."""
    first = primary(front)
    metrics = metrics_of(front)
    rows: list[dict[str, Any]] = []
    for status, key in (("front", "students"), ("fallen", "fallen")):
        for s in front.get(key, []):
            row = {
                "id": s["id"],
                "status": status,
                "reason": s.get("fallen"),
                "family": s.get("family"),
                "parameters": s.get("parameters"),
                "macs": s.get("macs"),
            }
            row |= {f"{name}_{kind}": cost(s, name, kind) for kind in KINDS for name in FIGURES}
            row |= {f"{name}_uncertainty_factor": doubt_factor(front, name) for name in DOUBTS}
            row |= {f"short_validation_{first}": short_score(s, first) if "short_validation" in s else None}
            row |= {f"{part}_{m}": score(s, part, m) for part in ("validation", "test") for m in metrics}
            row |= _quantisation(s.get("quantisation") or {}, first)
            rows.append(row | {"data": source(front), "folder": s.get("folder")})
    text = io.StringIO()
    if rows:
        table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return text.getvalue()


def _quantisation(found: Mapping[str, Any], first: str) -> dict[str, Any]:
    """How a student became integers: method, temperature, and the primary metric of every form on validation subjects."""
    forms = {f"validation_{first}_{form}": (found.get(form) or {}).get(first) for form in ("float", "ptq", "qat")}
    return {"quantisation": found.get("method"), "temperature": found.get("temperature")} | forms
