"""Lookup tables: exact answers, marked rows that are no numbers, refusal of what they do not hold, and of damaged files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_tables import OVERHEADS, PROVENANCE, made_row, made_table
from random_networks import random_network

from hwnas.errors import CostError, MissingEntryError
from hwnas.graph import Conv1d, Shape
from hwnas.hardware.ops import OpKey, op_key
from hwnas.hardware.table import COLUMNS, LARGEST_CYCLES, LookupTable, OperatorCost, Row, new_table, read, to_csv, write
from hwnas.hardware.weights import constants_bytes, layouts

KEY = OpKey("pointwise", 1, 1, 1, 16, 32, "int8")
FAILED = "failed: the kernel read outside its tensors at 0x20000000"


def row(start: int, period: int, cycles: int, step: int, stack: int = 40) -> Row:
    return Row(KEY, start, period, cycles, step, 10 * cycles, 10 * step, 7, 2, stack, "hwnas_conv1d_int8", 600)


def table(*more: Row) -> LookupTable:
    return new_table(PROVENANCE, OVERHEADS, (row(3, 0, 70, 0), row(8, 2, 100, 25), row(9, 2, 120, 25, 44), *more))


@pytest.mark.parametrize(
    ("length", "cycles", "lines", "stack"), [(3, 70, 7, 40), (8, 100, 7, 40), (10, 125, 9, 40), (1000, 12_500, 999, 40), (11, 145, 9, 44)]
)
def test_exact_and_affine_rows(length: int, cycles: int, lines: int, stack: int) -> None:
    assert table().cost(KEY, length) == OperatorCost(cycles, 10 * cycles, lines, stack, "hwnas_conv1d_int8", 600)


@pytest.mark.parametrize(("key", "length"), [(KEY, 4), (KEY, 7), (KEY._replace(out_channels=36), 8), (KEY._replace(weights="int16"), 8)])
def test_a_missing_entry_names_operator_shape_and_core(key: OpKey, length: int) -> None:
    with pytest.raises(MissingEntryError, match=rf"cortex-m4.*pointwise 16->{key.out_channels}.*{key.weights} at length {length}"):
        table().cost(key, length)


@pytest.mark.parametrize("status", [FAILED, "sentinel: 5e10 cycles"])
def test_a_marked_row_is_kept_and_is_never_a_number(tmp_path: Path, status: str) -> None:
    marked = table(Row.marked(KEY, 5, status))
    write(marked, tmp_path / "t.csv")
    again = read(tmp_path / "t.csv")
    assert again.row(KEY, 5) == Row.marked(KEY, 5, status)
    with pytest.raises(MissingEntryError, match=rf"no figure for pointwise 16->32 .* at length 5: {status}"):
        again.cost(KEY, 5)
    assert again.cost(KEY, 8) == table().cost(KEY, 8)


def test_a_reason_with_commas_and_lines_stays_one_cell(tmp_path: Path) -> None:
    write(table(Row.marked(KEY, 5, "failed: one, two\nthree")), tmp_path / "t.csv")
    found = read(tmp_path / "t.csv").row(KEY, 5)
    assert found is not None and found.status == "failed: one; two three"


def test_round_trip_is_exact_and_repeatable(tmp_path: Path) -> None:
    path, made = tmp_path / "t.csv", table(Row.marked(KEY, 5, FAILED), replace(row(100, 0, 9, 0), n=9, spread=3))
    write(made, path)
    again = read(path)
    assert set(again.rows) == set(made.rows)
    assert (again.overheads, again.provenance) == (made.overheads, made.provenance)
    assert to_csv(again) == path.read_text()
    assert "date" not in path.read_text()


def test_any_changed_character_is_found_in_its_line(tmp_path: Path) -> None:
    text = to_csv(table(Row.marked(KEY, 5, FAILED)))
    path = tmp_path / "t.csv"
    for position, character in enumerate(text):
        for other in "0", "7", "\n", ",":
            if other == character:
                continue
            path.write_text(text[:position] + other + text[position + 1 :])
            with pytest.raises(CostError, match=r"t\.csv:\d+") as caught:
                read(path)
            # A line break that comes or goes moves lines; anything else is named where it is.
            if "\n" not in (character, other):
                assert f"t.csv:{text.count(chr(10), 0, position) + 1}:" in str(caught.value), (position, other)


def test_a_line_that_is_gone_or_moved_is_noticed(tmp_path: Path) -> None:
    lines = to_csv(table()).splitlines(keepends=True)
    for index in range(len(lines)):
        (tmp_path / "t.csv").write_text("".join(lines[:index] + lines[index + 1 :]))
        with pytest.raises(CostError, match=r"t\.csv:\d+"):
            read(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("".join([*lines[:-3], lines[-2], lines[-3], lines[-1]]))
    with pytest.raises(CostError, match="checksum"):
        read(tmp_path / "t.csv")


@pytest.mark.parametrize("cycles", [0, -5, LARGEST_CYCLES + 1, 50_000_000_000])
def test_an_unmarked_sentinel_is_refused_with_its_line(tmp_path: Path, cycles: int) -> None:
    write(table(row(100, 0, cycles, 0)), tmp_path / "t.csv")
    line = (tmp_path / "t.csv").read_text().splitlines().index(",".join(COLUMNS)) + 3  # the second row by period and length
    with pytest.raises(CostError, match=rf"t\.csv:{line}: .*{cycles} cycles"):
        read(tmp_path / "t.csv")


def test_no_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CostError, match=r"none\.csv.*hwnas profile"):
        read(tmp_path / "none.csv")


def test_a_new_row_takes_the_place_of_the_old(tmp_path: Path) -> None:
    longer = table().with_rows([row(8, 2, 101, 25), row(5, 0, 80, 0)])
    assert len(longer.rows) == 4
    assert (longer.cost(KEY, 8).cycles, longer.cost(KEY, 5).cycles, longer.cost(KEY, 3).cycles) == (101, 80, 70)


CONV, SOURCE, SHAPE = Conv1d(8, 5), Shape(8, 20), Shape(8, 20)


def choices_with(*failed: str) -> tuple[str, ...]:
    """Layouts that are left where the rows of some are marked."""
    rows = []
    for weights in layouts(CONV, SOURCE):
        key = op_key(CONV, SOURCE, SHAPE, weights)
        rows.append(Row.marked(key, 20, FAILED) if weights in failed else made_row(key, 20))
    return tuple(choice.weights for choice in new_table(PROVENANCE, OVERHEADS, rows).choices(CONV, SOURCE, SHAPE))


def test_a_layout_that_failed_is_no_choice() -> None:
    assert choices_with() == ("int8", "int16")
    assert choices_with("int16") == ("int8",)
    assert choices_with("int8") == ("int16",)
    with pytest.raises(MissingEntryError, match="failed: the kernel"):
        choices_with("int8", "int16")


def test_a_layout_without_a_row_is_an_error_not_a_choice() -> None:
    one = new_table(PROVENANCE, OVERHEADS, [made_row(op_key(CONV, SOURCE, SHAPE, "int8"), 20)])
    with pytest.raises(MissingEntryError, match="int16 at length 20"):
        one.choices(CONV, SOURCE, SHAPE)


@pytest.mark.parametrize("seed", range(10))
def test_choices_hold_figures_and_constants_of_every_layout(seed: int) -> None:
    graph = random_network(np.random.default_rng(seed), longest=60)
    keys = {
        (op_key(n.op, graph.in_shape(n), n.shape, w), graph.in_shape(n).length)
        for n in graph.nodes[1:]
        for w in layouts(n.op, graph.in_shape(n))
    }
    made = made_table(keys)
    for node in graph.nodes[1:]:
        source = graph.in_shape(node)
        found = made.choices(node.op, source, node.shape)
        assert tuple(choice.weights for choice in found) == layouts(node.op, source)
        for choice in found:
            assert choice.cost == made.cost(op_key(node.op, source, node.shape, choice.weights), source.length)
            assert choice.constants_bytes == constants_bytes(node, source, choice.weights)
