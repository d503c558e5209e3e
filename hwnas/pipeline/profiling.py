"""Filling lookup tables with the emulator: every operator shape that search spaces can reach. Writes CSV tables.

Over length a kernel's cycles are affine within one residue of its blocking, so two lengths give the coefficients and a third checks
them; lengths too short for that get rows of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple
from datetime import date
from pathlib import Path

from hwnas import families
from hwnas import space as spaces
from hwnas.errors import CostError, MissingEntryError
from hwnas.firmware.build import kernel_set_hash, toolchain
from hwnas.firmware.profiler import Profiler
from hwnas.graph import Shape
from hwnas.hardware.ops import OpKey, op_key
from hwnas.hardware.profile import Profile, read
from hwnas.hardware.table import HEADER, LookupTable, Row, write
from hwnas.pipeline.progress import Progress
from hwnas.space import SearchSpace
from hwnas.tasks import TASKS

METHOD = "Unicorn, block edges, cycle rules of Arm DDI0439 3.3, zero wait states (emulated, modelled cycles)"
WINDOWS_S = (10.0, 30.0)  # window lengths that shipped tables cover; others are profiled when a run asks for them
LENGTH_FREE = ("dense",)
BLOCK = 2  # positions that convolutions compute at once
SHORTEST = 8  # the first turns of a loop may cost otherwise


def fill_table(profile_name: str, space_names: Sequence[str], out: Path | None, progress: Progress) -> tuple[Path, int]:
    """Profile every operator that the spaces reach at every task's windows; returns (file, number of rows).

    Raises:
        FirmwareError: the tool chain or the emulator failed. CostError: a kernel is not affine in its length.
    """
    profile = read(profile_name)
    shapes: set[tuple[OpKey, int]] = set()
    for name in space_names:
        found = spaces.read(name)
        for task in TASKS.values():
            for window_s in WINDOWS_S:
                shapes |= reachable(found, Shape(1, round(window_s * task.rate_hz)), len(task.labels))
    table = empty_table(profile, Profiler())
    table = extended(table, shapes, progress)
    path = out or profile.table_path
    write(table, path)
    return path, len(table.rows)


def reachable(space: SearchSpace, window: Shape, outputs: int) -> set[tuple[OpKey, int]]:
    """(operator, input length) of everything that candidates of `space` can contain."""
    return {(op_key(n.op, source, n.shape), source.length) for n, source in families.reach(space, window, outputs)}


def missing(table: LookupTable, shapes: Iterable[tuple[OpKey, int]]) -> set[tuple[OpKey, int]]:
    """Those of `shapes` that the table has no row for."""
    absent = set()
    for key, length in shapes:
        try:
            table.cost(key, length)
        except MissingEntryError:
            absent.add((key, length))
    return absent


def empty_table(profile: Profile, profiler: Profiler) -> LookupTable:
    """A table without rows: provenance and overheads."""
    overheads = profiler.overheads()
    values = (profile.name, kernel_set_hash(), toolchain(), METHOD, date.today().isoformat(), *map(str, astuple(overheads)))
    return LookupTable(dict(zip(HEADER, values, strict=True)), (), overheads)


def check_kernels(table: LookupTable) -> None:
    """Refuse a table that was profiled with other kernels than those that ship.

    Raises:
        CostError: with the command that refreshes it.
    """
    if table.provenance["kernel_set"] != kernel_set_hash():
        raise CostError(
            f"the lookup table of '{table.name}' was profiled with kernels {table.provenance['kernel_set']}, this installation ships "
            f"{kernel_set_hash()}; refresh it with `hwnas profile --profile {table.name}`"
        )


def extended(table: LookupTable, shapes: Iterable[tuple[OpKey, int]], progress: Progress) -> LookupTable:
    """`table` with rows for `shapes`, which it lacks."""
    profiler = Profiler()
    groups = sorted({_group(key, length) for key, length in shapes})
    progress.stage(f"profiling {len(groups)} operators for {table.name} in the emulator", len(groups))
    rows = []
    for done, (key, start, period) in enumerate(groups, 1):
        rows.append(_profile(profiler, key, start, period))
        progress.step(done, str(key))
    return table.with_rows(rows)


def _group(key: OpKey, length: int) -> tuple[OpKey, int, int]:
    """(operator, first length, period) of the row that covers `length`: the first length of its residue with the same edges."""
    if key.operator in LENGTH_FREE:
        return key, length, 0
    period = BLOCK * key.stride
    shortest = max(2 * (key.kernel + period), SHORTEST)
    if key.operator == "add":
        period, shortest = 4, SHORTEST
    if length < shortest + period:
        return key, length, 0
    return key, shortest + (length - shortest) % period, period


def _profile(profiler: Profiler, key: OpKey, start: int, period: int) -> Row:
    cycles, stack = profiler.profile(key, start)
    if not period:
        return Row(key, start, 0, cycles, 0, stack)
    (second, _), (fifth, stack_later) = profiler.profile(key, start + period), profiler.profile(key, start + 4 * period)
    step = second - cycles
    if fifth != cycles + 4 * step or stack_later != stack:
        raise CostError(
            f"{key}: {cycles}, {second}, {fifth} cycles at lengths {start}, {start + period}, {start + 4 * period} are not affine; "
            "the blocking of this kernel and the period of its rows disagree"
        )
    return Row(key, start, period, cycles, step, stack)
