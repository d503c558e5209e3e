"""Persistent worker processes that score candidates. Starts and ends processes; loads neither torch nor nni itself.

A worker holds its scorer (data, cached teacher outputs) for its whole life, computes on one thread, and ends when its parent is
gone: a watcher thread sees the end of a pipe that only the parent holds open, and on Linux the kernel kills it as well.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any, Protocol

from hwnas.errors import RunError

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
PR_SET_PDEATHSIG = 1
LONGEST_REASON = 500


class Scorer(Protocol):
    """Trains and scores one candidate. Travels to the workers once, so it must be picklable and small before `setup`."""

    def setup(self) -> None:
        """Load what every candidate needs; called once in each worker."""

    def __call__(self, parameters: Mapping[str, Any], seed: int) -> Mapping[str, float]:
        """Finite metrics by name, `error` among them; any exception makes the trial a failed one."""


@dataclass(frozen=True, slots=True)
class Task:
    """One candidate to score."""

    id: int
    parameters: dict[str, Any]
    seed: int


@dataclass(frozen=True, slots=True)
class Score:
    """What became of a task: metrics, or the reason why there are none. `seconds` of wall clock in the worker."""

    id: int
    metrics: dict[str, float] | None
    reason: str
    seconds: float


@dataclass
class PoolStats:
    """Seconds that workers scored, and seconds that they stood idle while the last tasks of a batch were scored elsewhere."""

    busy_s: float = 0.0
    waiting_s: float = 0.0


def checked(metrics: Mapping[str, float]) -> dict[str, float]:
    """`metrics` as plain floats; raises ValueError for a value that is not finite or where `error` is missing."""
    plain = {name: float(value) for name, value in metrics.items()}
    if "error" not in plain:
        raise ValueError(f"the scorer returned {sorted(plain)}, without 'error'")
    wrong = {name: value for name, value in plain.items() if not math.isfinite(value)}
    if wrong:
        raise ValueError(f"the scorer returned values that are not finite: {wrong}")
    return plain


def reason_of(error: Exception) -> str:
    """One line that says what an exception was."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_REASON]


class _Worker:
    """Parent's side of one process."""

    def __init__(self, scorer: Scorer) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        lifeline, self._life = context.Pipe(duplex=False)
        self.process = context.Process(target=_serve, args=(scorer, theirs, lifeline, os.getpid()), daemon=True)
        self.task: Task | None = None
        self.idle_since = 0.0
        with _child_environment():
            self.process.start()
        # Copies in this process would hide the end of the worker.
        theirs.close()
        lifeline.close()

    def give(self, task: Task) -> None:
        self.task = task
        with contextlib.suppress(OSError):  # a worker that has just died is noticed when its answer is awaited
            self.connection.send((task.parameters, task.seed))

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()
        self._life.close()
        self.process.close()

    def death(self) -> str:
        """Wait for a dying process and say how it ended."""
        self.process.join()
        code = self.process.exitcode
        return f"its worker was killed by signal {-code}" if code and code < 0 else f"its worker ended with exit code {code}"


class WorkerPool:
    """`jobs` processes that score tasks; use it in a `with` statement, from one thread."""

    def __init__(self, scorer: Scorer, jobs: int) -> None:
        self.stats = PoolStats()
        self._scorer, self._jobs = scorer, jobs
        self._workers: list[_Worker] = []

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def score(self, tasks: Iterable[Task]) -> Iterator[Score]:
        """Score all `tasks`, yielding as they finish. A worker that dies costs its task and is replaced.

        Raises:
            RunError: the scorer's `setup` raised; its message is passed on.
        """
        queue = deque(tasks)
        self._hand_out(queue)
        while busy := {w.connection: w for w in self._workers if w.task}:
            for connection in wait(list(busy)):
                score = self._collect(busy[connection])  # type: ignore[index]
                self._hand_out(queue)
                yield score
        now = time.monotonic()
        self.stats.waiting_s += sum(now - worker.idle_since for worker in self._workers)

    def _hand_out(self, queue: deque[Task]) -> None:
        """Give tasks to idle workers, starting workers up to the allowed number; the dead are replaced here."""
        idle = deque(w for w in self._workers if w.task is None)
        while queue and (idle or len(self._workers) < self._jobs):
            if not idle:
                with _interrupt_later():
                    self._workers.append(_Worker(self._scorer))
                idle.append(self._workers[-1])
            idle.popleft().give(queue.popleft())

    def _collect(self, worker: _Worker) -> Score:
        """The answer of a worker whose pipe became readable, or what its death means."""
        task = worker.task
        if task is None:
            raise RuntimeError("a worker answered without a task")
        try:
            answer = worker.connection.recv()
        except (EOFError, OSError):
            reason = worker.death()
            worker.kill()
            self._workers.remove(worker)
            return Score(task.id, None, reason, 0.0)
        if isinstance(answer, str):
            raise RunError(f"a worker could not load what it needs: {answer}")
        worker.task, worker.idle_since = None, time.monotonic()
        score = Score(task.id, *answer)
        self.stats.busy_s += score.seconds
        return score


@contextlib.contextmanager
def _interrupt_later() -> Iterator[None]:
    """Ctrl-C takes effect after the block: a process that is started by halves would complain of it on the terminal.

    Blocking the signal is not enough, any thread may receive it for the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: caught.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught and callable(before):
        before(*caught[0])


@contextlib.contextmanager
def _child_environment() -> Iterator[None]:
    """What a process started inside inherits: one thread per library, and no Ctrl-C (ending a search is the parent's affair)."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(scorer: Scorer, connection: Connection, lifeline: Connection, parent: int) -> None:
    """Body of a worker process."""
    _end_with_parent(lifeline, parent)
    os.dup2(2, 1)  # the parent's standard output may be JSON for a machine
    try:
        scorer.setup()
    except Exception as error:
        connection.send(reason_of(error))
        return
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    while True:
        try:
            parameters, seed = connection.recv()
        except EOFError:
            return
        start = time.perf_counter()
        try:
            metrics, reason = checked(scorer(parameters, seed)), ""
        except Exception as error:
            metrics, reason = None, reason_of(error)
        connection.send((metrics, reason, time.perf_counter() - start))


def _end_with_parent(lifeline: Connection, parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            lifeline.recv()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
