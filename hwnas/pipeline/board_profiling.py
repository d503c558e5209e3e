"""`fill_from_board`: a lookup table from a board, over the link that runs students. Writes the CSV table; runs compilers and processes.

Operators are packed into programs, each a layer table of operators that have nothing to do with one another: what a kernel takes depends on
shapes alone. Every operator is timed by the board's own cycle counter, several times; a row has the median of its runs and their
range. Each length is a row of its own: a cache or a prefetch buffer before the flash need not grow in step with the length.

Waits for flash are in the cycles, so the rows say that nothing is read from flash, lest a profile add them again. What no board can say,
bytes of stack and of code, is taken from the emulated table of the same kernels. An operator that cannot run is a marked row with the
reason. What is finished stands in `OUT.partial` until the whole is written.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import FirmwareError, IdentityError, LinkError, UsageError
from hwnas.export import c, depthwise
from hwnas.export.c.model import BODY, layer
from hwnas.firmware.board import Board, Counter, Identity, Run
from hwnas.firmware.board_image import Port
from hwnas.firmware.build import kernel_set_hash
from hwnas.firmware.cores import core
from hwnas.graph import OP_NAMES, Dense, GlobalAvgPool, Graph, GraphBuilder, Input, node_macs
from hwnas.hardware import profile as profiles
from hwnas.hardware.deployment import uniform
from hwnas.hardware.ops import OpKey, graph_of, node_of
from hwnas.hardware.profile import Profile
from hwnas.hardware.table import LARGEST_CYCLES, LookupTable, Row, new_table, write
from hwnas.hardware.table import read as read_table
from hwnas.hardware.weights import packed_bytes
from hwnas.memory import align, scratch_bytes, values_bytes
from hwnas.pipeline.profiling import PARTIAL, Wanted, check_kernels, extended, missing, shapes_of, space_shapes, taken_up
from hwnas.pipeline.progress import Progress
from hwnas.pipeline.shipped import load_int8, read_shipped
from hwnas.pipeline.targets import HOST_PORT, Connection, Firmware, linked
from hwnas.quantize.arbitrary import arbitrary
from hwnas.quantize.qgraph import QuantGraph
from hwnas.resources import folder, write_bytes, write_text

RUNS, WARM_UP_RUNS = 10, 2
# What one program holds: so much that putting it on a board pays, so little that a run of it takes a second at most.
PROGRAM_OPERATORS, PROGRAM_MACS, PROGRAM_CONSTANTS_BYTES = 64, 20_000_000, 256 << 10
SMALL: Wanted = (OpKey("global_avg_pool", 1, 1, 1, 4, 4, "none"), 4)
FRAME_CALLS = 33  # of that one: what a call takes beyond its kernel is the difference to a single one
REASON_CHARACTERS = 200
HOST_METHOD = "clock of the machine that ran it, not cycles"
COUNTERS = {"cortex-m4": "DWT"}
SAME = ("board", "clock_hz", "counter", "counter_hz", "toolchain")  # of every program of one table
MACROS = re.compile(r"#define HWNAS_MODEL_(ARENA_BYTES|LAYERS|GRAPH_HASH) .*")
Ticks = NDArray[np.int64]
Program = tuple[Wanted, ...]  # operators that are timed together, in order
Open = Callable[[Program], AbstractContextManager[Board]]


@dataclass(frozen=True)
class Timed:
    """Ticks of some runs of a program: of the whole (R,), and of each operator (R, operators), in further runs."""

    identity: Identity
    whole: Ticks
    operators: Ticks

    @property
    def rest(self) -> float:
        """What the program takes beyond its operators."""
        return float(np.median(self.whole)) - float(np.median(self.operators, axis=0).sum())


def fill_from_board(
    profile_name: str,
    space_names: Sequence[str],
    student: Path | None,
    out: Path,
    connection: Connection,
    progress: Progress,
    *,
    jobs: int = 1,
) -> tuple[Path, int]:
    """Time every operator of a student, or of what `space_names` reach, on a board; returns (file, number of rows).

    Args:
        student: folder of a finished student; its operators alone, in every layout of weights.
        jobs: processes that emulate what the shipped table lacks.

    Raises:
        UsageError: a target without images, a port of another core than the profile's, or `out` is a shipped table.
        CostError: the shipped table is of other kernels. RunError: `out` cannot be written.
        FirmwareError: nothing builds or flashes, or the board has no counter of its own. LinkError: it cannot be reached.
    """
    profile, port = profiles.read(profile_name), connection.needs()
    if port is None:
        how = (
            "--port and --flash"
            if connection.target.kind == "serial"
            else "serial: with --port and --flash; the emulator needs no --target"
        )
        raise UsageError(f"'{connection.target}' cannot be profiled: every program of operators is an image of its own; give {how}")
    if port.runs_linux and port.core is not None:
        raise UsageError(f"--port {port.name} has no counter of cycles, only a clock: nothing can be profiled on it; use a serial: target")
    if port.core is not None and port.core.name != profile.core:
        raise UsageError(
            f"port {port.name} is of core {port.core.name}, profile {profile.name} of {profile.core}; name a profile of that core"
        )
    if out.resolve().parent == folder("hw_profiles").resolve():
        raise UsageError(f"--out {out} is among the shipped tables, which stay emulated; choose another file")
    wanted = _wanted(space_names, student)
    progress.say(f"{len(wanted):,} operators to time")
    base = read_table(profile.table_path)
    check_kernels(base, profile)
    if absent := missing(base, wanted):
        base = extended(base, absent, progress, jobs=jobs)

    @contextmanager
    def opened(program: Program) -> Iterator[Board]:
        with tempfile.TemporaryDirectory(prefix="hwnas-operators-") as work:
            firmware = write_program(program, Path(work) / "model", kernel_set_hash(core(profile.core)))
            with linked(connection, port, firmware, profile.memory, Quiet(progress)) as (board, _):
                yield board

    partial = out.with_name(out.name + PARTIAL)
    table = measured_table(opened, base, profile, port, wanted, partial, progress)
    write(table, out)
    partial.unlink(missing_ok=True)
    return out, len(table.rows)


class Quiet:
    """Progress within one step: only what stays is told."""

    def __init__(self, progress: Progress) -> None:
        self.say = progress.say

    def stage(self, title: str, total: int | None = None) -> None:
        """Ignored."""

    def step(self, done: int, note: str = "") -> None:
        """Ignored."""


def measured_table(
    opened: Open, base: LookupTable, profile: Profile, port: Port, wanted: set[Wanted], partial: Path, progress: Progress
) -> LookupTable:
    """A table of `wanted`, timed on what `opened` gives for each program; `partial` is taken up, and kept as it grows."""
    progress.stage("timing what a model costs beyond its operators")
    one = _timed(opened, (SMALL,))
    many = _timed(opened, (SMALL,) * FRAME_CALLS, one.identity)
    method, scale = _method(one.identity, profile, port, progress)
    per_call = (many.rest - one.rest) / (FRAME_CALLS - 1)
    overheads = replace(
        base.overheads,
        frame_cycles=round((one.rest - per_call) * scale),
        call_cycles=round(per_call * scale),
        **dict.fromkeys(("frame_read_bytes", "call_read_bytes", "frame_lines", "call_lines"), 0),
    )
    provenance = {name: base.provenance[name] for name in ("core", "pointer_bytes", "kernel_set")}
    header = provenance | {"toolchain": one.identity.toolchain, "method": method}
    # A board's overheads are measured anew, and need not be the same to a cycle.
    table = taken_up(new_table(header, overheads), partial, progress, fixed=header, other="another board, tool chain or kernels")
    waiting = sorted(missing(table, wanted))
    done = len(wanted) - len(waiting)
    progress.stage(f"timing {len(wanted):,} operators on {one.identity.board}", len(wanted))
    for program in programs(waiting):
        rows = [_row(base, wanted_one, found, scale) for wanted_one, found in _measured(opened, program, one.identity)]
        table = table.with_rows(rows)
        write(table, partial)
        done += len(rows)
        failed = sum(row.status != "ok" for row in table.rows)
        progress.step(done, str(rows[-1].key) + (f", {failed} failed" if failed else ""))
    kept = tuple(row for row in table.rows if (row.key, row.in_length) in wanted)
    return replace(table, rows=kept)


def programs(wanted: Sequence[Wanted]) -> Iterator[Program]:
    """The operators in order, as many together as a program shall hold; one that is larger stands alone."""
    held: list[Wanted] = []
    macs = size_bytes = 0
    for key, length in wanted:
        node, source = node_of(key, length)
        more_macs, more_bytes = node_macs(node, source), packed_bytes(node.op, source, key.weights)
        full = macs + more_macs > PROGRAM_MACS or size_bytes + more_bytes > PROGRAM_CONSTANTS_BYTES or len(held) == PROGRAM_OPERATORS
        if held and full:
            yield tuple(held)
            held, macs, size_bytes = [], 0, 0
        held.append((key, length))
        macs, size_bytes = macs + more_macs, size_bytes + more_bytes
    if held:
        yield tuple(held)


def write_program(program: Program, place: Path, kernel_set: str) -> Firmware:
    """Write C into the folder `place` as an export does, whose layer table is `program`; every operator has the arena to itself."""
    graph, identity = _carrier(), hashlib.sha256(repr(program).encode()).hexdigest()[:12]
    c.write(_filled(graph), uniform(graph), place, weights_hash=identity)
    filters = sorted({found for key, length in program for found in c.instances(graph_of(key, length)[0])})
    if filters:
        write_text(place / "depthwise.c", depthwise.source(filters))
    constants, rows, kernels, arena_bytes = [], [], {"run.c"}, 4
    for number, (key, length) in enumerate(program, start=1):
        around, index = graph_of(key, length)
        node, source = around.nodes[index], around.in_shape(around.nodes[index])
        packed = c.packed_node(_filled(around), index, key.weights)
        second = values_bytes(around.nodes[node.inputs[1]].shape) if len(node.inputs) > 1 else scratch_bytes(node, source)
        out = align(values_bytes(source))
        aux = out + align(values_bytes(node.shape))
        arena_bytes = max(arena_bytes, aux + align(second))
        kernels.add(c.kernel_file(packed.kernel))
        constants.append(layer(number, packed, OP_NAMES[type(node.op)]))
        rows.append(f"    {{{packed.kernel}, &params_{number}, 0u, {out}u, {aux}u}},")
    for name in sorted(kernels):
        write_bytes(place / c.KERNELS / name, (folder("firmware_bench") / c.KERNELS / name).read_bytes())
    table = "static const hwnas_layer layers[HWNAS_MODEL_LAYERS] = {\n" + "\n".join(rows) + "\n};\n"
    write_text(place / "model.c", "\n".join([BODY, depthwise.declarations(filters), *constants, table, RUN]))
    macros = {"ARENA_BYTES": str(arena_bytes), "LAYERS": str(len(program)), "GRAPH_HASH": f'"{identity}"'}
    header = (place / "model.h").read_text()
    write_text(place / "model.h", MACROS.sub(lambda found: f"#define HWNAS_MODEL_{found[1]} {macros[found[1]]}", header))
    return Firmware(place, kernel_set, identity, identity)


RUN = """void hwnas_model_run(const int8_t *input, int8_t *output, void *arena)
{
    hwnas_run(layers, HWNAS_MODEL_LAYERS, input, output, arena);
}
"""


def _wanted(space_names: Sequence[str], student: Path | None) -> set[Wanted]:
    if student is not None:
        return shapes_of(load_int8(student, read_shipped(student)).graph)
    return {wanted for name in space_names for wanted in space_shapes(name)}


def _carrier() -> Graph:
    """The smallest whole model; a program takes over its folder."""
    builder = GraphBuilder()
    builder.add(Dense(4), builder.add(GlobalAvgPool(), builder.add(Input(4, 4))))
    return builder.build()


def _filled(graph: Graph) -> QuantGraph:
    """`graph` with constants of no meaning."""
    return arbitrary(graph, np.random.default_rng(0))


def _timed(opened: Open, program: Program, first: Identity | None = None) -> Timed:
    """A program, run several times; once more where the line fails.

    Args:
        first: what the board said of itself when it ran the first program.

    Raises:
        FirmwareError: it does not build or fit, or gives another number of operators. IdentityError: the board is another one since, or
            runs at another clock. LinkError: the board falls silent twice.
    """
    try:
        identity, runs = _run(opened, program, first)
    except LinkError:
        identity, runs = _run(opened, program, first)
    operators = np.array([run.operator_ticks for run in runs], np.int64)
    if operators.shape != (RUNS, len(program)):
        raise FirmwareError(f"{identity.board} timed {operators.shape[1]} operators of {len(program)}; report this")
    return Timed(identity, np.array([run.ticks[0] for run in runs], np.int64), operators)


def _run(opened: Open, program: Program, first: Identity | None) -> tuple[Identity, list[Run]]:
    with opened(program) as board:
        identity = board.identity
        _check_same(identity, first or identity)
        window = np.zeros(identity.input_bytes, np.int8)
        return identity, [board.run(window, warm_up=WARM_UP_RUNS, operators=True) for _ in range(RUNS)]


def _check_same(identity: Identity, first: Identity) -> None:
    """Every program is a new start of the board, which may come up otherwise: rows of two clocks must not stand in one table."""
    pairs = ((name, getattr(identity, name), getattr(first, name)) for name in SAME)
    if differing := [f"{name} is {now}, was {before}" for name, now, before in pairs if now != before]:
        raise IdentityError(
            f"the board ({identity.board or 'unnamed'}) is not what it was when the first program ran: {'; '.join(differing)}. Look at its "
            "supply and clock, and run the command again: it goes on from what is finished"
        )


def _measured(opened: Open, program: Program, first: Identity) -> Iterator[tuple[Wanted, Ticks | str]]:
    """Ticks of every operator (R,), or why it has none: a program that fails is halved until what fails stands alone."""
    try:
        ticks = _timed(opened, program, first).operators
    except (LinkError, IdentityError):
        raise  # of the board, no operator's fault
    except FirmwareError as error:
        if len(program) == 1:
            _timed(opened, (SMALL,), first)  # raises where not the operator but the board is at fault
            yield program[0], str(error)
            return
        middle = len(program) // 2
        yield from _measured(opened, program[:middle], first)
        yield from _measured(opened, program[middle:], first)
    else:
        yield from zip(program, ticks.T, strict=True)


def _row(base: LookupTable, wanted: Wanted, found: Ticks | str, scale: float) -> Row:
    key, length = wanted
    known = base.row(key, length)
    if known is None or known.status != "ok":
        found = found if isinstance(found, str) else f"its stack and code are unknown ({known.status if known else 'no emulated row'})"
    if isinstance(found, str) or known is None:
        return Row.marked(key, length, f"failed: {str(found)[:REASON_CHARACTERS]}")
    low, median, high = (round(float(value) * scale) for value in np.percentile(found, (0, 50, 100)))
    if not 0 < median <= LARGEST_CYCLES:
        return Row.marked(key, length, f"{'failed' if median < 1 else 'sentinel'}: {median} cycles")
    cost = known.at(length)
    figures = (median, 0, 0, 0, 0, 0, cost.stack_bytes, cost.function, cost.code_bytes)
    return Row(key, length, 0, *figures, n=len(found), spread=high - low)


def _method(identity: Identity, profile: Profile, port: Port, progress: Progress) -> tuple[str, float]:
    """How the rows were made, and cycles in a tick.

    Raises:
        FirmwareError: the board's ticks are no cycles of its core.
    """
    board, clock = identity.board, identity.clock
    if identity.counter is Counter.CORE_CYCLES:
        if identity.clock_hz not in (0, profile.clock_hz):
            progress.say(f"the board runs at {clock}, {profile.name} at {profile.clock_hz / 1e6:g} MHz: flash waits differ with the clock")
        return f"measured on {board} at {clock} through {COUNTERS.get(profile.core, 'its cycle counter')}; flash waits included", 1.0
    if identity.counter is Counter.HOST_NANOSECONDS and port.name == HOST_PORT:
        progress.say(f"warning: {board}: {HOST_METHOD}; the table shows the procedure and nothing else")
        return f"timed on {board}: {HOST_METHOD}", profile.clock_hz / identity.counter_hz
    why = {
        Counter.NONE: "has no cycle counter, so nothing can be measured on it",
        Counter.HOST_NANOSECONDS: "counts nanoseconds of the machine that runs it, which are no cycles of a core",
    }[identity.counter]
    raise FirmwareError(f"the board ({board}) {why}; `hwnas profile` without --target fills the table with the emulator")
