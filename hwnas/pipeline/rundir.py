"""The run directory: names of its files, and the checks before anything is written into it. Reads and writes files."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hwnas.errors import RunError, UsageError
from hwnas.pipeline.config import RunConfig, read_run_yaml, write_run_yaml
from hwnas.pipeline.identity import fingerprint
from hwnas.resources import PACKAGE, write_text
from hwnas.search.trial_log import parse as parse_log

RECORDED = ("torch", "nni", "numpy", "onnxruntime", "tflite-runtime", "ai-edge-litert", "ziglang", "unicorn")


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Paths of one run."""

    root: Path

    @property
    def run_yaml(self) -> Path:
        return self.root / "run.yaml"

    @property
    def teacher(self) -> Path:
        return self.root / "teacher"

    @property
    def trials(self) -> Path:
        return self.root / "trials.jsonl"

    @property
    def front(self) -> Path:
        return self.root / "front.json"

    @property
    def table(self) -> Path:
        return self.root / "lookup_table.csv"

    def student(self, identity: str) -> Path:
        return self.root / "students" / identity

    def write_json(self, path: Path, content: dict[str, Any]) -> None:
        """Write `content` as readable JSON; NaN is not JSON and is refused."""
        write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def default_root(config: RunConfig, *, resume: bool) -> Path:
    """Where a run goes that names no folder: `runs/TASK-PROFILE`, with a number behind it from the second run on.

    With `resume` it is the last of those that exist.
    """
    base, number = Path("runs") / f"{config.task}-{config.profile}", 2
    last = free = base
    while free.exists():
        last, free, number = free, base.with_name(f"{base.name}-{number}"), number + 1
    return last if resume else free


def check_free(root: Path, *, resume: bool) -> None:
    """The checks of `claim` that need no data, so that a wrong folder is refused before recordings are read.

    Raises:
        UsageError: the folder holds a run and `resume` is not given, or holds something else.
    """
    if (root / "run.yaml").exists():
        if not resume:
            raise UsageError(f"{root} already holds a run; continue it with --resume, or choose another folder with --out")
    elif root.exists() and (not root.is_dir() or any(not _is_temporary(path) for path in root.iterdir())):
        raise UsageError(f"{root} exists and is no run of hwnas; choose another folder with --out")


def claim(root: Path, config: RunConfig, data_hash: str, *, resume: bool) -> RunDirectory:
    """Make `root` the directory of this run, or take it up again.

    Raises:
        UsageError: it holds a run already and `resume` is not given, or the run it holds was made with another configuration or data.
        RunError: it cannot be created or written.
    """
    check_free(root, resume=resume)
    run, identity = RunDirectory(root), fingerprint(config, data_hash)
    if run.run_yaml.exists():
        _same_run(run, config, identity)
        for path in root.rglob(".*"):
            if _is_temporary(path):
                path.unlink(missing_ok=True)
    write_run_yaml(run.run_yaml, config, identity, versions())
    return run


def _is_temporary(path: Path) -> bool:
    """A file that a write which was killed left behind (`hwnas.resources` names them so)."""
    return path.is_file() and path.name.startswith(".") and path.name.count(".") >= 3


def _same_run(run: RunDirectory, config: RunConfig, now: dict[str, str]) -> None:
    _, before = read_run_yaml(run.run_yaml)
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        details = ", ".join(f"{name} was {before.get(name, '(absent)')}, now {now[name]}" for name in changed)
        raise UsageError(f"{run.root} cannot be resumed with another configuration: {details}; use the old values or a new --out")
    scored = sum(record["kind"] == "scored" for record in parse_log(run.trials)[0]) if run.trials.exists() else 0
    if config.trials < scored:
        raise UsageError(f"{run.root} holds {scored} scored candidates, asked for {config.trials}; give at least --trials {scored}")


def versions() -> dict[str, str]:
    """Versions of what figures depend on, and the commit of the checkout if it is one."""
    found = {"python": platform.python_version(), "platform": f"{sys.platform}-{platform.machine()}"}
    for name in RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    found["git"] = _commit()
    return found


def _commit() -> str:
    if not (PACKAGE.parent / ".git").exists():
        return "no checkout"
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE.parent), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; raises RunError for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read as JSON ({error}); the run is incomplete or damaged") from error
    if not isinstance(content, dict):
        raise RunError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content
