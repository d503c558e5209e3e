"""Records of `trials.jsonl` -> one row a candidate. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hwnas.report.content import Trial


def from_log(records: Iterable[Trial]) -> list[dict[str, Any]]:
    """One row a candidate that was judged: `id`, `hash`, `status` (rejected, scored, failed, proposed), `cost` (predicted figures
    by name), `metrics` (of the short distillation), `violations` (by name of the limit).

    The log tells a candidate's cost when it is proposed and its metrics when it is scored; here both stand in one row. A
    candidate that was proposed and has no result yet keeps the status "proposed". Duplicates are no candidates of their own.
    """
    rows: list[dict[str, Any]] = []
    open_rows: dict[Any, dict[str, Any]] = {}
    for record in records:
        kind, fields = record["kind"], {k: v for k, v in record.items() if k not in ("n", "kind", "crc")}
        if kind in ("proposed", "rejected"):
            rows.append({"id": record.get("hash"), **fields, "status": kind})
        if kind == "proposed":
            open_rows[record["id"]] = rows[-1]
        elif kind in ("scored", "failed") and record["id"] in open_rows:
            open_rows[record["id"]].update(fields, status=kind)
    return rows
