"""The write boundary: all of a file or nothing of it, and one clear error."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from hwnas import resources
from hwnas.errors import HwnasError, RunError


def failing(code: int) -> Callable[..., NoReturn]:
    """A function of the operating system that fails with `code`."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return fail


def test_writes_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.txt"
    resources.write_text(path, "größe µs\n")
    assert path.read_bytes() == "größe µs\n".encode()
    assert [p.name for p in path.parent.iterdir()] == ["x.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    resources.write_bytes(path, b"x" * 10_000)
    resources.write_bytes(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EROFS])
def test_a_full_disk_leaves_nothing_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    old = tmp_path / "front.json"
    resources.write_text(old, "old")
    monkeypatch.setattr(os, call, failing(code))
    for path in (old, tmp_path / "new.json"):
        with pytest.raises(RunError) as caught:
            resources.write_text(path, "new content")
        assert str(path) in str(caught.value)
        assert os.strerror(code) in str(caught.value)
        assert caught.value.exit_code == 1
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["front.json"]
    assert old.read_text() == "old"


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        resources.write_text(tmp_path / "x", "content")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(RunError, match="cannot write"):
        resources.write_text(tmp_path / "runs" / "x" / "run.yaml", "content")


@pytest.mark.parametrize("name", ["search_spaces", "hw_profiles", "firmware_bench"])
def test_data_folders_are_found_in_a_checkout(name: str) -> None:
    assert resources.folder(name).is_dir()


def test_a_missing_data_folder_is_named() -> None:
    with pytest.raises(HwnasError, match="no_such_folder"):
        resources.folder("no_such_folder")
