"""The in-process driver: generations of proposals, scored by worker processes, each step in the trial log. No torch.

The tuner hears of results in the order of proposal, a whole generation at a time, so neither the number of workers nor their
speed changes what it proposes. Generations are counted in trials, failed ones included, and one that the end of a search leaves
incomplete is not told, so neither does the number of trials asked for. A log that holds part of a search is *replayed*: the tuner
proposes again from the same seed, and results that are in the log are used instead of being computed.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field, replace

import nni

from hwnas.errors import RunError
from hwnas.search.gate import GatedTuner, Proposal
from hwnas.search.trial_log import Record, TrialLog, comparable
from hwnas.search.trials import (
    PROPOSALS,
    RESULTS,
    Announcer,
    OnEvent,
    Trial,
    proposal_record,
    trial_seed,
    with_result,
    write_result,
)
from hwnas.search.workers import Scorer, Task, WorkerPool

FEW_FAILURES = 3


@dataclass
class SearchStats:
    """Where the time of this process's share of a search went (replayed trials are not in it).

    Attributes:
        busy_s: wall clock that workers spent scoring.
        waiting_s: wall clock that workers stood idle at the end of generations.
        main_cpu_s: processor time of the main process while it searched.
    """

    busy_s: float = 0.0
    waiting_s: float = 0.0
    main_cpu_s: float = 0.0

    @property
    def overhead(self) -> float:
        """Main-process time over busy time; 0 where nothing was scored."""
        return self.main_cpu_s / self.busy_s if self.busy_s else 0.0


@dataclass
class Outcome:
    """All trials in the order of proposal, and the time it took. `exhausted`: the space ended before the trials did."""

    trials: list[Trial] = field(default_factory=list)
    stats: SearchStats = field(default_factory=SearchStats)
    exhausted: bool = False

    @property
    def scored(self) -> list[Trial]:
        """The trials that have metrics."""
        return [t for t in self.trials if t.metrics is not None]


def _silent(_: object) -> None:
    """Nobody watches."""


def search(
    tuner: GatedTuner,
    scorer: Scorer,
    log: TrialLog,
    *,
    trials: int,
    generation: int,
    jobs: int,
    seed: int,
    on_event: OnEvent = _silent,
) -> Outcome:
    """Score `trials` candidates in `jobs` processes; the tuner hears of results after every `generation` trials.

    `tuner` must be fresh (its search space set, nothing proposed); `log` may hold an earlier part of the same search.

    Raises:
        BudgetError: no candidate is within budget.
        RunError: the log disagrees with what the tuner proposes or cannot be written, the scorer's `setup` failed, the first
            trials all failed, or more trials failed than were asked for.
    """
    return _Search(tuner, log, seed, on_event).run(scorer, trials, generation, jobs)


class _Search:
    def __init__(self, tuner: GatedTuner, log: TrialLog, seed: int, on_event: OnEvent) -> None:
        self._tuner, self._log, self._seed, self._announce = tuner, log, seed, Announcer(on_event)
        self._expected = deque(r for r in log.records if r["kind"] in PROPOSALS)
        self._results = {r["id"]: r for r in log.records if r["kind"] in RESULTS}
        self._outcome = Outcome()
        tuner.report = self._on_proposal

    def run(self, scorer: Scorer, trials: int, generation: int, jobs: int) -> Outcome:
        outcome, cpu = self._outcome, time.process_time()
        with WorkerPool(scorer, jobs) as pool:
            while (missing := trials - len(outcome.scored)) > 0 and not outcome.exhausted:
                room = generation - len(outcome.trials) % generation
                outcome.trials += self._score(self._propose(min(room, missing)), pool)
                self._check_failures(trials)
                if len(outcome.trials) % generation == 0 and not outcome.exhausted:
                    for trial in outcome.trials[-generation:]:
                        self._tuner.receive_trial_result(trial.id, trial.parameters, trial.value)
            stats = pool.stats
        outcome.stats = SearchStats(stats.busy_s, stats.waiting_s, time.process_time() - cpu)
        return outcome

    def _propose(self, count: int) -> list[Trial]:
        batch: list[Trial] = []
        first = len(self._outcome.trials)
        for trial_id in range(first, first + count):
            try:
                parameters = self._tuner.generate_parameters(trial_id)
            except nni.NoMoreTrialError:
                self._outcome.exhausted = True
                break
            verdict = self._tuner.verdict(trial_id)
            batch.append(Trial(trial_id, verdict.hash, verdict.family, parameters, dict(verdict.cost)))
        return batch

    def _score(self, batch: list[Trial], pool: WorkerPool) -> list[Trial]:
        """The trials of `batch` with their results, in their order."""
        done: dict[int, Trial] = {}
        for trial in batch:
            if record := self._results.get(trial.id):
                self._compare(record, {"hash": trial.hash, "id": trial.id}, ("hash", "id"))
                done[trial.id] = with_result(trial, record)
                self._announce(record["kind"], trial.family, done[trial.id], replayed=True)
        waiting = {t.id: t for t in batch if t.id not in done}
        for score in pool.score(Task(t.id, t.parameters, trial_seed(self._seed, t.hash)) for t in waiting.values()):
            trial = replace(waiting[score.id], metrics=score.metrics, reason=score.reason, seconds=score.seconds)
            write_result(self._log, trial)
            done[trial.id] = trial
            self._announce("failed" if trial.metrics is None else "scored", trial.family, trial)
        return [done[t.id] for t in batch]

    def _on_proposal(self, proposal: Proposal) -> None:
        record = proposal_record(proposal)
        replayed = bool(self._expected)
        if replayed:
            found = self._expected.popleft()
            self._compare(found, record, tuple(record.keys() | comparable(found).keys()))
        else:
            self._log.append(**record)
        self._announce(proposal.kind, proposal.verdict.family, replayed=replayed)

    def _compare(self, found: Record, mine: Record, names: tuple[str, ...]) -> None:
        """Raise RunError where a record of the log is not what this search produces in its place."""
        different = sorted(name for name in names if found.get(name) != mine.get(name))
        if different:
            name = different[0]
            raise RunError(
                f"{self._log.path}, line {found['n'] + 1}: holds {name} {found.get(name)!r} "
                f"where this search gives {mine.get(name)!r}; "
                "the log comes from another version, space or cost table: start a new run"
            )

    def _check_failures(self, trials: int) -> None:
        failed = [t for t in self._outcome.trials if t.failed]
        hopeless = len(failed) >= FEW_FAILURES and not self._outcome.scored
        if hopeless or len(failed) > trials:
            raise RunError(
                f"{len(failed)} of {len(self._outcome.trials)} trials failed, the last with: {failed[-1].reason}; "
                f"{self._log.path} lists them; correct the cause and start a new run"
            )
