"""Filling lookup tables with the emulator: every operator shape that search spaces can reach. Writes CSV tables; starts processes.

Over length a kernel's counts are affine within one residue of its blocking, so two lengths give the coefficients and a third, much
longer one checks them. Lengths too short for that get rows of their own, and so do those of a kernel that turns out not to be affine.
A shape that the kernel or the emulator cannot do is a marked row with the reason.

Work is cut into the same shares whatever the number of processes, so the table does not depend on it. What is finished stands in
`OUT.partial`, a table like any other, until the whole is written.
"""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import signal
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from hwnas import families
from hwnas import space as spaces
from hwnas.errors import CostError, FirmwareError
from hwnas.export import depthwise
from hwnas.firmware.build import kernel_set_hash, toolchain
from hwnas.firmware.cores import core
from hwnas.firmware.counting import OperatorRun
from hwnas.firmware.profiler import Profiler
from hwnas.graph import Conv1d, Graph, Node, Shape, node_macs
from hwnas.hardware.ops import OpKey, node_of, table_key
from hwnas.hardware.profile import Profile, read
from hwnas.hardware.table import LookupTable, Row, new_table, write
from hwnas.hardware.table import read as read_table
from hwnas.hardware.weights import layouts
from hwnas.memory import is_short
from hwnas.pipeline.progress import Progress
from hwnas.space import SearchSpace
from hwnas.tasks import TASKS, Task

METHODS = {
    "cortex-m4": "Unicorn, cycles modelled by block edges and the rules of Arm DDI0439 3.3, zero wait states",
    "cortex-a53": "Unicorn, cycles modelled by block edges and a static in-order issue model, uncalibrated",
}
OTHER_WINDOWS_S = {"rhythm": (10.0,), "rhythm-af": (10.0,)}  # of recordings, beside the window that a task generates
EACH_LENGTH = ("dense", "global_avg_pool")  # know one length only, or add up blocks of 256: a row for each length
BLOCK = 2  # positions that the general convolution computes at once
SHORT_BLOCK = 4  # and the one for short windows
SUM_BLOCK = 8  # elements that a sum of two tensors does at once
SPLIT_BLOCK = 4  # samples that move together when channels become modalities
SHORTEST = 8  # the first turns of a loop may cost otherwise
LATER_STARTS = 3  # periods by which a row may begin later than thought
CHECK_MACS = 200_000  # of the length that checks a row: long, and still quick to emulate
LARGEST_SPACE_ROWS = 6000
SHARE_GROUPS = 100  # rows that a process makes before they are kept
PARTIAL = ".partial"
PR_SET_PDEATHSIG = 1

Wanted = tuple[OpKey, int]  # an operator and its input length


class Group(NamedTuple):
    """What one row covers: lengths `start + m * period`, or `start` alone where `period` is 0."""

    key: OpKey
    start: int
    period: int


@dataclass(frozen=True)
class Share:
    """What one process does at a time: groups with the lengths that are asked for, and the depthwise shapes among them."""

    groups: tuple[tuple[Group, tuple[int, ...]], ...]

    @property
    def filters(self) -> list[depthwise.Filter]:
        """The depthwise shapes, each once."""
        return sorted({f for group, _ in self.groups if (f := _filter(group.key)) is not None})

    @property
    def wanted(self) -> list[Wanted]:
        """Every operator and length of the share."""
        return [(group.key, length) for group, lengths in self.groups for length in lengths]


def fill_table(profile_name: str, space_names: Sequence[str], out: Path | None, progress: Progress, *, jobs: int = 1) -> tuple[Path, int]:
    """Profile every operator that the spaces reach for any task (`windows_of`); returns (file, number of rows).

    Raises:
        FirmwareError: the tool chain or the emulator failed. CostError: a space reaches too many shapes.
    """
    profile = read(profile_name)
    wanted: set[Wanted] = set()
    for name in space_names:
        found = space_shapes(name)
        rows = len(_groups(found))
        progress.say(f"space {name}: {len(found):,} operator shapes in {rows:,} rows")
        if rows > LARGEST_SPACE_ROWS:
            raise CostError(
                f"space {name} needs {rows:,} rows, at most {LARGEST_SPACE_ROWS:,} are profiled; "
                "make its channels coarser above 64, or offer fewer kernels and strides"
            )
        wanted |= found
    path = out or profile.table_path
    progress.stage(f"building the kernels for {profile.core}")
    empty = empty_table(profile)
    partial = path.with_name(path.name + PARTIAL)
    known = taken_up(empty, partial, progress, fixed=empty.provenance, other="other kernels")
    table = _filled(known, wanted, progress, jobs, partial)
    table = replace(empty, rows=tuple(_rows_for(table, wanted)))
    write(table, path)
    partial.unlink(missing_ok=True)
    return path, len(table.rows)


def reachable(space: SearchSpace, window: Shape, outputs: int) -> set[Wanted]:
    """(operator, input length) of everything that candidates of `space` can contain, in every layout of weights."""
    return {wanted for node, source in families.reach(space, window, outputs) for wanted in _shapes(node, source)}


def shapes_of(graph: Graph) -> set[Wanted]:
    """(operator, input length) of everything that `graph` contains, in every layout of weights."""
    return {wanted for node in graph.nodes[1:] for wanted in _shapes(node, graph.in_shape(node))}


def missing(table: LookupTable, shapes: Iterable[Wanted]) -> set[Wanted]:
    """Those of `shapes` that the table has no row for; what has a marked row is known to fail and not missing."""
    return {(key, length) for key, length in shapes if table.row(key, length) is None}


def empty_table(profile: Profile) -> LookupTable:
    """A table without rows: provenance and overheads."""
    part = core(profile.core)
    provenance = {
        "core": part.name,
        "pointer_bytes": str(part.pointer_bytes),
        "kernel_set": kernel_set_hash(part),
        "toolchain": toolchain(part),
        "method": METHODS[part.name],
    }
    return new_table(provenance, Profiler(part, []).overheads())


def check_kernels(table: LookupTable, profile: Profile) -> None:
    """Refuse a table of another core, or one that was profiled with other kernels than those that ship.

    Raises:
        CostError: with the command that refreshes it.
    """
    refresh = f"refresh it with `hwnas profile --profile {profile.name}`"
    if table.core != profile.core:
        raise CostError(f"the lookup table of '{profile.name}' is of core {table.core}, the profile of core {profile.core}; {refresh}")
    ships = kernel_set_hash(core(profile.core))
    if table.provenance["kernel_set"] != ships:
        raise CostError(
            f"the lookup table of '{profile.name}' was profiled with kernels {table.provenance['kernel_set']}, this installation ships "
            f"{ships}; {refresh}"
        )


def extended(table: LookupTable, shapes: Iterable[Wanted], progress: Progress, *, jobs: int = 1) -> LookupTable:
    """`table` with rows for `shapes`, which it lacks."""
    return _filled(table, set(shapes), progress, jobs, None)


def windows_of(task: Task) -> tuple[Shape, ...]:
    """The windows of a task that shipped tables cover; others are profiled when a run asks for them."""
    lengths_s = dict.fromkeys((task.window_s, *OTHER_WINDOWS_S.get(task.name, ())))
    return tuple(Shape(len(task.channels), round(length * task.rate_hz)) for length in lengths_s)


def space_shapes(name: str) -> set[Wanted]:
    """What a space reaches for any task: its windows, with its outputs."""
    found = spaces.read(name)
    forms = {(window, len(task.outputs)) for task in TASKS.values() for window in windows_of(task)}
    return {wanted for window, outputs in forms for wanted in reachable(found, window, outputs)}


def _shapes(node: Node, source: Shape) -> Iterator[Wanted]:
    for weights in layouts(node.op, source):
        yield table_key(node.op, source, node.shape, weights)


def _filter(key: OpKey) -> depthwise.Filter | None:
    if key.operator != "depthwise_conv1d":
        return None
    return depthwise.Filter(key.kernel, key.stride, key.dilation, key.in_channels)


def _group(key: OpKey, length: int) -> Group:
    """The row that covers `length`: it begins at the first length of its residue with the same edges."""
    period, shortest = _period(key)
    if not period or length < shortest:
        return Group(key, length, 0)
    return Group(key, shortest + (length - shortest) % period, period)


def _period(key: OpKey) -> tuple[int, int]:
    """(period of a kernel's blocking in input samples, first length from which it holds); period 0 for what knows no length."""
    if key.operator in EACH_LENGTH:
        return 0, 0
    own = _filter(key)
    if own is not None:
        return depthwise.period(own)
    if key.operator in ("pointwise", "conv1d"):
        op = Conv1d(key.out_channels, key.kernel, key.stride, dilation=key.dilation)
        period = (SHORT_BLOCK if is_short(op, Shape(key.in_channels, 1)) else BLOCK) * key.stride
        edgeless = key.kernel == key.stride == 1
        return period, period if edgeless else max(2 * ((key.kernel - 1) * key.dilation + 1 + period), SHORTEST)
    if key.operator == "add":
        return SUM_BLOCK // math.gcd(SUM_BLOCK, key.in_channels), SHORTEST
    if key.operator == "split":
        return SPLIT_BLOCK, SHORTEST
    return key.stride, max(key.kernel, 2)


def _groups(wanted: Iterable[Wanted]) -> dict[Group, list[int]]:
    """Groups in order, each with the lengths that it must answer."""
    found: defaultdict[Group, list[int]] = defaultdict(list)
    for key, length in sorted(wanted):
        found[_group(key, length)].append(length)
    return dict(sorted(found.items()))


def _shares(wanted: Iterable[Wanted]) -> list[Share]:
    groups = [(group, tuple(lengths)) for group, lengths in _groups(wanted).items()]
    return [Share(tuple(groups[i : i + SHARE_GROUPS])) for i in range(0, len(groups), SHARE_GROUPS)]


def _filled(table: LookupTable, wanted: set[Wanted], progress: Progress, jobs: int, partial: Path | None) -> LookupTable:
    """`table` with rows for all of `wanted`; what it has is kept, and kept in `partial` as it grows."""
    shares = _shares(wanted)
    waiting = [share for share in shares if missing(table, share.wanted)]
    total = sum(len(share.groups) for share in shares)
    done = total - sum(len(share.groups) for share in waiting)
    progress.stage(f"profiling {total:,} operators for {table.core} in the emulator", total)
    progress.step(done)
    for share, rows in _worked(table.core, waiting, min(jobs, len(waiting))):
        table = table.with_rows(rows)
        if partial is not None:
            write(table, partial)
        done += len(share.groups)
        failed = sum(row.status != "ok" for row in table.rows)
        progress.step(done, str(share.groups[-1][0].key) + (f", {failed} failed" if failed else ""))
    return table


def taken_up(empty: LookupTable, partial: Path, progress: Progress, *, fixed: Iterable[str], other: str) -> LookupTable:
    """`empty` with the rows of what an interrupted filling left, if that was of the same kernels; else without rows.

    Args:
        fixed: header fields that must be the same.
        other: what a partial table is of where one of them is not, in words.
    """
    if not partial.exists():
        return empty
    try:
        found = read_table(partial)
    except CostError as error:
        progress.say(f"starting again: {error}")
        return empty
    if any(found.provenance[name] != empty.provenance[name] for name in fixed):
        progress.say(f"starting again: {partial} is of {other}")
        return empty
    progress.say(f"going on from {partial}: {len(found.rows):,} rows")
    return replace(empty, rows=found.rows)


def _rows_for(table: LookupTable, wanted: set[Wanted]) -> Iterator[Row]:
    """The rows of `table` that `wanted` needs, and no others."""
    groups = _groups(wanted)
    for row in table.rows:
        if (row.key, row.in_length) in wanted if not row.period else _group(row.key, row.in_length) in groups:
            yield row


def _worked(core_name: str, shares: Sequence[Share], jobs: int) -> Iterator[tuple[Share, list[Row]]]:
    """Each share with its rows, as they are finished.

    Raises:
        FirmwareError: the tool chain failed, or a process died.
    """
    if jobs <= 1:
        yield from ((share, profile_share(core_name, share)) for share in shares)
        return
    context = multiprocessing.get_context("spawn")
    # Processes inherit a blocked Ctrl-C, so that none that is half started complains of it; `_begin` lets it end them silently.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    pool = ProcessPoolExecutor(jobs, context, _begin)
    try:
        waiting = {pool.submit(profile_share, core_name, share): share for share in shares}
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    except BrokenProcessPool as error:
        raise FirmwareError("a process that profiled operators died (out of memory?); run the command again to go on") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """A worker ends at once, and without a word, on Ctrl-C and (on Linux) with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def profile_share(core_name: str, share: Share) -> list[Row]:
    """The rows of one share, from a program that holds its depthwise shapes. Runs in a worker process."""
    profiler = Profiler(core(core_name), share.filters)
    return [row for group, lengths in share.groups for row in _profile(profiler, group, lengths)]


def _profile(profiler: Profiler, group: Group, lengths: Sequence[int]) -> list[Row]:
    """One row for the group where its counts are affine, from its first length or a little later; one for each length before that.

    Where no line is found, every length that is asked for has a row.
    """
    for start in range(group.start, group.start + (LATER_STARTS + 1) * group.period, group.period or 1):
        later = group._replace(start=start)
        if start > max(lengths):
            break
        try:
            row = _affine(profiler, later, max(lengths))
        except FirmwareError:
            break
        if row is not None:
            return [*(_single(profiler, group.key, length) for length in lengths if length < start), row]
    return [_single(profiler, group.key, length) for length in lengths]


def _affine(profiler: Profiler, group: Group, longest: int) -> Row | None:
    """The row of a group; None where a third length, as long as is quickly run, does not lie on the line through the first two."""
    key, start, period = group
    node, source = node_of(key, start + period)
    quick = (start + period) * CHECK_MACS // max(node_macs(node, source), source.elements)
    far = max(4, (min(longest, quick) - start) // period)
    first, second, third = (profiler.profile(key, start + periods * period) for periods in (0, 1, far))
    if not first.stack_bytes == second.stack_bytes == third.stack_bytes:
        return None
    counts, later, last = map(_counts, (first, second, third))
    steps = tuple(b - a for a, b in zip(counts, later, strict=True))
    if last != tuple(a + far * step for a, step in zip(counts, steps, strict=True)):
        return None
    return _row(profiler, key, start, period, first, steps)


def _counts(run: OperatorRun) -> tuple[int, ...]:
    """What grows with the length."""
    return run.cycles, run.flash_read_bytes, run.fetch_lines


def _single(profiler: Profiler, key: OpKey, length: int) -> Row:
    try:
        run = profiler.profile(key, length)
    except FirmwareError as error:
        return Row.marked(key, length, f"failed: {error}")
    return _row(profiler, key, length, 0, run, (0, 0, 0))


def _row(profiler: Profiler, key: OpKey, start: int, period: int, run: OperatorRun, steps: tuple[int, ...]) -> Row:
    cycles, reads, lines = steps
    function, code_bytes = profiler.kernel(key)
    return Row(
        key, start, period, run.cycles, cycles, run.flash_read_bytes, reads, run.fetch_lines, lines, run.stack_bytes, function, code_bytes
    )
