"""Rows of the lookup table that are not to be trusted: what was found strays too far from what they predict. Pure.

A row leaves the quarantine only when a later night finds it within the limit, with the same weights, kernels, profile, target and kind of
figure; what is not run any more stays. One that strayed under a fault made on purpose is shown in that night alone, and marked.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hwnas.validation.history import Row
from hwnas.validation.verdict import strayed


@dataclass(frozen=True)
class Quarantined:
    """One row of the lookup table of a profile and a set of kernels, as an operator of a student showed it.

    Attributes:
        predicted, found: cycles of all its calls.
        kind: of the cycles that were found: modelled or measured.
        student: its name in the night that found them; weights tell students apart.
    """

    key: str
    length: int
    calls: int
    predicted: int
    found: int
    kind: str
    night: int
    student: str
    target: str
    profile: str
    kernel_set: str
    weights_hash: str
    fault: str

    @property
    def change_percent(self) -> float:
        """How far it strayed."""
        return (self.found / self.predicted - 1) * 100 if self.predicted else float("inf")


def quarantined(rows: Iterable[Row], limit_percent: float, night: int) -> list[Quarantined]:
    """What `rows` (all of a history, oldest first) put into quarantine, as of `night`."""
    found: dict[tuple[str, ...], Quarantined] = {}
    for row in rows:
        seen = row.reading
        if row.record is None or seen is None or row.night > night or (row.fault and row.night != night):
            continue
        kind = str((row.record.get("cycles") or {}).get("kind", ""))
        for operator in seen.operators:
            if operator.cycles is None or operator.predicted_cycles is None:
                continue
            place = (*seen.key, kind, operator.key, str(operator.in_length), row.fault)
            if strayed(operator, limit_percent):
                found[place] = Quarantined(
                    key=operator.key,
                    length=operator.in_length,
                    calls=operator.calls,
                    predicted=operator.predicted_cycles,
                    found=operator.cycles,
                    kind=kind,
                    night=row.night,
                    student=row.student,
                    target=row.target,
                    profile=seen.key.profile,
                    kernel_set=seen.key.kernel_set,
                    weights_hash=seen.key.weights_hash,
                    fault=row.fault,
                )
            elif place in found and found[place].night != row.night:
                del found[place]
    return sorted(found.values(), key=lambda each: (each.target, each.student, each.key, each.length, each.kind))


def to_csv(found: Sequence[Quarantined]) -> str:
    """The rows as CSV text with a header; modelled and measured cycles have a column each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("key", "length", "calls", "predicted_cycles", "modelled_cycles", "measured_cycles")
    more = ("night", "student", "target", "profile", "kernel_set", "weights_hash", "fault")
    writer.writerow((*names, *more))
    for each in found:
        of_kind = (each.found if each.kind == kind else "" for kind in ("modelled", "measured"))
        rest = (getattr(each, name) for name in more)
        writer.writerow((each.key, each.length, each.calls, each.predicted, *of_kind, *rest))
    return text.getvalue()
