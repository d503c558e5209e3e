"""The verdict on one student on one target: passed, drifted, failed or not reached. Pure.

*Failed*: outputs that differ from the int8 reference, or a board that is not the one asked for. *Not reached*: the target could not be
run, or its cycle counter or its configured meter gave no figures though all else is well: what was not measured has not passed.
*Drifted*: a figure away from its prediction, or from the median of the last passing nights of the same weights, kernels, target and
profile, by more than its limit, either way: an operator that became faster without reason is no good news either. A figure is compared
with figures of its own kind; nights that have it in another kind are passed over for it, and for it alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal, NamedTuple, TypeVar

from hwnas.validation.config import Limits
from hwnas.validation.reading import Operator, Reading

T = TypeVar("T")
Kind = Literal["pass", "drift", "fail", "not reached"]
Against = Literal["predicted", "history"]
BASELINE_NIGHTS = 7
TIMED = ("cycles", "latency", "operator")  # quantities of the kind of the latency


@dataclass(frozen=True)
class Drift:
    """One figure that is too far from what was expected.

    Attributes:
        operator: which one, for the quantity "operator"; else empty.
        limit: in percent, or in `unit` where `relative` is false.
        since: the first night of the unbroken row of nights, this one last, that found it.
    """

    quantity: str
    operator: str
    against: Against
    expected: float
    found: float
    unit: str
    limit: float
    relative: bool
    since: int

    @property
    def change(self) -> float:
        """How far it is from what was expected: percent, or `unit`."""
        if not self.relative:
            return self.found - self.expected
        return (self.found / self.expected - 1) * 100 if self.expected else math.inf

    def __str__(self) -> str:
        what = f"operator {self.operator}" if self.operator else self.quantity
        share = f"{self.change:+.4g} %" if self.relative else f"{self.change:+.4g} {self.unit}"
        unit = f" {self.unit}" if self.unit else ""
        against = "predicted" if self.against == "predicted" else "the median of passing nights"
        return f"{what}: {share.strip()} from {against} ({self.expected:,.6g} -> {self.found:,.6g}{unit}), since night {self.since}"


@dataclass(frozen=True)
class Verdict:
    """What is said of one student on one target. `reason` is one sentence; empty where it passed."""

    kind: Kind
    reason: str = ""
    drifts: tuple[Drift, ...] = ()
    notes: tuple[str, ...] = ()


class Past(NamedTuple):
    """An earlier night of the same key. `fault`: what was broken on purpose; such a night is never compared with."""

    night: int
    kind: Kind
    reading: Reading
    drifts: tuple[Drift, ...]
    fault: str


def not_reached(reason: str) -> Verdict:
    """The target could not be run."""
    return Verdict("not reached", reason)


def unmetered(verdict: Verdict, why: str) -> Verdict:
    """The same, but that the configured meter gave no energy: a note, and no pass."""
    said = f"no measured energy: {why}"
    return replace(verdict, notes=(*verdict.notes, said)) if verdict.kind != "pass" else replace(verdict, kind="not reached", reason=said)


def refused(reason: str) -> Verdict:
    """The board ran, and is not the one that was asked for."""
    return Verdict("fail", f"refused: {reason}")


def judge(now: Reading, limits: Limits, past: Sequence[Past], night: int) -> Verdict:
    """The verdict on tonight's figures; `past` holds earlier nights of the same key, oldest first."""
    clean = [each for each in past if not each.fault]
    drifts = tuple(
        Drift(*found, since=_since(found.quantity, found.operator, _alike(found.quantity, now, clean), night))
        for found in (*_from_predicted(now, limits), *_from_history(now, limits, clean))
    )
    notes = _notes(now, clean)
    if now.differing:
        of = f"{now.differing} of {now.windows} windows differ from the int8 reference"
        return Verdict("fail", f"{of}; the first: {now.difference}" if now.difference else of, drifts, notes)
    if drifts:
        worst = max(drifts, key=lambda drift: abs(drift.change) / drift.limit if drift.limit else math.inf)
        more = f" (and {len(drifts) - 1} more)" if len(drifts) > 1 else ""
        return Verdict("drift", f"{worst}{more}", drifts, notes)
    measured = [each.night for each in clean if each.reading.latency_kind == "measured"]
    if measured and now.latency_kind != "measured":
        lost = f"times were measured until night {measured[-1]} and are not tonight ({now.latency_kind or 'there are none'})"
        return Verdict("not reached", f"{lost}: look after the cycle counter, or give the target another name", notes=notes)
    return Verdict("pass", notes=notes)


class _Found(NamedTuple):
    """The fields of a `Drift` but its first night."""

    quantity: str
    operator: str
    against: Against
    expected: float
    found: float
    unit: str
    limit: float
    relative: bool


def beyond(expected: float, found: float, limit_percent: float) -> bool:
    """Whether `found` is more than so many percent of `expected` away from it, either way."""
    return abs(found - expected) * 100 > limit_percent * abs(expected)


def _from_predicted(now: Reading, limits: Limits) -> Iterator[_Found]:
    percent = limits.predicted_percent
    # Cycles, since a board may run at another clock than the profile's.
    yield from _relative("cycles", "", "predicted", now.predicted_cycles, now.cycles, "cycles", percent)
    yield from _relative("energy", "", "predicted", now.predicted_energy_uj, now.energy_uj, "uJ", percent)
    if now.ram_bytes is not None and now.predicted_ram_bytes is not None and now.ram_bytes - now.predicted_ram_bytes > limits.ram_bytes:
        yield _Found("RAM", "", "predicted", now.predicted_ram_bytes, now.ram_bytes, "bytes", limits.ram_bytes, False)
    yield from _absolute("accuracy", "predicted", now.accuracy_expected, now.accuracy, "", limits.accuracy)
    for operator in now.operators:
        yield from _relative("operator", operator.name, "predicted", operator.predicted_cycles, operator.cycles, "cycles", percent)


def strayed(operator: Operator, limit_percent: float) -> bool:
    """Whether what an operator took is so far from its row of the lookup table that the row cannot be trusted."""
    if operator.cycles is None or operator.predicted_cycles is None:
        return False
    return beyond(operator.predicted_cycles, operator.cycles, limit_percent)


def _alike(quantity: str, now: Reading, past: Sequence[Past]) -> list[Past]:
    """The nights that have this quantity in tonight's kind."""
    if quantity in TIMED:
        return [each for each in past if each.reading.latency_kind == now.latency_kind]
    if quantity == "energy":
        return [each for each in past if each.reading.energy_kind == now.energy_kind]
    return list(past)


def _passing(past: Sequence[Past]) -> list[Reading]:
    return [each.reading for each in past if each.kind == "pass"][-BASELINE_NIGHTS:]


def _from_history(now: Reading, limits: Limits, past: Sequence[Past]) -> Iterator[_Found]:
    passed, timed, metered = _passing(past), _passing(_alike("latency", now, past)), _passing(_alike("energy", now, past))
    if now.judged:
        yield from _relative("latency", "", "history", _median(timed, lambda r: r.latency_us), now.latency_us, "us", limits.latency_percent)
    yield from _relative("energy", "", "history", _median(metered, lambda r: r.energy_uj), now.energy_uj, "uJ", limits.energy_percent)
    yield from _absolute("RAM", "history", _median(passed, lambda r: r.ram_bytes), now.ram_bytes, "bytes", limits.ram_bytes)
    yield from _absolute("arena and stack", "history", _median(passed, lambda r: r.used_bytes), now.used_bytes, "bytes", limits.ram_bytes)
    alike = [each for each in passed if each.golden == now.golden]
    golden = _median(alike, lambda r: r.golden_accuracy)
    yield from _absolute("accuracy of golden windows", "history", golden, now.golden_accuracy, "", limits.accuracy)
    before = [{operator.name: operator.cycles for operator in each.operators} for each in timed]
    for operator in now.operators:
        cycles = _median(before, lambda known, name=operator.name: known.get(name))  # type: ignore[misc]
        yield from _relative("operator", operator.name, "history", cycles, operator.cycles, "cycles", limits.operator_percent)


def _relative(
    quantity: str, operator: str, against: Against, expected: float | None, found: float | None, unit: str, percent: float
) -> Iterator[_Found]:
    if expected is not None and found is not None and beyond(expected, found, percent):
        yield _Found(quantity, operator, against, expected, found, unit, percent, True)


def _absolute(quantity: str, against: Against, expected: float | None, found: float | None, unit: str, limit: float) -> Iterator[_Found]:
    if expected is not None and found is not None and abs(found - expected) > limit:
        yield _Found(quantity, "", against, expected, found, unit, limit, False)


def _median(nights: Sequence[T], figure: Callable[[T], float | None]) -> float | None:
    known = [value for each in nights if (value := figure(each)) is not None]
    return float(median(known)) if known else None


def _since(quantity: str, operator: str, past: Sequence[Past], night: int) -> int:
    """The first of the nights without interruption, up to tonight, that found the same."""
    for each in reversed(past):
        if not any((drift.quantity, drift.operator) == (quantity, operator) for drift in each.drifts):
            return night
        night = each.night
    return night


def _notes(now: Reading, past: Sequence[Past]) -> tuple[str, ...]:
    clock = () if now.judged or now.latency_us is None else (f"times are of the {now.latency_kind} and are not judged",)
    passed = _passing(past)
    if not passed:
        return ("no passing night before: compared with the prediction only", *clock)
    last = passed[-1]
    changed = [
        ("tool chain", last.toolchain, now.toolchain),
        ("golden windows", last.golden, now.golden),
        ("kind of times", last.latency_kind, now.latency_kind),
        ("kind of energy", last.energy_kind, now.energy_kind),
    ]
    said = (f"{what} changed since the last passing night: {old or 'none'} -> {new or 'none'}" for what, old, new in changed if old != new)
    return (*said, *clock)
