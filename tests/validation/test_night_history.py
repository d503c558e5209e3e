"""The history file: migrations, several runs at once, processes that are killed, and files that are none."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_records import PREDICTED_CYCLES, record, row

from hwnas.errors import RunError
from hwnas.validation import history as module
from hwnas.validation.config import Limits
from hwnas.validation.history import MIGRATIONS, VERSION, History, Night, Row, now
from hwnas.validation.reading import reading
from hwnas.validation.verdict import Verdict, judge, not_reached

HERE = Path(__file__).resolve().parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "history.sqlite"


def version(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def schema(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return [text for (text,) in db.execute("SELECT sql FROM sqlite_master ORDER BY name")]


def test_what_was_kept_comes_back(path: Path) -> None:
    slow = reading(record(cycles=(1, *PREDICTED_CYCLES[1:])), "emulator")
    kept = [
        row(1, "a", verdict=judge(slow, Limits(), [], 1)),
        row(1, "b", target="bench"),
        Row(1, "c", "bench", not_reached("gone"), None, now()),
    ]
    with History(path) as history:
        night = history.claim(3)
        for each in kept:
            history.add(each)
        history.finish(night)
    with History(path) as history:
        assert history.rows(1) == history.rows() == kept
        (found,) = history.nights()
        assert (found.night, found.planned, found.done, found.state, found.fault) == (1, 3, 3, "finished", "")


def test_nights_are_numbered_once_and_for_all(path: Path) -> None:
    with History(path) as history, History(path) as other:
        assert [history.claim(1), other.claim(1), history.claim(1)] == [1, 2, 3]
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM nights WHERE night = 3")
    with History(path) as history:
        assert history.claim(1) == 4


def test_a_row_is_kept_once(path: Path) -> None:
    with History(path) as history:
        history.claim(1)
        history.add(row(1))
        with pytest.raises(RunError, match="UNIQUE"):
            history.add(row(1, cycles=(1, 2, 3, 4)))
        assert history.rows() == [replace(row(1), finished=history.rows()[0].finished)]
        with pytest.raises(RunError, match="FOREIGN KEY"):
            history.add(row(7))


def test_a_night_without_an_end_is_running_only_while_its_process_is(path: Path) -> None:
    with History(path) as history:
        history.claim(2)
        assert [night.state for night in history.nights()] == ["running"]
    for change in ("process_began = process_began - 100", "host = 'elsewhere'"):
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute(f"UPDATE nights SET {change}")
        with History(path) as history:
            assert [night.state for night in history.nights()] == ["interrupted"]


def test_the_past_is_that_of_the_same_key(path: Path) -> None:
    key = reading(record(), "emulator").key
    others = [
        {"weights": "f" * 16},
        {"kernel_set": "e" * 16},
        {"more": {"profile": "stm32f405"}},
    ]
    with History(path) as history:
        for night in range(1, 4):
            history.claim(8, "flip-weight" if night == 2 else "")
            history.add(row(night))
            history.add(row(night, target="other"))
            for number, changes in enumerate(others):
                history.add(row(night, student=f"s{number}", **changes))
        history.add(Row(3, "z", "emulator", not_reached("gone"), None, now()))
        found = history.past(key, before=4)
        assert [(each.night, each.fault) for each in found] == [(1, ""), (2, "flip-weight"), (3, "")]
        assert [each.night for each in history.past(key, before=3)] == [1, 2]
        assert all(each.reading == reading(record(), "emulator") for each in found)


def test_a_night_without_its_meter_or_counter_does_not_begin_another_past(path: Path) -> None:
    changes: list[dict[str, Any]] = [{}, {"kind": "measured"}, {"more": {"energy": {"kind": "measured", "energy_uj": 1.0}}}]
    with History(path) as history:
        for night, change in enumerate(changes, start=1):
            history.claim(1)
            history.add(row(night, **change))
        for change in changes:
            assert [each.night for each in history.past(reading(record(**change), "emulator").key, before=4)] == [1, 2, 3]


def test_findings_of_a_newer_version_are_read(path: Path) -> None:
    slow = reading(record(cycles=(1, *PREDICTED_CYCLES[1:])), "emulator")
    with History(path) as history:
        history.claim(1)
        history.add(row(1, verdict=judge(slow, Limits(), [], 1)))
        (before,) = history.rows()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        findings = json.loads(db.execute("SELECT findings FROM results").fetchone()[0])
        for drift in findings["drifts"]:
            drift["mood"] = "bad"
        db.execute("UPDATE results SET findings = ?", (json.dumps(findings),))
    with History(path) as history:
        assert history.rows() == list(history.every_row()) == [before] and before.verdict.drifts


def test_version_1_becomes_version_2_and_keeps_its_rows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        for statement in MIGRATIONS[0]:
            db.execute(statement)
        db.execute("INSERT INTO nights VALUES (5, '2025-01-01T00:00:00Z', '2025-01-01T01:00:00Z', 1, 'h', 1, 1.0, '0.1')")
        values = (5, "a", "emulator", "pass", "", '{"drifts": [], "notes": []}', "t", json.dumps(record()))
        columns = "night, student, target, verdict, reason, findings, finished, record"
        db.execute(f"INSERT INTO results ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        db.execute("PRAGMA user_version = 1")
    with History(path) as history:
        assert history.nights() == [Night(5, "2025-01-01T00:00:00Z", "2025-01-01T01:00:00Z", 1, 1, "", "finished")]
        assert history.rows() == [Row(5, "a", "emulator", Verdict("pass"), record(), "t", "")]
        assert history.claim(1, "flip-weight") == 6
    assert version(path) == VERSION == 2


def test_every_version_becomes_the_same_file(tmp_path: Path) -> None:
    found = []
    for start in range(VERSION + 1):
        path = tmp_path / f"{start}.sqlite"
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            for statements in MIGRATIONS[:start]:
                for statement in statements:
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {start}")
        History(path).close()
        found.append(schema(path))
    assert all(each == found[0] for each in found)


def test_a_newer_file_is_read_and_added_to_but_not_rewritten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = (*MIGRATIONS, ("ALTER TABLE results ADD COLUMN humidity REAL NOT NULL DEFAULT 0.5", "CREATE TABLE moods (mood TEXT)"))
    with monkeypatch.context() as patch:
        patch.setattr(module, "MIGRATIONS", newer)
        with History(path) as history:
            history.claim(1)
            history.add(row(1))
    before = schema(path)
    with History(path) as history:
        assert len(history.rows()) == 1
        history.add(row(history.claim(1), cycles=(1, 2, 3, 4)))
        assert [each.night for each in history.rows()] == [1, 2]
    assert (version(path), schema(path)) == (VERSION + 1, before)


def test_migrations_only_add() -> None:
    words = {statement.split()[0] + " " + statement.split()[1] for statements in MIGRATIONS for statement in statements}
    assert words <= {"CREATE TABLE", "CREATE INDEX", "ALTER TABLE"}
    assert all(" ADD COLUMN " in s for statements in MIGRATIONS for s in statements if s.startswith("ALTER"))


def test_a_failed_migration_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    History(path).close()
    before = schema(path)
    monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, ("ALTER TABLE nights ADD COLUMN x TEXT", "NO SQL")))
    with pytest.raises(RunError, match="syntax error"):
        History(path)
    assert (version(path), schema(path)) == (VERSION, before)


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_file_that_is_no_history_is_named(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"history\.sqlite: the history cannot be used .* restore it"):
        History(path)
    assert path.read_bytes() == content


def test_a_damaged_row_is_named(path: Path) -> None:
    with History(path) as history:
        history.claim(1)
        history.add(row(1))
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE results SET record = '{'")
    with History(path) as history, pytest.raises(RunError, match="night 1, a on emulator: the row is damaged"):
        history.rows()


class Killed(BaseException):
    """What a test raises in place of a death."""


actions = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), st.integers(0, 2)),
        st.tuples(st.just("add"), st.integers(0, 2)),
        st.tuples(st.just("finish"), st.integers(0, 2)),
        st.tuples(st.just("kill"), st.integers(0, 2)),
    ),
    max_size=40,
)


@given(actions)
def test_any_order_of_runs_and_deaths(tmp_path_factory: pytest.TempPathFactory, done: list[tuple[str, int]]) -> None:
    """Three runs in turn on one file, some dead in the midst of a row: the file holds what was finished."""
    path = tmp_path_factory.mktemp("history") / "h.sqlite"
    runs: dict[int, tuple[History, int]] = {}
    kept: dict[int, list[str]] = {}
    ended: set[int] = set()
    with contextlib.ExitStack() as stack:
        for what, who in done:
            if what == "claim" and who not in runs:
                history = stack.enter_context(History(path))
                night = history.claim(9)
                assert night not in kept
                runs[who], kept[night] = (history, night), []
            elif who in runs:
                history, night = runs[who]
                student = f"s{len(kept[night])}"
                if what == "add":
                    history.add(row(night, student))
                    kept[night].append(student)
                elif what == "finish":
                    history.finish(night)
                    ended.add(night)
                    history.close()
                    del runs[who]
                elif what == "kill":
                    with pytest.raises(Killed), history._transaction() as db:
                        db.execute("DELETE FROM results")
                        raise Killed
                    history.close()
                    del runs[who]
        with History(path) as history:
            assert {night.night: night.done for night in history.nights()} == {night: len(rows) for night, rows in kept.items()}
            assert {night.night for night in history.nights() if night.state == "finished"} == ended
            assert {n: [r.student for r in history.rows(n)] for n in kept} == kept


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from made_records import row
from hwnas.validation.history import History
with History(Path(sys.argv[2])) as history:
    for _ in range(int(sys.argv[3])):
        night = history.claim(3)
        for student in "abc":
            history.add(row(night, student))
            print(night, student, flush=True)
        history.finish(night)
"""


@contextlib.contextmanager
def writers(path: Path, count: int, nights: int) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, "-c", WRITER, str(HERE), str(path), str(nights)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


def test_two_processes_write_at_once(path: Path) -> None:
    with writers(path, 2, 20) as processes:
        told = [process.communicate(timeout=60)[0].splitlines() for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
    own = [{line.split()[0] for line in lines} for lines in told]
    assert not own[0] & own[1], "two runs claimed the same night"
    with History(path) as history:
        assert {f"{each.night} {each.student}" for each in history.rows()} == {*told[0], *told[1]}
        assert [(night.night, night.state, night.done) for night in history.nights()] == [(n, "finished", 3) for n in range(1, 41)]


def test_a_killed_process_loses_no_finished_row_and_leaves_no_half_one(path: Path) -> None:
    with writers(path, 1, 10_000) as (process,):
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(25)]
        os.kill(process.pid, signal.SIGKILL)
        told += process.stdout.read().splitlines()
    with History(path) as history:
        assert history.claim(1) == len(history.nights())
        kept = [f"{each.night} {each.student}" for each in history.rows()]
        # At most one more than it could tell of.
        assert kept[: len(told)] == told and len(kept) <= len(told) + 1
        *before, night, _ = history.nights()
        assert {each.state for each in before} == {"finished"}
        assert night.state == ("interrupted" if night.ended is None else "finished")
