"""The in-process driver: number of jobs, faults of workers, kills of the whole process, replay."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from faulty import Faulty, Threads
from toy_search import CONFIG, run

from hwnas.errors import BudgetError, RunError
from hwnas.search import driver, toy, trial_log
from hwnas.search.driver import Outcome, search
from hwnas.search.gate import GatedTuner
from hwnas.search.trial_log import TrialLog, comparable, parse
from hwnas.search.trials import Event, Trial, count, read_trials, trial_seed
from hwnas.search.tuners import make
from hwnas.search.workers import PoolStats, Score, Task, reason_of


def timeless(outcome: Outcome) -> list[Trial]:
    return [replace(t, seconds=0.0) for t in outcome.trials]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    """One uninterrupted search with one job."""
    path = tmp_path_factory.mktemp("reference") / "trials.jsonl"
    return run(path), path


def test_a_search_scores_what_was_asked(reference: tuple[Outcome, Path]) -> None:
    outcome, path = reference
    assert len(outcome.scored) == len(outcome.trials) == 20
    assert len({t.hash for t in outcome.trials}) == 20
    for trial in outcome.trials:
        assert trial.metrics == toy.ToyScorer()(trial.parameters, trial_seed(7, trial.hash))
        assert trial.objectives.ram_bytes == trial.cost["ram_bytes"]
    records = parse(path)[0][1:]
    assert [replace(t, seconds=0.0) for t in read_trials(records)] == timeless(outcome)
    tally = count(records)
    assert (tally.total.proposed, tally.total.scored, tally.total.failed) == (20, 20, 0)
    assert tally.total.rejected > 0
    assert tally.families == {toy.PLAIN: tally.total}


@pytest.mark.parametrize("jobs", [2, 3])
def test_the_number_of_jobs_changes_nothing(reference: tuple[Outcome, Path], tmp_path: Path, jobs: int) -> None:
    outcome = run(tmp_path / "t.jsonl", toy.ToyScorer(0.01), jobs=jobs)
    assert timeless(outcome) == timeless(reference[0])

    def sortable(path: Path) -> list[str]:
        return sorted(json.dumps(comparable(r), sort_keys=True) for r in parse(path)[0])

    assert sortable(tmp_path / "t.jsonl") == sortable(reference[1])


def test_more_trials_continue_a_finished_search(reference: tuple[Outcome, Path], tmp_path: Path) -> None:
    """20 trials and then 8 more are the same as 28 at once, although 20 is not a whole number of generations."""
    path = tmp_path / "t.jsonl"
    run(path)
    events: list[Event] = []
    more = run(path, trials=28, resume=True, watch=events.append)
    assert timeless(more) == timeless(run(tmp_path / "u.jsonl", trials=28))
    assert [e.replayed for e in events if e.kind == "scored"] == [True] * 20 + [False] * 8
    assert (events[-1].tally.total.scored, events[-1].tally.total.failed) == (28, 0)


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_a_joint_search_resumes_and_counts_every_family(tmp_path: Path, cut: float) -> None:
    path, space = tmp_path / "t.jsonl", toy.joint_space()
    whole = run(path, space=space, trials=18)
    tally = count(parse(path)[0][1:])
    assert {f: c.scored for f, c in tally.families.items()} == Counter(t.family for t in whole.scored)
    assert set(tally.families) == set(toy.FAMILIES) and min(c.scored for c in tally.families.values()) >= 2
    for kind in ("proposed", "rejected", "duplicate", "scored", "failed"):
        assert getattr(tally.total, kind) == sum(getattr(c, kind) for c in tally.families.values())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * cut)])
    events: list[Event] = []
    assert timeless(run(path, space=space, trials=18, resume=True, watch=events.append)) == timeless(whole)
    assert events[-1].tally == tally


class InlinePool:
    """A pool without processes."""

    def __init__(self, scorer: Any, jobs: int) -> None:
        self.stats, self._scorer = PoolStats(), scorer

    def __enter__(self) -> InlinePool:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def score(self, tasks: Iterable[Task]) -> Iterator[Score]:
        for task in tasks:
            try:
                yield Score(task.id, self._scorer(task.parameters, task.seed), "", 0.0)
            except ValueError as error:
                yield Score(task.id, None, reason_of(error), 0.0)


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are not what the test is about."""
    monkeypatch.setattr(driver, "WorkerPool", InlinePool)


@pytest.mark.usefixtures("inline")
@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("first", [9, 20, 28])
def test_more_trials_continue_a_search_with_failures(tmp_path: Path, depth: int, first: int) -> None:
    """Failures end a search in the middle of a generation; more trials go on there, as if they had been asked for at once."""
    path, scorer = tmp_path / "t.jsonl", Faulty(fault="raise", on_depth=depth)
    before = run(path, scorer, trials=first)
    more = run(path, scorer, trials=40, resume=True)
    assert timeless(more)[: len(before.trials)] == timeless(before)
    assert timeless(more) == timeless(run(tmp_path / "u.jsonl", scorer, trials=40))
    assert len(more.scored) == 40 < len(more.trials)


@pytest.mark.usefixtures("inline")
def test_a_log_with_failures_resumes_wherever_it_is_cut(tmp_path: Path) -> None:
    """Whatever of a search that was extended once is left, the same search comes of it, with fewer trials asked for on the way."""
    path, scorer = tmp_path / "t.jsonl", Faulty(fault="raise", on_depth=2)
    run(path, scorer, trials=9)
    whole = timeless(run(path, scorer, trials=20, resume=True))
    content = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    for end in [*ends[::5], *ends[-12:], *(e - 7 for e in ends[-3:])]:
        path.write_bytes(content[:end])
        run(path, scorer, trials=12, resume=True)
        assert timeless(run(path, scorer, trials=20, resume=True)) == whole


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raise", "ValueError: the loss is no number"),
        ("kill", "its worker was killed by signal 9"),
        ("exit", "its worker ended with exit code 3"),
        ("nan", "ValueError: the scorer returned values that are not finite: {'error': nan}"),
        ("nameless", "ValueError: the scorer returned ['capacity'], without 'error'"),
    ],
)
def test_a_fault_costs_its_trial_only(tmp_path: Path, fault: str, reason: str) -> None:
    path = tmp_path / "t.jsonl"
    outcome = run(path, Faulty(fault=fault), jobs=2, trials=10)
    failed = [t for t in outcome.trials if t.failed]
    assert len(outcome.scored) == 10 == len(outcome.trials) - len(failed)
    assert not any(t.abandoned for t in outcome.trials)
    assert failed
    assert all(t.parameters["depth"] == 2 and t.reason == reason for t in failed)
    with pytest.raises(ValueError, match="has no objectives"):
        _ = failed[0].objectives
    again = run(path, toy.ToyScorer(), trials=10, resume=True)
    assert timeless(again) == timeless(outcome), "failures are replayed too"


def test_a_scorer_that_cannot_start(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="could not load what it needs: FileNotFoundError: no cached teacher outputs"):
        run(tmp_path / "t.jsonl", Faulty(fault="setup"))


def test_a_scorer_that_always_fails_ends_the_search_soon(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"6 of 6 trials failed, the last with: ValueError"):
        run(tmp_path / "t.jsonl", Faulty(fault="raise", on_depth=0))


def test_a_budget_that_nothing_meets_trains_nothing(tmp_path: Path) -> None:
    gate = GatedTuner(make("pareto", 0), toy.ToyJudge(allowance=1e-4), patience=100)
    gate.update_search_space(toy.space())
    with TrialLog.create(tmp_path / "t.jsonl", {}) as log, pytest.raises(BudgetError, match="nothing was trained"):
        search(gate, Faulty(fault="setup"), log, trials=4, generation=4, jobs=1, seed=0)


def test_a_space_smaller_than_the_trials_is_exhausted(tmp_path: Path) -> None:
    space = {name: {"_type": "choice", "_value": entry["_value"][:1]} for name, entry in toy.space().items()}
    space["width1"]["_value"] = [4, 8, 12]
    gate = GatedTuner(make("pareto", 0), toy.ToyJudge())
    gate.update_search_space(space)
    with TrialLog.create(tmp_path / "t.jsonl", {}) as log:
        outcome = search(gate, toy.ToyScorer(), log, trials=9, generation=2, jobs=1, seed=0)
    assert outcome.exhausted
    assert sorted(t.parameters["width1"] for t in outcome.scored) == [4, 8, 12]


def test_workers_compute_on_one_thread_and_live_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    metrics = [t.metrics or {} for t in run(tmp_path / "t.jsonl", Threads(), trials=7).scored]
    assert {(m["omp"], m["torch"]) for m in metrics} == {(1.0, 1.0)}
    assert len({m["pid"] for m in metrics}) == 1, "one worker serves all generations"
    assert os.environ["OMP_NUM_THREADS"] == "5"


def test_workers_keep_standard_output_clean(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path / "t.jsonl", Faulty(fault="print", on_depth=0), trials=2)
    out, err = capfd.readouterr()
    assert out == ""
    assert "noise on standard output" in err


def test_time_is_accounted_for(tmp_path: Path) -> None:
    stats = run(tmp_path / "t.jsonl", toy.ToyScorer(0.05), jobs=2, trials=13).stats
    assert 13 * 0.05 <= stats.busy_s < 13 * 0.05 + 0.5
    assert stats.waiting_s >= 0.05, "the last generation is one trial: the other worker waits for it"
    assert 0 < stats.main_cpu_s < 1.0
    assert stats.overhead == pytest.approx(stats.main_cpu_s / stats.busy_s)


@pytest.mark.parametrize("field", ["hash", "parameters", "violations", "id"])
def test_a_log_of_another_search_is_refused(tmp_path: Path, field: str) -> None:
    path, other = tmp_path / "t.jsonl", tmp_path / "other.jsonl"
    run(path, trials=3)
    changed = False
    with TrialLog.create(other, CONFIG) as log:
        for record in parse(path)[0][1:]:
            record.pop("n")
            if field in record and not changed:
                record[field], changed = "something else", True
            log.append(**record)
    assert changed
    message = rf"other\.jsonl, line \d+: holds {field} 'something else' where this search gives .*new run"
    with pytest.raises(RunError, match=message):
        run(other, trials=3, resume=True)


def test_cut_at_every_byte_of_its_last_line_resumes(reference: tuple[Outcome, Path], tmp_path: Path) -> None:
    whole = reference[1].read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    path = tmp_path / "t.jsonl"
    for length in (last, last + 1, (last + len(whole)) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert timeless(run(path, resume=True)) == timeless(reference[0])


def program(path: Path, seconds: float) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("toy_search.py")
    return subprocess.Popen([sys.executable, "-W", "ignore", str(script), str(path), str(seconds)], text=True)


def kill_and_resume(path: Path, kills: int) -> None:
    """Kill the whole search (not its workers) at random moments of its life, then let it end."""
    rng = np.random.default_rng(0)
    for _ in range(kills):
        with program(path, 0.05) as process:
            before = path.stat().st_size if path.exists() else 0
            deadline = time.monotonic() + 20
            while not (path.exists() and path.stat().st_size > before) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.6))
            workers = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.send_signal(signal.SIGKILL)
            process.wait()
            # A worker that was just started ends when its imports are done, which takes long on a busy machine.
            gone, alive = psutil.wait_procs(workers, timeout=60)
            assert not alive, "a worker outlived its parent"
            assert len(gone) == len(workers)


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_and_resumed_equals_uninterrupted(reference: tuple[Outcome, Path], tmp_path: Path, kills: int) -> None:
    path = tmp_path / "t.jsonl"
    kill_and_resume(path, kills)
    assert timeless(run(path, toy.ToyScorer(0.05), jobs=2, resume=True)) == timeless(reference[0])


def test_ctrl_c_leaves_a_log_that_resumes_and_no_process(reference: tuple[Outcome, Path], tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"

    def interrupt(event: Event) -> None:
        if event.kind == "scored" and event.tally.total.scored == 8:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(path, toy.ToyScorer(0.02), jobs=2, watch=interrupt)
    assert not [c for c in psutil.Process().children() if "spawn_main" in " ".join(c.cmdline())]
    assert sum(r["kind"] == "scored" for r in parse(path)[0]) == 8
    assert timeless(run(path, resume=True)) == timeless(reference[0])


def test_a_full_disk_ends_the_search_and_it_can_go_on(
    reference: tuple[Outcome, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "t.jsonl", os.write
    budget = 6000

    def limited(descriptor: int, content: bytes) -> int:
        nonlocal budget
        if len(content) > budget:
            raise OSError(28, "No space left on device")
        budget -= len(content)
        return real(descriptor, content)

    monkeypatch.setattr(trial_log.os, "write", limited)
    with pytest.raises(RunError, match="No space left on device"):
        run(path)
    monkeypatch.undo()
    assert timeless(run(path, resume=True)) == timeless(reference[0])
