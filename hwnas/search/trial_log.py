"""`trials.jsonl`: the append-only memory of a search. Reads and writes that one file.

One JSON object a line: `{"n": line number from 0, "kind": ..., ..., "crc": "8 hex digits"}`. The CRC-32 covers the bytes of the
line before `,"crc"`. Kinds and their fields:

    header     config (what decides the result of the search)
    proposed   id, hash, family, parameters, cost
    rejected   hash, family, parameters, cost, violations {limit: [needed, allowed]}
    duplicate  hash, family
    scored     id, hash, metrics, times
    failed     id, hash, reason, times

Whatever depends on the clock stands under `times` (seconds, and `at`: seconds since 1970), so that two runs can be compared
without it. Header and results reach the disk before `append` returns; refusals may be lost in a power cut and are proposed again.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from pathlib import Path
from typing import Any

from hwnas.errors import RunError

Record = dict[str, Any]
DURABLE = ("header", "scored", "failed")
CRC_BYTES = len(',"crc":"00000000"}')


class TrialLog:
    """An open log, locked against a second writer.

    Attributes:
        records: all records after the header, in the order of the file.
        torn_bytes: size of the torn tail that was cut off when the log was opened; 0 for an intact one.

    Use `create` or `resume`; close it, or use it in a `with` statement.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.records, self.torn_bytes = path, list[Record](), 0
        self._descriptor, self._lines, self._size = descriptor, 0, 0

    @classmethod
    def create(cls, path: Path, config: Record) -> TrialLog:
        """Start a log. Raises RunError where one exists or the place cannot be written."""
        log = cls._open(path, os.O_EXCL)
        return log._begin(config)

    @classmethod
    def resume(cls, path: Path, config: Record) -> TrialLog:
        """Open a log that exists, cutting off a torn tail; one torn inside its first line, or absent, is started anew.

        Raises:
            RunError: another configuration, damage that is not a torn tail (with the line), or a log in use.
        """
        log = cls._open(path, 0)
        try:
            records, size = parse(path)
            log.torn_bytes = path.stat().st_size - size
            if log.torn_bytes:
                log._truncate(size)
            if not records:
                return log._begin(config)
            _same_config(path, records[0]["config"], json.loads(_dump(config)))
            log.records, log._lines, log._size = records[1:], len(records), size
            os.lseek(log._descriptor, size, os.SEEK_SET)
        except BaseException:
            log.close()
            raise
        return log

    def append(self, kind: str, **fields: Any) -> None:
        """Write one record. Raises RunError where it cannot be written whole; what was in the file before stays readable."""
        record = {"n": self._lines, "kind": kind, **fields}
        body = _dump(record).encode()[:-1]
        line = body + b',"crc":"%08x"}\n' % zlib.crc32(body)
        try:
            _write(self._descriptor, line, durable=kind in DURABLE)
        except OSError as error:
            self._truncate(self._size)
            raise RunError(f"cannot write {self.path}: {error.strerror or error}; free space, then use --resume") from error
        self._lines += 1
        self._size += len(line)
        if kind != "header":
            self.records.append(json.loads(body + b"}"))

    def close(self) -> None:
        """Release the file; closing twice is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> TrialLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def _open(cls, path: Path, flags: int) -> TrialLog:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644)
        except OSError as error:
            if isinstance(error, FileExistsError) and path.exists():
                raise RunError(f"{path} exists; continue it with --resume, or choose another --out") from None
            raise RunError(f"cannot write {path}: {error.strerror or error}; choose another --out") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise RunError(f"{path} is in use by another process; wait for it or stop it first") from None
        return cls(path, descriptor)

    def _begin(self, config: Record) -> TrialLog:
        try:
            self.append("header", config=config)
        except BaseException:
            self.close()
            raise
        return self

    def _truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)
        os.lseek(self._descriptor, size, os.SEEK_SET)


def parse(path: Path) -> tuple[list[Record], int]:
    """All whole records of the log at `path`, header first, and the size in bytes that they take; what follows is a torn tail.

    A tail is torn when the last line lacks its newline: a line is written at once, newline last.

    Raises:
        RunError: the file cannot be read, or a line that is not the torn tail is damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    lines = content.split(b"\n")[:-1]
    records = [_parse_line(path, number, line) for number, line in enumerate(lines)]
    if records and records[0]["kind"] != "header":
        raise RunError(f"{path}, line 1: a '{records[0]['kind']}' record, a log begins with its header; restore the file")
    return records, sum(len(line) + 1 for line in lines)


def comparable(record: Record) -> Record:
    """The record without its place in the file and without times."""
    return {name: value for name, value in record.items() if name not in ("n", "times")}


def _parse_line(path: Path, number: int, line: bytes) -> Record:
    body = line[:-CRC_BYTES]
    if line[-CRC_BYTES:] != b',"crc":"%08x"}' % zlib.crc32(body):
        raise RunError(f"{path}, line {number + 1}: damaged (its checksum does not fit); restore the file or start a new run")
    record: Record = json.loads(body + b"}")
    if record["n"] != number:
        raise RunError(f"{path}, line {number + 1}: holds record {record['n']}; lines were removed or moved, restore the file")
    return record


def _same_config(path: Path, found: Record, wanted: Record) -> None:
    changed = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    if changed:
        details = "; ".join(f"{name} was {found.get(name)!r}, now {wanted.get(name)!r}" for name in changed)
        raise RunError(f"{path} belongs to another search: {details}; resume with the same settings, or choose another --out")


def _dump(record: Record) -> str:
    return json.dumps(record, sort_keys=False, separators=(",", ":"), allow_nan=False)


def _write(descriptor: int, line: bytes, durable: bool) -> None:
    """The one place that writes to a log."""
    while line:
        line = line[os.write(descriptor, line) :]
    if durable:
        os.fsync(descriptor)
