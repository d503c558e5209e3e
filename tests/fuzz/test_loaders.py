"""Damaged and hostile files of every format of recordings: a valid result or a refusal that names the file, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import SEEDS, Loader, Target, run

# every so many-th in the default tests
CASES, LONG_CASES = 12, 10_000 // len(SEEDS) + 1


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loader]:
    with Loader(tmp_path_factory.mktemp("child")) as one:
        yield one


@pytest.mark.parametrize("name", SEEDS)
def test_damage_is_refused_or_read(tmp_path: Path, loader: Loader, name: str) -> None:
    counted = run(name, CASES, 1, tmp_path, loader, bombs=False)
    assert not counted.findings and counted.files == CASES and counted.refused


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SEEDS)
def test_damage_for_long(tmp_path: Path, loader: Loader, name: str) -> None:
    counted = run(name, LONG_CASES, 2, tmp_path, loader)
    assert not counted.findings and counted.loaded and counted.refused


@pytest.mark.parametrize("name", ["rec\udcff.mat", "a b.mat", "x" * 200 + ".mat"])
def test_names_of_files(tmp_path: Path, loader: Loader, name: str) -> None:
    """A recording whose name says little loads, or is refused in words that can be printed."""
    target = Target("liu2022", tmp_path, loader)
    (target.folder / "MPA_0.mat").rename(target.folder / f"MPA_{name}")
    said = loader.load("rhythm", target.folder)
    assert said["outcome"] == ("refused" if "\udcff" in name else "loaded"), said


class Answers:
    """A loader that finds in every folder what it is told to."""

    def __init__(self, said: dict[str, Any], folder: Path) -> None:
        self.said, self.folder, self.loads = said, folder, 0

    def load(self, task: str, folder: Path) -> dict[str, Any]:
        self.loads += 1
        if self.loads == 1:
            return {"outcome": "loaded", "windows": 9, "hash": ""}
        if self.said.get("writes"):
            (folder / "cache.npy").write_bytes(b"x")
        if self.said.get("runs"):
            (folder.parent / "executed").touch()
        return self.said


@pytest.mark.parametrize(
    ("said", "finding"),
    [
        ({"outcome": "loaded"}, ""),
        ({"outcome": "refused", "message": "x/MPA_0.mat: damaged"}, ""),
        ({"outcome": "refused", "message": "damaged"}, "names no file"),
        ({"outcome": "refused", "message": "x/MPA_1.mat: damaged"}, "names no file"),
        ({"outcome": "finding", "message": "KeyError"}, "KeyError"),
        ({"outcome": "loaded", "writes": True}, "the folder was changed"),
        ({"outcome": "loaded", "runs": True}, "a file's code was run"),
    ],
)
def test_what_counts_as_a_finding(tmp_path: Path, said: dict[str, Any], finding: str) -> None:
    target = Target("liu2022", tmp_path, Answers(said, tmp_path))
    from harness import Count

    counted = Count()
    target.try_out("case", {"MPA_0.mat": b""}, counted)
    assert len(counted.findings) == bool(finding) and finding in "".join(counted.findings)
    assert (target.folder / "MPA_0.mat").read_bytes() == target.whole["MPA_0.mat"]


CHILD = {
    "raises": ("raise KeyError('x')", "KeyError"),
    "runs": ("import os; os.system('true')", "os.system"),
    "opens": ("open('/etc/passwd')", "open /etc/passwd"),
    "writes": ("open(folder / 'x', 'w')", "open "),
    "dies": ("import os; os.abort()", "the process died: SIGABRT"),
    "warns": ("import warnings; warnings.warn('x')", "UserWarning"),
    "takes memory": ("x = bytearray(2**33)", "MemoryError"),
    "takes for ever": ("while True: pass", "the process died: SIGXCPU"),
}


@pytest.mark.parametrize("case", CHILD)
def test_the_child_finds(tmp_path: Path, case: str) -> None:
    """What a bad loader does is seen."""
    code, finding = CHILD[case]
    (tmp_path / "bad.py").write_text(BAD.format(code=code))
    with Loader(tmp_path, tmp_path / "bad.py") as loader:
        said = loader.load("rhythm", tmp_path / "folder")
        assert said["outcome"] == "finding" and finding in said["message"]
        # a fresh child after a crash
        assert loader.load("rhythm", tmp_path / "folder")["outcome"] == "finding"


BAD = """
import loader_child
loader_child.LOAD_CPU_S = 1
def read(task, folder):
    {code}
loader_child.read = read
loader_child.main()
"""
