"""Columns of a CSV file with one header line. Reads one file."""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DataError
from hwnas.tasks.datasets import files

if TYPE_CHECKING:
    from _csv import Reader

MAX_COLUMNS = 1000
MAX_LINE = 2**20
MAX_WORDS = 10_000


class Table:
    """A CSV file whose header has been read; columns are read on demand."""

    def __init__(self, path: Path) -> None:
        """Read the file and its header; raises DataError."""
        self._path = path
        self._content = files.read(path)
        with self._rows() as (reader, _):
            self.names = tuple(name.strip() for name in next(reader, []))
        if len(set(self.names)) != len(self.names) or not 1 <= len(self.names) <= MAX_COLUMNS:
            raise DataError(f"{path}: line 1: expected up to {MAX_COLUMNS:,} different names of columns, got {','.join(self.names)[:60]!r}")

    def numbers(self, names: Sequence[str]) -> NDArray[np.float64]:
        """Columns as (columns, rows), NaN where a cell is empty.

        Raises:
            DataError: no such column, a row of another length, or a cell that is no number; names the line.
        """
        places = [self._place(name) for name in names]
        values = [array("d") for _ in places]
        with self._rows() as (reader, at):
            for row in self._full(reader):
                for place, column in zip(places, values, strict=True):
                    at[:] = [self.names[place], row[place]]
                    column.append(float(row[place]) if row[place].strip() else np.nan)
        return np.array([np.frombuffer(column, np.float64) for column in values])

    def words(self, name: str) -> tuple[NDArray[np.int64], list[str]]:
        """A column of text: the number of each row's word, and the words in the order they first occur in.

        Raises:
            DataError: no such column, a row of another length, or more words than labels can have.
        """
        place, known, codes = self._place(name), dict[str, int](), array("q")
        with self._rows() as (reader, _):
            for row in self._full(reader):
                codes.append(known.setdefault(row[place].strip(), len(known)))
                if len(known) > MAX_WORDS:
                    raise DataError(f"{self._path}: column '{name}' holds more than {MAX_WORDS:,} different words; expected labels")
        return np.frombuffer(codes, np.int64), list(known)

    def _full(self, reader: Reader) -> Iterator[list[str]]:
        """The rows below the header; empty lines are skipped."""
        next(reader)
        for row in reader:
            if row and len(row) != len(self.names):
                raise DataError(f"{self._path}: line {reader.line_num}: {len(row)} cells, the header has {len(self.names)}")
            if row:
                yield row

    @contextmanager
    def _rows(self) -> Iterator[tuple[Reader, list[str]]]:
        """A reader from the first line, and a place to note the column and the cell at work."""
        at = ["", ""]
        reader = csv.reader(self._lines(), strict=True)
        try:
            yield reader, at
        except UnicodeDecodeError as error:
            raise DataError(f"{self._path}: not a CSV file: it is no UTF-8 text") from error
        except csv.Error as error:
            raise DataError(f"{self._path}: line {reader.line_num}: {error}") from error
        except ValueError as error:
            raise DataError(f"{self._path}: line {reader.line_num}: '{at[0]}' is {at[1][:40]!r}, expected a number or nothing") from error

    def _lines(self) -> Iterator[str]:
        text = io.TextIOWrapper(io.BytesIO(self._content), encoding="utf-8-sig", newline="")
        while line := text.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                raise csv.Error(f"longer than {MAX_LINE:,} characters")
            yield line

    def _place(self, name: str) -> int:
        if name not in self.names:
            raise DataError(f"{self._path}: column '{name}' is missing (found: {', '.join(self.names)[:200]})")
        return self.names.index(name)
