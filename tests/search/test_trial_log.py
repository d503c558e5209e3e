"""The log under every cut, every flipped byte, a full disk and a second writer."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hwnas.errors import RunError
from hwnas.search import trial_log
from hwnas.search.trial_log import TrialLog, comparable, parse

CONFIG = {"space": "mobilenet1d", "seed": 0, "budget": {"ram_bytes": 65536}}


def write(path: Path) -> bytes:
    with TrialLog.create(path, CONFIG) as log:
        log.append("rejected", hash="aa", parameters={"k": 3}, cost={"ram_bytes": 9e4}, violations={"ram_bytes": [9e4, 65536]})
        log.append("proposed", id=0, hash="bb", parameters={"k": 5, "name": "Größe"}, cost={"ram_bytes": 1e4})
        log.append("scored", id=0, hash="bb", metrics={"error": 0.1}, times={"seconds": 1.5, "at": 1.0})
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "trials.jsonl"


def test_what_is_written_is_read(path: Path) -> None:
    write(path)
    with TrialLog.resume(path, CONFIG) as log:
        assert [r["kind"] for r in log.records] == ["rejected", "proposed", "scored"]
        assert log.records[1]["parameters"] == {"k": 5, "name": "Größe"}
        assert log.torn_bytes == 0
        log.append("failed", id=1, hash="cc", reason="why", times={"seconds": 0.0, "at": 2.0})
        assert comparable(log.records[-1]) == {"kind": "failed", "id": 1, "hash": "cc", "reason": "why"}
    records, size = parse(path)
    assert [r["n"] for r in records] == [0, 1, 2, 3, 4]
    assert size == path.stat().st_size


def test_cut_at_every_byte(path: Path) -> None:
    """Whatever the length of the file, all whole lines survive and the log can be continued."""
    whole = write(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        kept = whole[:length].count(b"\n")
        with TrialLog.resume(path, CONFIG) as log:
            assert len(log.records) == max(kept - 1, 0)
            assert log.torn_bytes == (length - whole[:length].rfind(b"\n") - 1)
            log.append("duplicate", hash="dd")
        assert [r["kind"] for r in parse(path)[0]][-1] == "duplicate"


def test_every_flipped_bit_is_found(path: Path) -> None:
    """Damage is either an error that names the line, or (the newline at the very end) a torn tail."""
    whole = write(path)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        if position == len(whole) - 1:
            assert len(parse(path)[0]) == 3
        else:
            with pytest.raises(RunError, match=r"trials\.jsonl, line \d: (damaged|holds record)"):
                parse(path)


@pytest.mark.parametrize("change", [lambda lines: lines[:1] + lines[2:], lambda lines: [lines[0], lines[2], lines[1], lines[3]]])
def test_removed_or_moved_lines_are_found(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(change(write(path).splitlines(keepends=True))))
    with pytest.raises(RunError, match="line 2: holds record 2; lines were removed or moved"):
        parse(path)


@pytest.mark.parametrize("function", ["write", "fsync"])
def test_a_full_disk(path: Path, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    """The message names the file and the cause; what was there before is whole, and the search can go on later."""
    before = write(path)
    with TrialLog.resume(path, CONFIG) as log:
        real = os.write

        def full(descriptor: int, *content: bytes) -> int:
            if content:
                real(descriptor, content[0][:7])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(trial_log.os, function, full)
        with pytest.raises(RunError, match=r"trials\.jsonl: No space left on device.*--resume"):
            log.append("scored", id=1, hash="cc", metrics={}, times={})
        monkeypatch.undo()
        assert path.read_bytes() == before
        log.append("scored", id=1, hash="cc", metrics={}, times={})
    assert len(parse(path)[0]) == 5


def test_short_writes_are_continued(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(trial_log.os, "write", lambda descriptor, content: real(descriptor, content[:5]))
    write(path)
    monkeypatch.undo()
    assert len(parse(path)[0]) == 4


def test_a_log_is_not_overwritten(path: Path) -> None:
    write(path)
    with pytest.raises(RunError, match=r"exists; continue it with --resume"):
        TrialLog.create(path, CONFIG)


def test_another_configuration_is_refused_with_what_differs(path: Path) -> None:
    before = write(path)
    with pytest.raises(RunError, match=r"another search: seed was 0, now 1; space was 'mobilenet1d', now 'lstm'"):
        TrialLog.resume(path, CONFIG | {"seed": 1, "space": "lstm"})
    assert path.read_bytes() == before


def test_one_writer_at_a_time(path: Path) -> None:
    with TrialLog.create(path, CONFIG), pytest.raises(RunError, match="in use by another process"):
        TrialLog.resume(path, CONFIG)
    TrialLog.resume(path, CONFIG).close()


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        TrialLog.create(tmp_path / "file" / "trials.jsonl", CONFIG)
    with pytest.raises(RunError, match="cannot read"):
        parse(tmp_path / "absent")


def test_a_file_that_is_not_a_log(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"some": "json"}\n')
    with pytest.raises(RunError, match="line 1: damaged"):
        TrialLog.resume(path, CONFIG)


def test_values_that_json_cannot_hold_are_refused_before_writing(path: Path) -> None:
    with TrialLog.create(path, CONFIG) as log:
        with pytest.raises(ValueError, match="not JSON compliant"):
            log.append("scored", metrics={"error": float("nan")})
        log.append("duplicate", hash="aa")
    assert len(parse(path)[0]) == 2
