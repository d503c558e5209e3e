"""Lookup tables from boards: programs of operators, statistics, failures, interruptions; then whole, over a process of this machine.

The emulator, given a counter, plays the board whose cycles are known: the shipped table's.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_tables import made_row, made_table
from shipped_students import family_graph, ship

from hwnas.errors import FirmwareError, IdentityError, LinkError, UsageError
from hwnas.firmware.board import Board, Counter, Identity, Run
from hwnas.firmware.board_image import Port, find_port
from hwnas.firmware.cores import core
from hwnas.firmware.emulated_board import EmulatedBoard
from hwnas.firmware.emulator import emulate
from hwnas.firmware.profiler import ROOM
from hwnas.graph import node_macs
from hwnas.hardware import profile as profiles
from hwnas.hardware.cost import predict
from hwnas.hardware.deployment import uniform
from hwnas.hardware.ops import OpKey, node_of
from hwnas.hardware.table import LookupTable
from hwnas.hardware.table import read as read_table
from hwnas.pipeline import board_profiling
from hwnas.pipeline.board_profiling import RUNS, SMALL, Program, fill_from_board, measured_table, programs, write_program
from hwnas.pipeline.exporting import table_for
from hwnas.pipeline.profiling import Wanted, shapes_of
from hwnas.pipeline.progress import Silent
from hwnas.pipeline.targets import Connection, parse_target
from hwnas.quantize.qgraph import Int8

GRAPH = family_graph("mobilenet")
PROFILE = profiles.read("cortex-m4-192k")
PORT = find_port("stm32f405")
SHAPES = shapes_of(GRAPH)


class FakeBoard:
    """Takes, for the operator at place i of its program, `cycles(operator) + r` in run r; the frame 60 and 34 a call."""

    def __init__(self, program: Program, identity: Identity, cycles: Callable[[Wanted], int]) -> None:
        self.identity, self._program, self._cycles, self._run = identity, program, cycles, 0

    def run(self, window: Int8, *, warm_up: int = 0, repeats: int = 1, operators: bool = False) -> Run:
        assert warm_up and operators and window.size == self.identity.input_bytes
        each = tuple(self._cycles(wanted) + self._run * 10 for wanted in self._program)
        self._run += 1
        return Run(np.zeros(4, np.int8), (sum(each) + 60 + 34 * len(each),) * repeats, each)


class Bench:
    """Opens boards; `fails` names the operators that cannot run, and `broken` makes every board silent from then on."""

    def __init__(self, counter: Counter = Counter.CORE_CYCLES, hz: int = 128_000_000) -> None:
        self.identity = Identity(1, 512, 128_000_000, counter, hz, 16, 4, 64, 0, "a board", "a compiler", "k", "g", "w", "")
        self.fails: set[Wanted] = set()
        self.opened: list[Program] = []
        self.last = 10**9  # number of the board that never answers, and those after it
        self.silent: set[int] = set()  # numbers of boards that do not answer, those after them do
        self.changes: dict[int, dict[str, Any]] = {}  # number of a board -> what its identity says otherwise
        self.cycles: Callable[[Wanted], int] = lambda wanted: 1000 + wanted[1]

    @contextmanager
    def open(self, program: Program) -> Iterator[Board]:
        self.opened.append(program)
        if len(self.opened) > self.last or len(self.opened) in self.silent:
            raise LinkError("the port vanished")
        if self.fails & set(program):
            raise FirmwareError(f"region `RAM' overflowed in {len(program)} operators, " + "x" * 500)
        identity = replace(self.identity, **self.changes.get(len(self.opened), {}))
        yield FakeBoard(program, identity, self.cycles)  # type: ignore[misc]


@pytest.fixture
def base() -> LookupTable:
    return made_table({*SHAPES, SMALL})


def fill(bench: Bench, base: LookupTable, partial: Path, wanted: set[Wanted] = SHAPES, port: Port = PORT) -> LookupTable:
    return measured_table(bench.open, base, PROFILE, port, wanted, partial, Silent())


def test_rows_have_median_number_and_range(base: LookupTable, tmp_path: Path) -> None:
    table = fill(Bench(), base, tmp_path / "partial")
    assert {(row.key, row.in_length) for row in table.rows} == SHAPES
    for row in table.rows:  # runs 2 ... 11 of a program take 0, 10 ... 90 more
        emulated = base.cost(row.key, row.in_length)
        assert (row.cycles, row.n, row.spread, row.period, row.status) == (1045 + row.in_length, RUNS, 90, 0, "ok")
        assert (row.stack_bytes, row.function, row.code_bytes) == (emulated.stack_bytes, emulated.function, emulated.code_bytes)
        assert row.flash_read_bytes == row.fetch_lines == 0  # waits are in the cycles
    assert table.provenance["method"] == "measured on a board at 128 MHz through DWT; flash waits included"
    assert table.provenance["toolchain"] == "a compiler"
    assert (table.overheads.call_cycles, table.overheads.frame_cycles, table.overheads.call_read_bytes) == (34, 60, 0)


def test_a_model_costs_what_its_operators_and_calls_do(base: LookupTable, tmp_path: Path) -> None:
    deployment = uniform(GRAPH)
    cost = predict(GRAPH, deployment, profiles.read("stm32f405"), fill(Bench(), base, tmp_path / "partial"), 5.0)
    each = [1045 + GRAPH.in_shape(node).length for node in GRAPH.nodes[1:]]
    assert cost.cycles == sum(each) + 60 + 34 * len(each)  # and no wait for flash, though the profile has some
    assert "measured on a board" in cost.provenance


def test_what_cannot_run_is_marked_and_the_others_are_not(base: LookupTable, tmp_path: Path) -> None:
    bench = Bench()
    bench.fails = set(sorted(SHAPES)[3:5])
    table = fill(bench, base, tmp_path / "partial")
    marked = {(row.key, row.in_length): row for row in table.rows if row.status != "ok"}
    assert set(marked) == bench.fails and len(table.rows) == len(SHAPES)
    for row in marked.values():
        assert row.status.startswith("failed: region `RAM' overflowed in 1 operators;") and len(row.status) < 300 and row.n == 0
    read_table(tmp_path / "partial")


def test_a_board_that_vanishes_is_no_operators_fault(base: LookupTable, tmp_path: Path) -> None:
    """Nothing is marked because of it, and what was finished is taken up again."""
    bench, partial = Bench(), tmp_path / "partial"
    board_profiling.PROGRAM_OPERATORS, before = 4, board_profiling.PROGRAM_OPERATORS
    try:
        bench.last = 4
        with pytest.raises(LinkError, match="vanished"):
            fill(bench, base, partial)
        kept = read_table(partial)
        assert len(kept.rows) == 8 and {row.status for row in kept.rows} == {"ok"}
        again = Bench()
        table = fill(again, base, partial)
    finally:
        board_profiling.PROGRAM_OPERATORS = before
    timed = [wanted for program in again.opened[2:] for wanted in program]
    assert len(timed) == len(SHAPES) - 8 and {(row.key, row.in_length) for row in table.rows} == SHAPES


def test_a_line_that_fails_once_is_tried_again(base: LookupTable, tmp_path: Path) -> None:
    bench = Bench()
    bench.silent = {3}
    table = fill(bench, base, tmp_path / "partial")
    assert {row.status for row in table.rows} == {"ok"} and bench.opened[2] == bench.opened[3]


def test_a_board_that_is_silent_twice_marks_nothing(base: LookupTable, tmp_path: Path) -> None:
    """Not even where it answers again: the line, not an operator, was at fault."""
    bench = Bench()
    bench.silent = {3, 4}
    with pytest.raises(LinkError, match="vanished"):
        fill(bench, base, tmp_path / "partial")
    assert len(bench.opened) == 4


@pytest.mark.parametrize(
    "change", [{"clock_hz": 16_000_000}, {"board": "16 MHz without PLL"}, {"counter": Counter.NONE}, {"toolchain": "another"}]
)
@pytest.mark.parametrize("number", [2, 3])
def test_a_board_that_comes_up_otherwise_is_refused(number: int, change: dict[str, Any], base: LookupTable, tmp_path: Path) -> None:
    """Every program is a new start; rows of two clocks must not stand in one table."""
    bench = Bench()
    bench.changes = {number: change}
    with pytest.raises(IdentityError, match=f"{next(iter(change))} is .*, was "):
        fill(bench, base, tmp_path / "partial")


def test_what_another_board_left_is_not_taken_up(base: LookupTable, tmp_path: Path) -> None:
    partial = tmp_path / "partial"
    fill(Bench(), base, partial)
    other = Bench()
    other.identity = replace(other.identity, board="another board")
    fill(other, base, partial)
    assert {wanted for program in other.opened[2:] for wanted in program} == SHAPES
    partial.write_text("damaged")
    assert len(fill(Bench(), base, partial).rows) == len(SHAPES)


@pytest.mark.parametrize(
    ("counter", "port", "words"),
    [
        (Counter.NONE, "stm32f405", "has no cycle counter, so nothing can be measured on it"),
        (Counter.NONE, "host", "has no cycle counter"),
        (Counter.HOST_NANOSECONDS, "linux-aarch64", "nanoseconds of the machine that runs it, which are no cycles of a core"),
    ],
)
def test_boards_that_count_no_cycles_are_refused(counter: Counter, port: str, words: str, base: LookupTable, tmp_path: Path) -> None:
    with pytest.raises(FirmwareError, match=words):
        fill(Bench(counter, 10**9), base, tmp_path / "partial", port=find_port(port))
    assert not (tmp_path / "partial").exists()


def test_this_machines_clock_is_named_for_what_it_is(base: LookupTable, tmp_path: Path) -> None:
    table = fill(Bench(Counter.HOST_NANOSECONDS, 10**9), base, tmp_path / "partial", port=find_port("host"))
    assert table.provenance["method"] == "timed on a board: clock of the machine that ran it, not cycles"
    assert {row.cycles - round((1045 + row.in_length) * 0.128) for row in table.rows} == {0}  # nanoseconds at 128 MHz


@pytest.mark.parametrize(("cycles", "status"), [(-45, "failed: 0 cycles"), (2**32, "sentinel: ")])
def test_what_no_counter_can_have_counted_is_marked(cycles: int, status: str, base: LookupTable, tmp_path: Path) -> None:
    bench = Bench()
    bench.cycles = lambda wanted: cycles
    rows = fill(bench, base, tmp_path / "partial").rows
    assert all(row.status.startswith(status) and row.cycles == 0 for row in rows)


def test_what_the_emulator_could_not_do_has_no_row(base: LookupTable, tmp_path: Path) -> None:
    lacking = made_table(sorted(SHAPES)[1:])
    (row,) = [row for row in fill(Bench(), lacking, tmp_path / "partial").rows if row.status != "ok"]
    assert (row.key, row.in_length) == sorted(SHAPES)[0] and "stack and code are unknown" in row.status


def test_programs_are_as_large_as_they_may_be() -> None:
    shapes = sorted({(OpKey("pointwise", 1, 1, 1, 16, channels, "int8"), length) for channels in (8, 64) for length in range(10, 3000, 20)})
    found = list(programs(shapes))
    assert [wanted for program in found for wanted in program] == shapes
    macs = [sum(node_macs(*node_of(*wanted)) for wanted in program) for program in found]
    assert max(macs) <= board_profiling.PROGRAM_MACS and max(map(len, found)) == board_profiling.PROGRAM_OPERATORS
    huge = (OpKey("pointwise", 1, 1, 1, 1000, 1000, "int8"), 100)
    assert list(programs([SMALL, huge, SMALL])) == [(SMALL,), (huge,), (SMALL,)]
    assert list(programs([])) == []


class Emulated:
    """The emulator with a counter: boards whose ticks are the modelled cycles."""

    @contextmanager
    def open(self, program: Program) -> Iterator[Any]:
        part = core(PROFILE.core)
        with board_profiling.tempfile.TemporaryDirectory() as work:
            firmware = write_program(program, Path(work), "k")
            board = EmulatedBoard(emulate(firmware.folder, part, ROOM), firmware.folder, part, PROFILE, constants_bytes=0, kernel_set="k")
        board.identity = replace(board.identity, counter=Counter.CORE_CYCLES)
        assert board.identity.graph_hash == firmware.graph_hash and board.identity.operators == len(program)
        yield board


@pytest.mark.parametrize(
    "family", ["mobilenet", pytest.param("modalities", marks=pytest.mark.slow), pytest.param("lstm", marks=pytest.mark.slow)]
)
def test_programs_take_what_the_emulated_table_says(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every operator of a family, in every layout, in one program: the very cycles of its row, and the frame and calls around them."""
    monkeypatch.setattr(board_profiling, "RUNS", 1)
    graph = family_graph(family)
    emulated = table_for(PROFILE, graph, Silent())
    shapes = shapes_of(graph)
    table = measured_table(Emulated().open, emulated, PROFILE, PORT, shapes, tmp_path / "partial", Silent())
    assert {(row.key, row.in_length): (row.status, row.cycles) for row in table.rows} == {
        (key, length): ("ok", emulated.cost(key, length).cycles) for key, length in shapes
    }
    assert table.overheads.call_cycles == emulated.overheads.call_cycles
    assert table.overheads.frame_cycles == emulated.overheads.frame_cycles


@pytest.fixture
def made_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shipped table lacks is made up instead of emulated."""
    monkeypatch.setattr(
        board_profiling, "extended", lambda table, absent, progress, jobs: table.with_rows(made_row(*wanted) for wanted in absent)
    )


def test_over_a_process_of_this_machine(tmp_path: Path, made_rows: None) -> None:
    """The link, the C of the board and its clock, whole: every operator of a student has a figure, and is called what it is."""
    student, out = tmp_path / "student", tmp_path / "table.csv"
    ship(student, "resnet")
    connection = Connection(parse_target("exec:{image}"), port="host")
    path, rows = fill_from_board("cortex-m4-192k", [], student, out, connection, Silent())
    table = read_table(path)
    shapes = shapes_of(family_graph("resnet"))
    assert path == out and rows == len(table.rows) == len(shapes) and not (tmp_path / "table.csv.partial").exists()
    assert all(table.row(key, length) is not None for key, length in shapes)
    assert {row.n for row in table.rows if row.status == "ok"} == {RUNS}
    assert "not cycles" in table.provenance["method"] and table.core == "cortex-m4"


@pytest.mark.skipif(not shutil.which("qemu-system-arm"), reason="qemu-system-arm is not installed")
def test_qemu_is_refused(tmp_path: Path, made_rows: None) -> None:
    ship(tmp_path / "student", "resnet", exports=False)
    with pytest.raises(FirmwareError, match="has no cycle counter"):
        fill_from_board("stm32f405", [], tmp_path / "student", tmp_path / "table.csv", Connection(parse_target("qemu")), Silent())
    assert not (tmp_path / "table.csv").exists()


@pytest.mark.parametrize(
    ("target", "port", "profile", "out", "words"),
    [
        ("emulator", None, "cortex-m4-192k", "table.csv", "the emulator needs no --target"),
        ("serial:/dev/x", None, "cortex-m4-192k", "table.csv", "give --port and --flash"),
        ("qemu", None, "watch-a53", "table.csv", "port stm32f405 is of core cortex-m4, profile watch-a53 of cortex-a53"),
        ("qemu", None, "stm32f405", "SHIPPED", "is among the shipped tables"),
        ("exec:adb {image}", None, "watch-a53", "table.csv", "only a clock: nothing can be profiled on it"),
    ],
)
def test_what_is_refused_before_anything_is_built(
    target: str, port: str | None, profile: str, out: str, words: str, tmp_path: Path
) -> None:
    place = profiles.read(profile).table_path if out == "SHIPPED" else tmp_path / out
    before = place.read_bytes() if place.exists() else b""
    with pytest.raises(UsageError, match=words):
        fill_from_board(profile, ["spectral"], None, place, Connection(parse_target(target), port), Silent())
    assert (place.read_bytes() if place.exists() else b"") == before
