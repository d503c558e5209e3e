"""Rows of the lookup table that are not to be trusted: what was measured strays too far from what they predict. Pure.

A row leaves the quarantine when a later night measures it within the limit. One that strayed under a fault made on purpose is shown
in that night alone, and marked.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

from hwnas.validation.history import Row
from hwnas.validation.verdict import strayed


@dataclass(frozen=True)
class Quarantined:
    """One row of the lookup table, as an operator of a student showed it: cycles of all its calls, predicted and found."""

    key: str
    length: int
    calls: int
    predicted: int
    measured: int
    night: int
    student: str
    target: str
    kind: str
    fault: str

    @property
    def change_percent(self) -> float:
        """How far it strayed."""
        return (self.measured / self.predicted - 1) * 100 if self.predicted else float("inf")


def quarantined(rows: Sequence[Row], limit_percent: float, night: int) -> list[Quarantined]:
    """What the latest of `rows` (oldest first) put into quarantine, as of `night`."""
    found: dict[tuple[str, str, str, int, str], Quarantined] = {}
    for row in rows:
        if row.record is None or row.reading is None or row.night > night or (row.fault and row.night != night):
            continue
        kind = str((row.record.get("cycles") or {}).get("kind", ""))
        for operator in row.reading.operators:
            if operator.cycles is None or operator.predicted_cycles is None:
                continue
            place = (row.target, row.student, operator.key, operator.in_length, row.fault)
            if strayed(operator, limit_percent):
                figures = (operator.key, operator.in_length, operator.calls, operator.predicted_cycles, operator.cycles)
                found[place] = Quarantined(*figures, row.night, row.student, row.target, kind, row.fault)
            elif place in found and found[place].night != row.night:
                del found[place]
    return sorted(found.values(), key=lambda each: (each.target, each.student, each.key, each.length))


def to_csv(found: Sequence[Quarantined]) -> str:
    """The rows as CSV text with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Quarantined)])
    writer.writerows(astuple(each) for each in found)
    return text.getvalue()
