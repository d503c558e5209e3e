"""Lookup tables: exact answers, refusal of what they do not hold, and of damaged files."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.errors import CostError, MissingEntryError
from hwnas.hardware.ops import OpKey
from hwnas.hardware.table import HEADER, LookupTable, Overheads, Row, read, to_csv, write

KEY = OpKey("pointwise", 1, 1, 16, 32)
PROVENANCE = dict.fromkeys(HEADER, "1") | {"profile": "test-part"}


def table() -> LookupTable:
    rows = (Row(KEY, 3, 0, 70, 0, 40), Row(KEY, 8, 2, 100, 25, 40), Row(KEY, 9, 2, 120, 25, 44))
    return LookupTable(PROVENANCE, rows, Overheads(1, 1, 1, 1, 1))


@pytest.mark.parametrize(
    ("length", "answer"), [(3, (70, 40)), (8, (100, 40)), (10, (125, 40)), (1000, (100 + 496 * 25, 40)), (11, (145, 44))]
)
def test_exact_and_affine_rows(length: int, answer: tuple[int, int]) -> None:
    assert table().cost(KEY, length) == answer


@pytest.mark.parametrize(("key", "length"), [(KEY, 4), (KEY, 7), (KEY._replace(out_channels=36), 8)])
def test_a_missing_entry_names_operator_shape_and_profile(key: OpKey, length: int) -> None:
    with pytest.raises(MissingEntryError, match=rf"test-part.*pointwise 16->{key.out_channels}.*length {length}"):
        table().cost(key, length)


def test_round_trip_is_exact_and_repeatable(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write(table(), path)
    again = read(path)
    assert again.rows == table().rows
    assert again.overheads == table().overheads
    assert to_csv(again) == path.read_text()


def test_any_flipped_byte_is_noticed(tmp_path: Path) -> None:
    text = to_csv(table())
    path = tmp_path / "t.csv"
    for position in range(len(text)):
        path.write_text(text[:position] + ("0" if text[position] != "0" else "7") + text[position + 1 :])
        with pytest.raises(CostError, match=r"t\.csv:\d+"):
            read(path)


def test_a_marked_row_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(to_csv(table()).replace(",ok,", ",failed,", 1))
    with pytest.raises(CostError, match=r"t\.csv:12.*failed"):
        read(path)
