"""Damaged and hostile files of every format of recordings: a valid result or a refusal that names the file, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import SEEDS, Count, Loader, Target, run

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

    def __init__(self, said: dict[str, Any]) -> None:
        self.said, self.loads = said, 0

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
    target = Target("liu2022", tmp_path, Answers(said))
    counted = Count()
    target.try_out("case", {"MPA_0.mat": b""}, counted)
    assert len(counted.findings) == bool(finding) and finding in "".join(counted.findings)
    assert (target.folder / "MPA_0.mat").read_bytes() == target.whole["MPA_0.mat"]


CHILD = {
    "raises": "KeyError",
    "runs": "os.system",
    "opens": "open /etc/passwd",
    "writes": "open ",
    "warns": "UserWarning",
    "takes memory": "MemoryError",
    "dies": "the process died: SIGABRT",
    "takes for ever": "the process died: SIGXCPU",
}
BAD = """
import os, warnings
import loader_child

def read(task, folder):
    match task:
        case "raises": raise KeyError("x")
        case "runs": os.system("true")
        case "opens": open("/etc/passwd")
        case "writes": open(folder / "x", "w")
        case "warns": warnings.warn("x")
        case "takes memory": bytearray(2**33)
        case "dies": os.abort()
        case "takes for ever":
            while True:
                pass

loader_child.LOAD_CPU_S = 0
loader_child.read = read
loader_child.main()
"""


def test_the_child_finds_what_a_bad_loader_does(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(BAD)
    with Loader(tmp_path, tmp_path / "bad.py") as loader:
        for case, finding in CHILD.items():
            said = loader.load(case, tmp_path / "folder")
            assert said["outcome"] == "finding" and finding in said["message"], said
