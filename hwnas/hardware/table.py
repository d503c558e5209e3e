"""Lookup tables: what every operator shape costs on a core, as a CSV file. Reads and writes that file; no torch.

A row covers the lengths `in_length + m * period`, m = 0, 1, 2...: each quantity is its first value plus m times its step. That is exact,
not a fit: a kernel's control flow depends on shapes alone and advances in blocks of positions, so within one residue of the blocking
the counts are affine in the length (the tests hold this against emulation at unseen lengths). `period` 0 covers `in_length` alone.
There is no interpolation over channels: cycles are not monotone in them. A row whose status is not "ok" is kept, says why it has no
figure, and is never a number.

The first lines of the file, `# name: value`, are its provenance: how the rows were made and from which kernels. Every line ends in a
check of its own, so that damage is found where it is; the last one checks that no line is missing.
"""

from __future__ import annotations

import binascii
import zlib
from collections.abc import Iterable
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

from hwnas.errors import CostError, MissingEntryError
from hwnas.graph import Op, Shape
from hwnas.hardware.ops import Layout, OpKey, calls, table_key
from hwnas.hardware.weights import layer_bytes, layouts, packed_bytes, params_bytes
from hwnas.resources import write_text

STATUSES = ("ok", "failed", "sentinel")
LARGEST_CYCLES = 2**32 - 1  # what a 32-bit cycle counter holds; anything above is a sentinel
COLUMNS = (
    *OpKey._fields,
    "in_length",
    "period",
    "cycles",
    "cycles_per_period",
    "flash_read_bytes",
    "flash_read_bytes_per_period",
    "fetch_lines",
    "fetch_lines_per_period",
    "stack_bytes",
    "function",
    "code_bytes",
    "status",
    "n",
    "spread",
    "check",
)
WORDS = ("operator", "weights", "function", "status")  # columns that hold no numbers


class OperatorCost(NamedTuple):
    """What one operator takes on one length.

    Attributes:
        cycles: at zero wait states.
        flash_read_bytes: constants read from flash, repeated reads included.
        fetch_lines: lines of code fetched from flash.
        stack_bytes: below the call.
        function: the C function that computes it.
        code_bytes: of that function; paid once however often it is called.
    """

    cycles: int
    flash_read_bytes: int
    fetch_lines: int
    stack_bytes: int
    function: str
    code_bytes: int

    def times(self, calls: int) -> OperatorCost:
        """The same operator called so often."""
        return self._replace(
            cycles=calls * self.cycles, flash_read_bytes=calls * self.flash_read_bytes, fetch_lines=calls * self.fetch_lines
        )


class Choice(NamedTuple):
    """An operator with its weights in one layout: what all its calls take, how many there are, and the flash of its constants."""

    weights: Layout
    cost: OperatorCost
    calls: int
    constants_bytes: int


@dataclass(frozen=True, slots=True)
class Row:
    """One operator shape over one residue of lengths; see the module's head. `cycles` is the median of `n` runs, `spread` their range."""

    key: OpKey
    in_length: int
    period: int
    cycles: int
    cycles_per_period: int
    flash_read_bytes: int
    flash_read_bytes_per_period: int
    fetch_lines: int
    fetch_lines_per_period: int
    stack_bytes: int
    function: str
    code_bytes: int
    status: str = "ok"
    n: int = 1
    spread: int = 0

    @staticmethod
    def marked(key: OpKey, in_length: int, status: str) -> Row:
        """A row without figures: `status` begins with "failed" or "sentinel" and says why."""
        return Row(key, in_length, 0, 0, 0, 0, 0, 0, 0, 0, "-", 0, " ".join(status.replace(",", ";").split()), 0)

    def at(self, in_length: int) -> OperatorCost:
        """The row's figures for a length that it covers."""
        steps = (in_length - self.in_length) // self.period if self.period else 0
        return OperatorCost(
            self.cycles + steps * self.cycles_per_period,
            self.flash_read_bytes + steps * self.flash_read_bytes_per_period,
            self.fetch_lines + steps * self.fetch_lines_per_period,
            self.stack_bytes,
            self.function,
            self.code_bytes,
        )


@dataclass(frozen=True)
class Overheads:
    """What a model costs beyond its operators, measured like them.

    Attributes:
        frame_cycles, frame_read_bytes, frame_lines: entering and leaving the model function.
        call_cycles, call_read_bytes, call_lines: each operator call beyond the kernel's own.
        frame_stack_bytes: stack above the kernel's own.
        static_bytes: RAM of the harness beyond arena, input and output.
        code_bytes: flash of all code but the kernels', without weights and layer tables.
    """

    frame_cycles: int
    call_cycles: int
    frame_read_bytes: int
    call_read_bytes: int
    frame_lines: int
    call_lines: int
    frame_stack_bytes: int
    static_bytes: int
    code_bytes: int


OVERHEADS = tuple(f.name for f in fields(Overheads))
HEADER = ("core", "pointer_bytes", "kernel_set", "toolchain", "method", *OVERHEADS)


@dataclass(frozen=True)
class LookupTable:
    """Rows of one core with their provenance. Answers are cached here: lookups repeat a thousandfold in a search."""

    provenance: dict[str, str]
    rows: tuple[Row, ...]
    overheads: Overheads
    _index: dict[tuple[OpKey, int, int], Row] = field(default_factory=dict, init=False, repr=False, compare=False)
    _periods: dict[OpKey, tuple[int, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _choices: dict[tuple[Op, Shape, Shape], tuple[Choice, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for row in self.rows:
            residue = row.in_length % row.period if row.period else row.in_length
            self._index[(row.key, row.period, residue)] = row
            if row.period not in self._periods.get(row.key, ()):
                self._periods[row.key] = tuple(sorted((*self._periods.get(row.key, ()), row.period)))

    @property
    def core(self) -> str:
        """Name of the core that the table belongs to."""
        return self.provenance["core"]

    @property
    def pointer_bytes(self) -> int:
        """Size of a pointer in parameter structures and layer tables."""
        return int(self.provenance["pointer_bytes"])

    def row(self, key: OpKey, in_length: int) -> Row | None:
        """The row that covers an operator, marked ones included."""
        for period in self._periods.get(key, ()):
            row = self._index.get((key, period, in_length % period if period else in_length))
            if row and in_length >= row.in_length:
                return row
        return None

    def cost(self, key: OpKey, in_length: int) -> OperatorCost:
        """What an operator takes.

        Raises:
            MissingEntryError: no row covers it, or the row is marked: it failed when the table was filled.
        """
        row = self.row(key, in_length)
        if row is None:
            raise MissingEntryError(
                f"the lookup table of core '{self.core}' has no row for {key} at length {in_length}; it covers the windows that it was "
                "filled for, and `hwnas search` and `hwnas export` profile what it lacks"
            )
        if row.status != "ok":
            raise MissingEntryError(
                f"the lookup table of core '{self.core}' has no figure for {key} at length {in_length}: {row.status}; "
                "choose another shape, or correct the cause and fill the table again with `hwnas profile`"
            )
        return row.at(in_length)

    def choices(self, op: Op, source: Shape, shape: Shape) -> tuple[Choice, ...]:
        """An operator in every layout that its weights can have, smallest first; a layout that failed is no choice.

        Raises:
            MissingEntryError: no row covers a layout, or all failed.
        """
        found = self._choices.get((op, source, shape))
        if found is None:
            found = self._choices[(op, source, shape)] = tuple(self._find_choices(op, source, shape))
        return found

    def _find_choices(self, op: Op, source: Shape, shape: Shape) -> Iterable[Choice]:
        keys = {weights: table_key(op, source, shape, weights) for weights in layouts(op, source)}
        rows = {weights: self.row(*key) for weights, key in keys.items()}
        failed = {weights for weights, row in rows.items() if row is not None and row.status != "ok"}
        count = calls(op, source)
        for weights, key in keys.items():
            if weights not in failed or len(failed) == len(keys):
                constants = packed_bytes(op, source, weights) + params_bytes(op, self.pointer_bytes)
                constants += count * layer_bytes(self.pointer_bytes)
                yield Choice(weights, self.cost(*key).times(count), count, constants)

    def with_rows(self, rows: Iterable[Row]) -> LookupTable:
        """The same table with further rows; one with the same key, length and period takes the old one's place."""
        merged = {(row.key, row.period, row.in_length): row for row in (*self.rows, *rows)}
        return LookupTable(self.provenance, tuple(merged.values()), self.overheads)


def new_table(provenance: dict[str, str], overheads: Overheads, rows: Iterable[Row] = ()) -> LookupTable:
    """A table from its first header fields (those before the overheads) and the overheads, which join them."""
    figures = {name: str(value) for name, value in zip(OVERHEADS, astuple(overheads), strict=True)}
    return LookupTable(provenance | figures, tuple(rows), overheads)


def to_csv(table: LookupTable) -> str:
    """The table as CSV text; rows sorted, so that the same table is the same bytes."""
    lines = [_checked(f"# {name}: {table.provenance[name]}") for name in HEADER]
    lines.append(",".join(COLUMNS))
    for row in sorted(table.rows, key=lambda r: (r.key, r.period, r.in_length)):
        cells = [*row.key, *(getattr(row, name) for name in COLUMNS[len(OpKey._fields) : -1])]
        lines.append(_checked(",".join(map(str, cells))))
    text = "\n".join(lines) + "\n"
    return f"{text}# crc32: {zlib.crc32(text.encode()):08x}\n"


def write(table: LookupTable, path: Path) -> None:
    """Write the table to `path`, atomically."""
    write_text(path, to_csv(table))


def read(path: Path) -> LookupTable:
    """The table in `path`.

    Raises:
        CostError: missing or damaged file; the message names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CostError(f"{path}: the lookup table cannot be read ({error}); fill it with `hwnas profile`") from error
    body, _, last = text.rpartition("# crc32: ")
    provenance: dict[str, str] = {}
    rows: list[Row] = []
    lines = text.splitlines()
    for number, line in enumerate(lines[:-1], 1):
        try:
            if line == ",".join(COLUMNS):
                continue
            content = _content(line)
            if content.startswith("# "):
                name, _, value = content[2:].partition(": ")
                provenance[name] = value
            else:
                rows.append(_row(content.split(",")))
        except ValueError as error:
            raise CostError(f"{path}:{number}: damaged line {line!r} ({error}); fill the table again with `hwnas profile`") from error
    if last != f"{zlib.crc32(body.encode()):08x}\n" or set(provenance) != set(HEADER):
        raise CostError(f"{path}:{len(lines)}: the checksum does not match, lines are missing; fill the table again with `hwnas profile`")
    return LookupTable(provenance, tuple(rows), Overheads(*(int(provenance[name]) for name in OVERHEADS)))


def _checked(content: str) -> str:
    """A line with its check, which notices every change of up to two neighbouring characters."""
    return f"{content},{binascii.crc_hqx(content.encode(), 0):04x}"


def _content(line: str) -> str:
    content = line.rpartition(",")[0]
    if _checked(content) != line:
        raise ValueError("its check does not match")
    return content


def _row(cells: list[str]) -> Row:
    named = dict(zip(COLUMNS[:-1], cells, strict=True))
    values = {name: cell if name in WORDS else int(cell) for name, cell in named.items()}
    key = OpKey(**{name: values.pop(name) for name in OpKey._fields})  # type: ignore[arg-type]
    row = Row(key, **values)  # type: ignore[arg-type]
    if row.status.partition(":")[0] not in STATUSES:
        raise ValueError(f"status '{row.status}'")
    if row.status == "ok" and not 0 < row.cycles <= LARGEST_CYCLES:
        raise ValueError(f"{row.cycles} cycles")
    return row
