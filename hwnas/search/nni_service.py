"""`--service nni`: the search as a real NNI local experiment. Starts Node.js (NNI's manager) and talks to it over loopback.

NNI 3.0 lets its manager listen on every interface and has no option for the host, so a file that Node.js is made to load first
binds every port to 127.0.0.1. NNI also writes into the home directory whatever folder is set, so the experiment has a home of its
own in the run directory. The manager's page is at `http://127.0.0.1:PORT` while it runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nni
import psutil
from nni.experiment import Experiment
from nni.experiment.config import CustomAlgorithmConfig, ExperimentConfig, LocalConfig

from hwnas import errors
from hwnas.errors import RunError
from hwnas.resources import PACKAGE, write_text
from hwnas.search.nni_tuner import Service, ServiceTuner
from hwnas.search.trial_log import Record, TrialLog, parse
from hwnas.search.trials import PROPOSALS, RESULTS, Announcer, OnEvent, Trial, read_trials
from hwnas.search.workers import THREAD_VARIABLES

POLL_S = 0.5
STOP_S = 10.0
SILENCE_S = 30.0
LOOPBACK = "127.0.0.1"
# Also ends the manager when the process that started it is gone, however that ended.
PRELOAD = """\
const net = require('net');
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
  const first = args[0];
  if (typeof first === 'number' || (typeof first === 'string' && /^[0-9]+$/.test(first))) {
    const rest = args.slice(1).filter((a) => a !== undefined && a !== null && typeof a !== 'string');
    return listen.call(this, Number(first), '127.0.0.1', ...rest);
  }
  if (first && typeof first === 'object' && first.port !== undefined) {
    return listen.call(this, { ...first, host: '127.0.0.1' }, ...args.slice(1));
  }
  return listen.apply(this, args);
};
const parent = Number(process.env.HWNAS_SERVICE_PID);
if (process.ppid === parent) {
  setInterval(() => { if (process.ppid !== parent) process.kill(process.pid, 'SIGTERM'); }, 1000).unref();
}
"""


def search(
    run: Path,
    service: Service,
    space: Mapping[str, Any],
    *,
    trials: int,
    jobs: int,
    on_event: OnEvent,
) -> list[Trial]:
    """Score `trials` candidates, `jobs` at a time, in an NNI experiment; continues the log of `run` if it holds one.

    Results are the same files as the in-process driver's, but not the same candidates: concurrent trials end in no fixed order.

    Raises:
        BudgetError: no candidate is within budget.
        RunError: the experiment could not start or ended in an error, or more trials failed than were asked for.
    """
    service.write(run)
    log_path = run / "trials.jsonl"
    TrialLog.resume(log_path, service.config).close()
    folder = run / "nni"
    (folder / "error.json").unlink(missing_ok=True)
    watcher = _Watcher(log_path, on_event)
    missing = trials - watcher.look().scored
    if missing > 0:
        nni.silence_stdout()
        for name in ("home", "experiments", "code"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        write_text(folder / "preload.js", PRELOAD)
        with _environment(folder):
            _run(Experiment(_config(run, space, missing, jobs)), folder, watcher, trials, missing)
    return read_trials(parse(log_path)[0][1:])


def _config(run: Path, space: Mapping[str, Any], trials: int, jobs: int) -> ExperimentConfig:
    folder = run.resolve() / "nni"
    command = [sys.executable, "-m", "hwnas.search.nni_tuner", "--run", str(run.resolve())]
    return ExperimentConfig(
        experiment_name="hwnas",
        search_space=dict(space),
        trial_command=shlex.join(command),
        trial_code_directory=folder / "code",
        trial_concurrency=jobs,
        max_trial_number=trials,
        nni_manager_ip=LOOPBACK,
        experiment_working_directory=folder / "experiments",
        tuner=CustomAlgorithmConfig(
            class_name=f"{ServiceTuner.__module__}.{ServiceTuner.__name__}",
            code_directory=PACKAGE.parent,
            class_args={"run_dir": str(run.resolve())},
        ),
        training_service=LocalConfig(use_active_gpu=False),
    )


class _Watcher:
    """Reads the growing log and announces what is new in it."""

    def __init__(self, path: Path, on_event: OnEvent) -> None:
        self._path, self._announce, self._seen = path, Announcer(on_event), 0
        self._trials: dict[int, Trial] = {}
        self._first = True
        self.scored = self.failed = 0

    def look(self) -> _Watcher:
        """Take in all whole lines of the log."""
        records: list[Record] = parse(self._path)[0]
        trials = {t.id: t for t in read_trials(records[1:])}
        for record in records[max(self._seen, 1) :]:
            if record["kind"] in PROPOSALS:
                self._announce(record["kind"], record["family"], replayed=self._first)
            elif record["kind"] in RESULTS:
                trial = trials[record["id"]]
                self._announce(record["kind"], trial.family, trial, self._first)
                self.scored += record["kind"] == "scored"
                self.failed += record["kind"] == "failed"
        self._seen, self._first = len(records), False
        return self


def _run(experiment: Experiment, folder: Path, watcher: _Watcher, trials: int, asked: int) -> None:
    """Start the experiment, wait until all results are in the log, and stop it whatever happens."""
    try:
        try:
            experiment.start(_free_port())
        except Exception as error:
            raise RunError(f"NNI's manager did not start: {error}; see {folder / 'experiments'}") from error
        write_text(folder / "manager.json", json.dumps({"port": experiment.port, "id": experiment.id}))
        _wait(experiment, folder, watcher, trials, asked)
    except OSError as error:
        raise RunError(f"NNI's manager does not answer: {error}; see {folder / 'experiments'}") from error
    finally:
        _stop(experiment, psutil.Process().children(recursive=True))
        watcher.look()


def _wait(experiment: Experiment, folder: Path, watcher: _Watcher, trials: int, asked: int) -> None:
    """Return when `trials` results are in the log, or the tuner has no more candidates."""
    failed_before, allowed, idle_since = watcher.failed, asked, time.monotonic()
    while watcher.look().scored < trials:
        status = experiment.get_status()
        _raise_error(folder)
        failed = watcher.failed - failed_before
        logs = folder / "experiments" / experiment.id / "log"
        if status == "ERROR":
            raise RunError(f"NNI's experiment ended in an error; see the logs in {logs}")
        if failed > trials:
            raise RunError(f"{failed} trials failed, more than the {trials} asked for; trials.jsonl lists the reasons")
        if status != "DONE":
            idle_since = time.monotonic()
        elif len(experiment.list_trial_jobs()) < allowed:
            return
        elif asked + failed > allowed:
            allowed = asked + failed
            experiment.update_max_trial_number(allowed)
        if time.monotonic() - idle_since > SILENCE_S:
            raise RunError(f"NNI's trials ended, but {trials - watcher.scored} results never came; see the logs in {logs}")
        time.sleep(POLL_S)


def _stop(experiment: Experiment, processes: list[psutil.Process]) -> None:
    """Stop through NNI, then make sure, by process id, that nothing it started lives on."""
    with contextlib.suppress(Exception):
        experiment.stop()
    _, alive = psutil.wait_procs([p for p in processes if _is_ours(p)], timeout=STOP_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=STOP_S)


def _is_ours(process: psutil.Process) -> bool:
    """Processes of the experiment know its home; others that happen to be children of this process do not."""
    with contextlib.suppress(psutil.Error, OSError):
        return bool(process.environ().get("HWNAS_SERVICE_PID") == str(os.getpid()))
    return False


def _raise_error(folder: Path) -> None:
    """Raise what stopped the tuner, if something did."""
    path = folder / "error.json"
    if path.exists():
        found = json.loads(path.read_text())
        raise getattr(errors, found["type"], RunError)(found["message"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _environment(folder: Path) -> Iterator[None]:
    """The environment of everything that the experiment starts; this process has its own back afterwards."""
    folder = folder.resolve()
    preload = str(folder / "preload.js").replace("\\", "\\\\").replace('"', '\\"')
    path = os.pathsep.join(p for p in (str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")) if p)
    changes = {
        "HOME": str(folder / "home"),
        "NODE_OPTIONS": f'--require "{preload}"',
        "HWNAS_SERVICE_PID": str(os.getpid()),
        "PYTHONPATH": path,
        "NO_PROXY": f"localhost,{LOOPBACK}",
        "no_proxy": f"localhost,{LOOPBACK}",
        **dict.fromkeys(THREAD_VARIABLES, "1"),
    }
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
