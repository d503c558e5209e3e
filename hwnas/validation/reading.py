"""`Reading`: the figures of one student on one target, out of what `bench_student` returns. Pure.

Figures of different kinds (modelled, measured) are never compared; each reading says of what kind its times and its energy are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Record = Mapping[str, Any]
JUDGED = ("modelled", "measured")  # kinds of times that say something of the target


@dataclass(frozen=True)
class Operator:
    """One operator: its row of the lookup table, predicted cycles and those it took, of all its calls; None: they are not known."""

    index: int
    kernel: str
    key: str
    in_length: int
    calls: int
    predicted_cycles: int | None
    cycles: int | None

    @property
    def name(self) -> str:
        """What it is called in findings."""
        return f"{self.index} {self.kernel}"


class Key(NamedTuple):
    """What figures must share to be one history."""

    weights_hash: str
    target: str
    kernel_set: str
    profile: str


@dataclass(frozen=True)
class Reading:
    """Figures of one student on one target in one night. None: there is none.

    Attributes:
        latency_kind, energy_kind: of all times and cycles, and of the energy: modelled, measured or a clock that is not judged.
        judged: whether times are of the target's own clock; those of the machine that plays it are no figures of hardware.
        used_bytes: arena and stack at their highest, where a board knows no more of its RAM.
        accuracy, accuracy_expected: the task's metric on tonight's windows, of the target and of the int8 reference.
        golden_accuracy: on the windows that are the same every night.
    """

    key: Key
    latency_kind: str
    energy_kind: str
    windows: int
    differing: int
    difference: str
    judged: bool
    latency_us: float | None
    cycles: float | None
    ram_bytes: float | None
    used_bytes: float | None
    energy_uj: float | None
    accuracy: float | None
    accuracy_expected: float | None
    golden_accuracy: float | None
    predicted_latency_us: float | None
    predicted_cycles: float | None
    predicted_ram_bytes: float | None
    predicted_energy_uj: float | None
    operators: tuple[Operator, ...]
    provenance: str
    toolchain: str
    golden: str


def reading(record: Record, target: str) -> Reading:
    """The figures of a record of `bench_student`, with what a night adds under "night" (`hwnas.validation.nights`)."""
    latency, energy, predicted = (record.get(name) or {} for name in ("latency", "energy", "predicted"))
    night, memory = record.get("night") or {}, record.get("memory") or {}
    metric, cycles = night.get("metric", ""), record.get("cycles") or {}
    latency_kind = str(latency.get("kind", ""))
    return Reading(
        key=Key(record["weights_hash"], target, record["kernel_set"], record.get("profile") or ""),
        latency_kind=latency_kind,
        energy_kind=str(energy.get("kind", "")),
        windows=record["windows"],
        differing=record["windows_differing"],
        difference=_difference(record.get("first_difference")),
        judged=latency_kind in JUDGED,
        latency_us=latency.get("median_us"),
        cycles=cycles.get("median"),
        ram_bytes=memory.get("ram_bytes"),
        used_bytes=_used(memory),
        energy_uj=energy.get("energy_uj"),
        accuracy=(record.get("metrics") or {}).get(metric),
        accuracy_expected=night.get("expected"),
        golden_accuracy=night.get("golden_expected") if not record["windows_differing"] else None,
        predicted_latency_us=predicted.get("latency_us"),
        predicted_cycles=predicted.get("cycles"),
        predicted_ram_bytes=predicted.get("ram_bytes"),
        predicted_energy_uj=predicted.get("energy_uj"),
        operators=tuple(_operator(each) for each in record.get("operators") or ()),
        provenance=record.get("provenance") or "",
        toolchain=record.get("toolchain") or "",
        golden=night.get("golden_hash", ""),
    )


def _operator(each: Mapping[str, Any]) -> Operator:
    return Operator(
        index=each["index"],
        kernel=each["kernel"],
        key=each.get("key") or "",
        in_length=each.get("in_length") or 0,
        calls=each.get("calls") or 1,
        predicted_cycles=each.get("predicted_cycles"),
        cycles=each.get("cycles"),
    )


def _used(memory: Mapping[str, Any]) -> float | None:
    arena, stack = memory.get("arena_bytes"), memory.get("stack_bytes")
    return None if memory.get("ram_bytes") is not None or arena is None or stack is None else float(arena + stack)


def _difference(first: Mapping[str, Any] | None) -> str:
    if not first:
        return ""
    return f"window {first['window']}, output {first['output']}: expected {first['expected']}, got {first['got']}"
