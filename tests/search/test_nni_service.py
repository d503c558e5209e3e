"""A real NNI experiment, and the pieces that run inside its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from hwnas.errors import BudgetError, RunError, UsageError
from hwnas.search import nni_service, toy
from hwnas.search.nni_tuner import Service, ServiceTuner, load_function
from hwnas.search.trial_log import parse
from hwnas.search.trials import Event, read_trials, trial_seed
from hwnas.search.tuner import ParetoTuner

SERVICE = Service(
    "hwnas.search.toy:make_judge", "hwnas.search.toy:make_active", "hwnas.search.toy:make_scorer", "pareto", 3, {"space": "toy", "seed": 3}
)


def children(of: int | None = None) -> list[psutil.Process]:
    return [p for p in psutil.Process(of).children(recursive=True) if _status(p) != psutil.STATUS_ZOMBIE]


def _status(process: psutil.Process) -> str:
    """Of a process that may have ended by now."""
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return str(psutil.STATUS_ZOMBIE)


def listening(process: psutil.Process) -> set[str]:
    """Addresses that it listens on; none where it has ended."""
    try:
        return {c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    except psutil.NoSuchProcess:
        return set()


def test_an_experiment_of_four_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    run, before = tmp_path / "a run", set(children())
    addresses: set[str] = set()
    events: list[Event] = []

    def watch(event: Event) -> None:
        events.append(event)
        if event.kind == "scored":
            started = [p for p in children() if p not in before]
            addresses.update(*(listening(p) for p in started))

    trials = nni_service.search(run, SERVICE, toy.joint_space(), trials=4, jobs=2, on_event=watch)
    assert addresses == {"127.0.0.1"}, "NNI's manager listens, and on loopback only"
    assert not set(children()) - before, "nothing lives on"
    assert not list(home.iterdir()), "the home directory is untouched"
    assert os.environ["HOME"] == str(home)
    assert "NODE_OPTIONS" not in os.environ
    assert len([t for t in trials if t.metrics]) == 4
    assert len({t.hash for t in trials}) == len(trials)
    assert {t.family for t in trials} == set(toy.FAMILIES)
    for trial in trials:
        if trial.metrics:  # as the in-process driver scores it
            assert trial.metrics == toy.ToyScorer()(trial.parameters, trial_seed(3, trial.hash))
    assert events[-1].tally.total.scored == 4
    assert capfd.readouterr().out == ""

    # Nothing is left to do: no manager is started.
    monkeypatch.setattr(nni_service, "Experiment", None)
    again: list[Event] = []
    assert nni_service.search(run, SERVICE, toy.joint_space(), trials=4, jobs=2, on_event=again.append) == trials
    assert all(e.replayed for e in again)


def tuner(run: Path) -> ServiceTuner:
    made = ServiceTuner(str(run))
    made.update_search_space(toy.space())
    return made


def test_the_tuner_of_the_dispatcher_writes_the_log_and_continues_it(tmp_path: Path) -> None:
    SERVICE.write(tmp_path)
    first = tuner(tmp_path)
    proposed = [first.generate_parameters(i) for i in range(4)]
    assert all(p["_seed"] == trial_seed(3, toy.ToyJudge()(p).hash) for p in proposed)
    first.trial_end(0, True)
    first.receive_trial_result(0, proposed[0], {"default": 0.2, "metrics": {"error": 0.2}, "seconds": 1.0})
    first.receive_trial_result(1, proposed[1], {"default": 1.0, "failed": "ValueError: no", "seconds": 1.0})
    first.trial_end(2, False)
    first.receive_trial_result(2, proposed[2], {"default": 0.2, "metrics": {"error": 0.2}, "seconds": 1.0})
    first._log.close()
    trials = read_trials(parse(tmp_path / "trials.jsonl")[0][1:])
    assert [bool(t.metrics) for t in trials] == [True, False, False, False]
    assert [t.reason for t in trials] == ["", "ValueError: no", "its process ended without a result", ""]
    assert [t.failed for t in trials] == [False, True, True, False]
    assert [t.abandoned for t in trials] == [False, False, False, True]
    second = tuner(tmp_path)
    more = [second.generate_parameters(i) for i in range(30)]
    assert more[0] == proposed[3], "what was left without a result comes first"
    assert not {toy.ToyJudge()(p).hash for p in more[1:]} & {toy.ToyJudge()(p).hash for p in proposed}
    second._log.close()
    hashes = [t.hash for t in read_trials(parse(tmp_path / "trials.jsonl")[0][1:])]
    assert len(set(hashes)) == len(hashes) == 33


@pytest.mark.parametrize("name", ["pareto", "random", "tpe"])
def test_unfinished_trials_of_an_experiment_get_their_results_in_the_next(tmp_path: Path, name: str) -> None:
    """One is scored, one fails, one loses its process, one is interrupted again; the log tells each under its first id."""
    replace(SERVICE, tuner=name).write(tmp_path)
    first = tuner(tmp_path)
    proposed = [first.generate_parameters(i) for i in range(4)]
    first._log.close()
    second = tuner(tmp_path)
    assert [second.generate_parameters(i) for i in range(5)][:4] == proposed
    second.receive_trial_result(1, proposed[1], {"default": 0.2, "metrics": {"error": 0.2}, "seconds": 1.0})
    second.trial_end(1, True)
    second.receive_trial_result(0, proposed[0], {"default": 1.0, "failed": "ValueError: no", "seconds": 1.0})
    second.trial_end(2, False)
    second.receive_trial_result(4, {}, {"default": 0.3, "metrics": {"error": 0.3}, "seconds": 1.0})
    second._log.close()
    if isinstance(second.inner, ParetoTuner):
        assert sorted(o.error for o in second.inner._scored.values()) == [0.2, 0.3]
    trials = read_trials(parse(tmp_path / "trials.jsonl")[0][1:])
    assert [t.parameters | {"_seed": trial_seed(3, t.hash)} for t in trials[:4]] == proposed
    assert [t.metrics for t in trials] == [None, {"error": 0.2}, None, None, {"error": 0.3}]
    assert [t.failed for t in trials] == [True, False, True, False, False]
    third = tuner(tmp_path)
    again = [third.generate_parameters(i) for i in range(12)]
    assert again[0] == proposed[3]
    assert not {toy.ToyJudge()(p).hash for p in again[1:]} & {t.hash for t in trials}
    third._log.close()


def test_errors_of_the_tuner_reach_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SERVICE.write(tmp_path)
    monkeypatch.setattr(toy, "make_judge", lambda run: toy.ToyJudge(allowance=1e-4))
    with pytest.raises(BudgetError):
        tuner(tmp_path).generate_parameters(0)
    with pytest.raises(BudgetError, match="nothing was trained"):
        nni_service._raise_error(tmp_path / "nni")
    (tmp_path / "nni" / "error.json").write_text(json.dumps({"type": "Strange", "message": "words"}))
    with pytest.raises(RunError, match="words"):
        nni_service._raise_error(tmp_path / "nni")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os:system", "only functions of hwnas"),
        ("hwnas_evil:x", "only functions of hwnas"),
        ("hwnas.search.toy:absent", "does not exist"),
        ("hwnas.absent:x", "does not exist"),
    ],
)
def test_a_run_directory_names_no_foreign_code(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_function(name)
    with pytest.raises(UsageError, match=message):
        replace(SERVICE, active=name).write(tmp_path)


def test_the_trial_program_reports_scores_and_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hwnas.search import nni_tuner

    SERVICE.write(tmp_path)
    parameters = {name: entry["_value"][0] for name, entry in toy.space().items()}
    reports: list[dict[str, Any]] = []
    monkeypatch.setattr(nni_tuner.nni, "report_final_result", reports.append)
    for given in (parameters, {"depth": 1}):
        monkeypatch.setattr(nni_tuner.nni, "get_next_parameter", lambda given=given: given | {"_seed": 9})
        nni_tuner.main(["--run", str(tmp_path)])
    expected = toy.ToyScorer()(parameters, 9)
    assert reports[0]["metrics"] == expected
    assert reports[0]["default"] == expected["error"]
    assert reports[1]["failed"] == "KeyError: 'width1'"
    assert "metrics" not in reports[1]


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_nni_service import SERVICE
from hwnas.search import nni_service, toy
nni_service.search(Path(sys.argv[1]), SERVICE, toy.space(), trials=200, jobs=2, on_event=lambda event: None)
"""


@pytest.mark.nni_long
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_experiment_leaves_no_process(tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "trials.jsonl").exists() or b'"scored"' not in (tmp_path / "trials.jsonl").read_bytes():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        started = children(process.pid)
        assert len(started) >= 2, "the manager and the dispatcher at least"
        process.send_signal(how)
        process.wait(60)
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive
    parse(tmp_path / "trials.jsonl")
