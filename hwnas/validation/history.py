"""The history of nights: one SQLite file, safe against two runs at once and against being killed. Reads and writes that file.

It belongs on a disk of the machine itself: SQLite's write-ahead log does not work over a network.

A night is claimed when it begins (its number is never given twice) and ends when all of its rows are there; a night without an end was
interrupted, or is running. Each finished row is one transaction: it is there whole, or not at all, whatever happens afterwards.

Versions of the schema only ever add columns. So a newer program migrates an older file, and an older one reads a newer file and adds to
it, naming the columns it knows and leaving out what it does not know of findings, without changing its schema.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import psutil

from hwnas import __version__
from hwnas.errors import RunError
from hwnas.validation.reading import Key, Reading, reading
from hwnas.validation.verdict import Drift, Kind, Past, Verdict

# What brings a file from each version to the next. Append only; add columns and tables, change none.
MIGRATIONS = (
    (
        """CREATE TABLE nights (
            night INTEGER PRIMARY KEY AUTOINCREMENT,
            began TEXT NOT NULL, ended TEXT, planned INTEGER NOT NULL,
            host TEXT NOT NULL, process INTEGER NOT NULL, process_began REAL NOT NULL, hwnas TEXT NOT NULL
        )""",
        """CREATE TABLE results (
            night INTEGER NOT NULL REFERENCES nights, student TEXT NOT NULL, target TEXT NOT NULL,
            verdict TEXT NOT NULL, reason TEXT NOT NULL, findings TEXT NOT NULL, finished TEXT NOT NULL,
            weights_hash TEXT, kernel_set TEXT, profile TEXT, latency_kind TEXT, energy_kind TEXT,
            latency_us REAL, ram_bytes REAL, energy_uj REAL, accuracy REAL, record TEXT,
            PRIMARY KEY (night, student, target)
        )""",
        "CREATE INDEX results_of_a_key ON results (weights_hash, target, kernel_set)",
    ),
    (
        "ALTER TABLE nights ADD COLUMN fault TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE results ADD COLUMN retries INTEGER",
    ),
)
VERSION = len(MIGRATIONS)
BUSY_S = 30.0
LONGEST_PAST = 400  # nights that a verdict looks back
DRIFT_FIELDS = tuple(field.name for field in fields(Drift))
State = Literal["finished", "running", "interrupted"]


@dataclass(frozen=True)
class Night:
    """One night: what it was to run, and whether it did. `fault` says what was broken on purpose, if anything was."""

    night: int
    began: str
    ended: str | None
    planned: int
    done: int
    fault: str
    state: State


@dataclass(frozen=True)
class Row:
    """One student on one target in one night. `record` is what `bench_student` gave; None where the target was not reached."""

    night: int
    student: str
    target: str
    verdict: Verdict
    record: Mapping[str, Any] | None
    finished: str
    fault: str = ""

    @property
    def reading(self) -> Reading | None:
        """The figures."""
        return None if self.record is None else reading(self.record, self.target)


class History:
    """A history file, opened; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            try:
                self._set_up()
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def claim(self, planned: int, fault: str = "") -> int:
        """Begin a night of `planned` rows; returns its number, which no other run gets."""
        own = psutil.Process()
        with self._transaction() as db:
            cursor = db.execute(
                "INSERT INTO nights (began, planned, host, process, process_began, hwnas, fault) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (now(), planned, socket.gethostname(), own.pid, own.create_time(), __version__, fault),
            )
            night = cursor.lastrowid
        if night is None:
            raise RunError(f"{self.path}: the file gave the night no number; report this")
        return night

    def add(self, row: Row) -> None:
        """Keep a finished row, in one transaction; raises RunError if the night has it already."""
        found, findings = row.reading, {"drifts": [asdict(drift) for drift in row.verdict.drifts], "notes": row.verdict.notes}
        columns: dict[str, Any] = {
            "night": row.night,
            "student": row.student,
            "target": row.target,
            "verdict": row.verdict.kind,
            "reason": row.verdict.reason,
            "findings": json.dumps(findings, allow_nan=False),
            "finished": row.finished,
        }
        if found is not None and row.record is not None:
            columns |= {name: getattr(found.key, name) for name in ("weights_hash", "kernel_set", "profile")}
            names = ("latency_kind", "energy_kind", "latency_us", "ram_bytes", "energy_uj", "accuracy")
            columns |= {name: getattr(found, name) for name in names}
            columns |= {"record": json.dumps(row.record, allow_nan=False), "retries": (row.record.get("link") or {}).get("retries")}
        with self._transaction() as db:
            db.execute(f"INSERT INTO results ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", tuple(columns.values()))

    def finish(self, night: int) -> None:
        """Say that all rows of the night are there."""
        with self._transaction() as db:
            db.execute("UPDATE nights SET ended = ? WHERE night = ?", (now(), night))

    def nights(self) -> list[Night]:
        """All nights, oldest first."""
        counted = "(SELECT COUNT(*) FROM results WHERE results.night = nights.night)"
        columns = f"night, began, ended, planned, {counted}, fault, host, process, process_began"
        found = self._select(f"SELECT {columns} FROM nights ORDER BY night", ())
        return [
            Night(night, began, ended, planned, done, fault, _state(ended, *process))
            for night, began, ended, planned, done, fault, *process in found
        ]

    def rows(self, night: int | None = None, last: int | None = None) -> list[Row]:
        """The rows of a night, or of the `last` nights, or all; oldest first, in the order in which they were finished."""
        where, values = ("WHERE results.night = ?", (night,)) if night is not None else ("", ())
        if night is None and last is not None:
            where, values = "WHERE results.night > (SELECT MAX(night) FROM nights) - ?", (last,)
        return list(self._rows(f"{where} ORDER BY results.night, results.rowid", values))

    def every_row(self) -> Iterator[Row]:
        """All rows, oldest first, one at a time: the records of years need not fit into memory."""
        return self._rows("ORDER BY results.night, results.rowid", ())

    def past(self, key: Key, before: int) -> list[Past]:
        """Earlier nights of the same key, oldest first, whatever the kind of their figures."""
        where = " AND ".join(f"{name} = ?" for name in Key._fields)
        found = self._rows(f"WHERE {where} AND results.night < ? ORDER BY results.night DESC LIMIT {LONGEST_PAST}", (*key, before))
        kept = [Past(row.night, row.verdict.kind, row.reading, row.verdict.drifts, row.fault) for row in found if row.reading]
        return kept[::-1]

    def _rows(self, rest: str, values: Sequence[Any]) -> Iterator[Row]:
        columns = "results.night, student, target, verdict, reason, findings, record, finished, fault"
        with self._told():
            for each in self._db.execute(f"SELECT {columns} FROM results JOIN nights ON nights.night = results.night {rest}", values):
                yield self._row(*each)

    def _row(
        self, night: int, student: str, target: str, kind: Kind, reason: str, findings: str, record: str | None, finished: str, fault: str
    ) -> Row:
        try:
            found = json.loads(findings)
            drifts = tuple(Drift(**{name: each[name] for name in DRIFT_FIELDS}) for each in found["drifts"])
            if kind not in get_args(Kind):
                raise ValueError(f"verdict '{kind}'")
            verdict = Verdict(kind, reason, drifts, tuple(found["notes"]))
            row = Row(night, student, target, verdict, None if record is None else json.loads(record), finished, fault)
            _ = row.reading
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(f"{self.path}: night {night}, {student} on {target}: the row is damaged ({error}); restore the file") from error
        return row

    def _set_up(self) -> None:
        """Write-ahead log, and the schema of this version at least."""
        deadline = time.monotonic() + BUSY_S
        while True:  # SQLite does not wait for others here by itself
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self._db.execute("PRAGMA synchronous = FULL")  # a row that is there is on disk
        self._db.execute("PRAGMA foreign_keys = ON")
        with self._transaction() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
                for statement in statements:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {number}")

    def _select(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._told():
            return self._db.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of the file as RunError."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise RunError(f"{self.path}: the history cannot be used ({error}); restore it, or name another 'history'") from error


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _state(ended: str | None, host: str, process: int, process_began: float) -> State:
    """A night without an end is running if its process is; that of another machine counts as interrupted."""
    if ended is not None:
        return "finished"
    if host == socket.gethostname() and psutil.pid_exists(process):
        with contextlib.suppress(psutil.Error):
            running = psutil.Process(process)
            if abs(running.create_time() - process_began) < 1 and running.status() != psutil.STATUS_ZOMBIE:
                return "running"
    return "interrupted"
