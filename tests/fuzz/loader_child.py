"""Loads folders that may be hostile, one a line of standard input, and says in a line each what came of it.

Run under limits of memory (all of it) and of processor time (each load). Beyond an unexpected exception a finding is: code that is
run by a file, a file opened outside the folder or written, a warning, windows that no network could read.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.errors import HwnasError
from hwnas.tasks import TASKS
from hwnas.tasks.base import Windows
from hwnas.tasks.datasets import paired, rpeaks

LOAD_CPU_S = 30
MEMORY_BYTES = int(2.5 * 2**30)
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class", "socket.", "os.remove")
FORBIDDEN += ("os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.putenv", "ctypes.", "shutil.")
FORBIDDEN += ("webbrowser.open", "urllib.Request", "os.kill", "code.__new__", "builtins.input")
# where Python finds its own modules
OWN = tuple({os.path.realpath(p) for p in (sys.prefix, sys.base_prefix, *sys.path) if p} | {sys.prefix, sys.base_prefix})


class Watch:
    """An audit hook: refuses and notes what no loader has to do."""

    def __init__(self) -> None:
        self.folder = ""
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.folder:
            return
        if event.startswith(FORBIDDEN):
            self.seen.append(f"{event} {str(arguments)[:200]}")
            raise PermissionError(f"forbidden: {event}")
        if event == "open" and isinstance(arguments[0], str | bytes):
            path, flags = os.path.abspath(os.fsdecode(arguments[0])), arguments[2]
            inside = path.startswith(self.folder + os.sep)
            if not (inside or path.startswith(OWN)) or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
                self.seen.append(f"open {path} ({arguments[1]})")
                raise PermissionError("forbidden: open")


def faults(windows: Windows, kind: str, labels: int) -> str:
    """What a network could not read, or nothing."""
    count = len(windows.y)
    for name, x in (("x", windows.x), ("teacher_x", windows.teacher_x)):
        if x is not None and (x.dtype != np.float32 or x.ndim != 3 or len(x) != count or not np.isfinite(x).all() or np.abs(x).max() > 1):
            return f"{name}: {x.dtype} {x.shape}, {count} labels, not all finite and within [-1, 1]"
    y = windows.y
    if not count or y.ndim != 1 or len(windows.subject) != count or len(windows.recordings) != count:
        return f"{count} labels, {len(windows.subject)} subjects, {len(windows.recordings)} recordings"
    if kind == "regression":
        good = y.dtype == np.float32 and np.isfinite(y).all() and y.min() > 0
    else:
        good = y.dtype == np.int64 and y.min() >= 0 and y.max() < labels
    if not good:
        return f"labels {y.dtype} {y[:5]}"
    try:
        "".join(windows.subjects).encode()
    except UnicodeEncodeError:
        return f"a subject that cannot be written: {windows.subjects}"
    return ""


def read(task_name: str, folder: Path) -> tuple[list[Windows], str, int]:
    """Windows of a folder, the kind of their labels, and the number of classes."""
    if task_name == "paired":
        return [paired.windows(pair, rpeaks.detect(pair.ecg, pair.rate_hz)) for pair in paired.load(folder)], "regression", 0
    task = TASKS[task_name]
    return [task.load(folder, window_s=None, seed=0)], task.kind, len(task.labels)


def load(task_name: str, folder: Path, watch: Watch) -> dict[str, Any]:
    """What came of one folder."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + 1 + LOAD_CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
    watch.seen, watch.folder = [], str(folder)
    try:
        found, kind, labels = read(task_name, folder)
        said = {"outcome": "loaded", "windows": sum(map(len, found)), "hash": " ".join(windows.hash for windows in found)}
        if fault := "; ".join(filter(None, (faults(windows, kind, labels) for windows in found))):
            said = {"outcome": "finding", "message": fault}
    except HwnasError as error:
        said = {"outcome": "refused", "error": type(error).__name__, "message": str(error)}
    except BaseException as error:
        watch.folder = ""
        where = "".join(traceback.format_tb(error.__traceback__)[-3:])
        said = {"outcome": "finding", "message": f"{type(error).__name__}: {str(error)[:300]}\n{where}"}
    watch.folder = ""
    return said if not watch.seen else {"outcome": "finding", "message": "; ".join(watch.seen)}


def main() -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    watch = Watch()
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(watch)
    for line in sys.stdin:
        asked = json.loads(line)
        answers.write(json.dumps(load(asked["task"], Path(asked["folder"]), watch)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
