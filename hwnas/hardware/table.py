"""Lookup tables: cycles of every operator shape of a profile, as a CSV file. Reads and writes that file; no torch.

A row covers the lengths `in_length + m * period`, m = 0, 1, 2...: `cycles + m * cycles_per_period`. That is exact, not a fit: a kernel's
control flow depends on shapes alone and advances in blocks of positions, so within one residue of the blocking the count is affine
in the length (the tests hold this against emulation at unseen lengths). `period` 0 covers `in_length` alone. There is no
interpolation over channels: cycles are not monotone in them.

The first lines of the file, `# name: value`, are its provenance: how the rows were made and from which kernels.
"""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hwnas.errors import CostError, MissingEntryError
from hwnas.hardware.ops import OpKey
from hwnas.resources import write_text

COLUMNS = (
    "operator",
    "kernel",
    "stride",
    "in_channels",
    "out_channels",
    "in_length",
    "period",
    "cycles",
    "cycles_per_period",
    "stack_bytes",
    "status",
    "n",
    "spread",
)
HEADER = (
    "profile",
    "kernel_set",
    "toolchain",
    "method",
    "date",
    "frame_cycles",
    "call_cycles",
    "frame_stack_bytes",
    "static_bytes",
    "code_bytes",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One operator shape over one residue of lengths; see the module's head."""

    key: OpKey
    in_length: int
    period: int
    cycles: int
    cycles_per_period: int
    stack_bytes: int


@dataclass(frozen=True)
class Overheads:
    """What a model costs beyond its operators, measured like them.

    Attributes:
        frame_cycles: entering and leaving the model function.
        call_cycles: each operator call beyond the kernel's own cycles.
        frame_stack_bytes: stack above the kernel's own.
        static_bytes: RAM of the harness beyond arena, input and output.
        code_bytes: flash of all code, without weights and layer tables.
    """

    frame_cycles: int
    call_cycles: int
    frame_stack_bytes: int
    static_bytes: int
    code_bytes: int


@dataclass(frozen=True)
class LookupTable:
    """Rows of one profile with their provenance. `cost` caches answers here: lookups repeat a thousandfold in a search."""

    provenance: dict[str, str]
    rows: tuple[Row, ...]
    overheads: Overheads
    _index: dict[tuple[OpKey, int, int], Row] = field(default_factory=dict, init=False, repr=False, compare=False)
    _periods: dict[OpKey, tuple[int, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _answers: dict[tuple[OpKey, int], tuple[int, int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for row in self.rows:
            residue = row.in_length % row.period if row.period else row.in_length
            self._index[(row.key, row.period, residue)] = row
            if row.period not in self._periods.get(row.key, ()):
                self._periods[row.key] = tuple(sorted((*self._periods.get(row.key, ()), row.period)))

    @property
    def name(self) -> str:
        """Name of the profile that the table belongs to."""
        return self.provenance["profile"]

    def cost(self, key: OpKey, in_length: int) -> tuple[int, int]:
        """(cycles, stack bytes) of an operator.

        Raises:
            MissingEntryError: no row covers it.
        """
        answer = self._answers.get((key, in_length))
        if answer is None:
            answer = self._answers[(key, in_length)] = self._find(key, in_length)
        return answer

    def _find(self, key: OpKey, in_length: int) -> tuple[int, int]:
        for period in self._periods.get(key, ()):
            row = self._index.get((key, period, in_length % period if period else in_length))
            if row and in_length >= row.in_length:
                steps = (in_length - row.in_length) // period if period else 0
                return row.cycles + steps * row.cycles_per_period, row.stack_bytes
        raise MissingEntryError(
            f"the lookup table of profile '{self.name}' has no row for {key} at length {in_length}; "
            f"fill it with `hwnas profile --profile {self.name}`"
        )

    def with_rows(self, rows: Iterable[Row]) -> LookupTable:
        """The same table with further rows."""
        return LookupTable(self.provenance, (*self.rows, *rows), self.overheads)


def to_csv(table: LookupTable) -> str:
    """The table as CSV text; rows sorted, so that the same table is the same bytes."""
    out = io.StringIO()
    for name in HEADER:
        out.write(f"# {name}: {table.provenance[name]}\n")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in sorted(table.rows, key=lambda r: (r.key, r.period, r.in_length)):
        writer.writerow([*row.key, row.in_length, row.period, row.cycles, row.cycles_per_period, row.stack_bytes, "ok", 1, 0])
    text = out.getvalue()
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
    lines = text.splitlines()
    provenance: dict[str, str] = {}
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        try:
            if line.startswith("# "):
                name, _, value = line[2:].partition(": ")
                provenance[name] = value
            elif line != ",".join(COLUMNS):
                rows.append(_row(line.split(",")))
        except ValueError as error:
            raise CostError(f"{path}:{number}: damaged row {line!r} ({error}); fill the table again with `hwnas profile`") from error
    body = text.rpartition("# crc32: ")[0]
    if provenance.pop("crc32", "") != f"{zlib.crc32(body.encode()):08x}" or set(provenance) != set(HEADER):
        raise CostError(f"{path}:{len(lines)}: the checksum does not match, the table is damaged; fill it again with `hwnas profile`")
    overheads = Overheads(*(int(provenance[name]) for name in HEADER[5:]))
    return LookupTable(provenance, tuple(rows), overheads)


def _row(cells: list[str]) -> Row:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"{len(cells)} cells, needs {len(COLUMNS)}")
    numbers = [int(cell) for cell in cells[1:10]]
    if cells[10] != "ok":
        raise ValueError(f"status '{cells[10]}'")
    return Row(OpKey(cells[0], *numbers[:4]), *numbers[4:])
