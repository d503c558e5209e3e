"""Folders of recordings, damaged one file at a time, and what becomes of them in a child process under limits."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hostile import Case, Later, hostile
from loader_child import LOAD_CPU_S, MEMORY_BYTES
from mutations import mutated
from seeds import SEEDS, Seed

HERE = Path(__file__).resolve().parent
# a time-out is of the child's own processor time; this is for one that waits
LOAD_WALL_S = 300
LOADS_PER_CHILD = 500
MARKER = "executed"
# of a folder's cases: made by hand for the format and its files, the others random
HOSTILE_SHARE = 0.25


class Loader:
    """A child that loads folders; a fresh one after a crash, a time-out or some hundred loads."""

    def __init__(self, scratch: Path, program: Path = HERE / "loader_child.py") -> None:
        self._scratch, self._program = scratch, program
        self._child: subprocess.Popen[str] | None = None
        self._loads = 0

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def load(self, task: str, folder: Path) -> dict[str, Any]:
        """What the child says, or how it died."""
        if self._child is None or self._loads >= LOADS_PER_CHILD:
            self._begin()
        child = self._child
        assert child is not None and child.stdin is not None and child.stdout is not None
        self._loads += 1
        child.stdin.write(json.dumps({"task": task, "folder": str(folder)}) + "\n")
        child.stdin.flush()
        ready, _, _ = select.select([child.stdout], [], [], LOAD_WALL_S)
        line = child.stdout.readline() if ready else ""
        if line:
            said: dict[str, Any] = json.loads(line)
            return said
        code = child.wait(timeout=60) if ready else None
        self._end()
        if code is None:
            return {"outcome": "finding", "message": f"no answer in {LOAD_WALL_S} s"}
        name = signal.Signals(-code).name if code < 0 else f"exit {code}"
        return {"outcome": "finding", "message": f"the process died: {name}"}

    def _begin(self) -> None:
        self._end()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parent.parent), str(HERE)])
        command = [sys.executable, "-B", str(self._program)]
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=self._scratch, env=environment
        )
        self._loads = 0

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    pipe.close()
        self._child = None


@dataclass
class Count:
    """Of one format: how many damaged folders were loaded or refused, and what should not have been."""

    files: int = 0
    loaded: int = 0
    refused: int = 0
    findings: list[str] = field(default_factory=list)


def _put(path: Path, content: bytes | Callable[[Path], None] | None) -> None:
    """The content, or what the function makes, or nothing, in place of what is there."""
    if path.is_symlink() or path.is_file() or (path.exists() and not path.is_dir()):
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        content(path)


def _here(folder: Path) -> dict[str, int]:
    """Everything below the folder and its size, of plain files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        found[str(path.relative_to(folder))] = path.lstat().st_size if stat.S_ISREG(mode) else -1
    return found


class Target:
    """A good folder of one format; `try_out` damages a file, loads, and mends it."""

    def __init__(self, name: str, scratch: Path, loader: Loader) -> None:
        self.name, self.seed, self._loader = name, SEEDS[name], loader
        self.folder = scratch / self.seed.folder
        self.folder.mkdir(parents=True)
        self.groups = self.seed.write(self.folder)
        self.whole = {name: (self.folder / name).read_bytes() for group in self.groups for name in group}
        self.marker = scratch / MARKER
        self.good = self._loader.load(self.seed.task, self.folder)
        assert self.good["outcome"] == "loaded", f"{self.name}: its own good folder: {self.good}"

    def check_that_others_stay_usable(self) -> None:
        """Without the files of one recording the folder loads: who is told which file is bad can go on."""
        for group in () if self.seed.required else self.groups:
            for name in group:
                _put(self.folder / name, None)
            said = self._loader.load(self.seed.task, self.folder)
            self._mend(group)
            assert said["outcome"] == "loaded" and said["windows"] < self.good["windows"], f"{self.name} without {group}: {said}"

    def cases(self, count: int, seed: int, bombs: bool = True) -> Iterator[tuple[str, dict[str, Any]]]:
        """What is done, and the contents that take the place of files; the same for the same seed."""
        everything = [name for group in self.groups for name in group]
        made: dict[str, list[Case]] = {}
        for number in range(count):
            rng = np.random.default_rng([seed, number])
            name = everything[int(rng.integers(len(everything)))]
            if rng.random() < HOSTILE_SHARE:
                if name not in made:
                    made[name] = [case for case in hostile(name, self.whole[name]) if bombs or not isinstance(case[1], Later)]
                said, content = made[name][int(rng.integers(len(made[name])))]
            else:
                others = [self.whole[n] for n in everything if n != name]
                said, content = mutated(name, self.whole[name], others, rng)
            yield f"{self.name} [{seed}, {number}] {name}: {said}", {name: content}

    def try_out(self, said: str, change: dict[str, Any], count: Count) -> None:
        """Count what becomes of the folder with this change."""
        for name, content in change.items():
            _put(self.folder / name, content)
        before = _here(self.folder)
        found = self._loader.load(self.seed.task, self.folder)
        after = _here(self.folder)
        group = next(g for g in self.groups if set(g) & set(change))
        self._mend(tuple(change))
        problem = ""
        if found["outcome"] == "finding":
            problem = found["message"]
        elif found["outcome"] == "refused" and not self._names(found["message"], group):
            problem = f"the message names no file: {found['message'][:300]}"
        if self.marker.exists():
            self.marker.unlink()
            problem += " a file's code was run"
        if before != after:
            problem += f" the folder was changed: {sorted(set(before.items()) ^ set(after.items()))[:5]}"
        count.files += 1
        if problem:
            count.findings.append(f"{said}: {problem}")
        else:
            setattr(count, found["outcome"], getattr(count, found["outcome"]) + 1)

    def check_unharmed(self) -> None:
        """The mended folder loads as it did at first."""
        said = self._loader.load(self.seed.task, self.folder)
        assert said == self.good, f"{self.name}: the good folder after bad ones: {said}"

    def _names(self, message: str, group: tuple[str, ...]) -> bool:
        # of a file that lists the others, the folder or any file of it will do
        described = [n for g in self.groups for n in g] if set(group) & set(self.seed.required) else group
        titles = [Path(n).name for n in described] + ([self.folder.name] if set(group) & set(self.seed.required) else [])
        return any(title in message for title in titles)

    def _mend(self, names: tuple[str, ...]) -> None:
        for name in names:
            _put(self.folder / name, self.whole[name])


def run(name: str, count: int, seed: int, scratch: Path, loader: Loader, bombs: bool = True) -> Count:
    """`count` damaged files of the format `name`; without `bombs`, only such as are quick to write and to read."""
    target = Target(name, scratch / name, loader)
    target.check_that_others_stay_usable()
    counted = Count()
    for said, change in target.cases(count, seed, bombs):
        target.try_out(said, change, counted)
    target.check_unharmed()
    return counted


__all__ = ["LOAD_CPU_S", "MEMORY_BYTES", "SEEDS", "Count", "Loader", "Seed", "Target", "run"]
