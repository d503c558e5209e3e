"""`Trial`, and how trials and proposals look in the log. Pure; shared by both drivers."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hwnas.pareto import Objectives
from hwnas.search.gate import GateCounts, Proposal, merged
from hwnas.search.trial_log import Record, TrialLog

PROPOSALS = ("proposed", "rejected", "duplicate")
RESULTS = ("scored", "failed")


@dataclass(frozen=True)
class Trial:
    """A candidate that passed the gate, and its result once there is one: it was scored, has failed or was abandoned.

    Attributes:
        cost: the gate's predicted figures.
        metrics: None for a trial that failed (`reason` says why) or has no result yet.
        seconds: wall clock of scoring.
    """

    id: int
    hash: str
    parameters: dict[str, Any]
    cost: dict[str, Any]
    metrics: dict[str, float] | None = None
    reason: str = ""
    seconds: float = 0.0

    @property
    def objectives(self) -> Objectives:
        """What the search minimises; raises ValueError for a trial without metrics."""
        if self.metrics is None:
            raise ValueError(f"trial {self.id} has no objectives: {self.reason or 'it has not ended'}")
        return Objectives.of(merged(self.cost, self.metrics))

    @property
    def failed(self) -> bool:
        """It ended without metrics; `reason` says why."""
        return self.metrics is None and bool(self.reason)

    @property
    def abandoned(self) -> bool:
        """It was proposed and has no result: its search runs still, or was stopped before it ended."""
        return self.metrics is None and not self.reason

    @property
    def value(self) -> dict[str, Any]:
        """The result as a tuner receives it."""
        return {"failed": self.reason} if self.metrics is None else dict(self.metrics)


@dataclass(frozen=True, slots=True)
class Event:
    """Progress of a search: what just happened, and the counts so far.

    Attributes:
        kind: "proposed", "rejected", "duplicate", "scored" or "failed".
        trial: the trial of a "scored" or "failed" event.
        replayed: read from the log of an earlier, interrupted run.
    """

    kind: str
    proposed: int
    rejected: int
    scored: int
    failed: int
    trial: Trial | None = None
    replayed: bool = False


OnEvent = Callable[[Event], None]


class Announcer:
    """Counts what happens and tells `on_event`."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event, self._counts = on_event, dict.fromkeys((*PROPOSALS, *RESULTS), 0)

    def __call__(self, kind: str, trial: Trial | None = None, replayed: bool = False) -> None:
        """Pass one event on."""
        self._counts[kind] += 1
        count = self._counts
        self._on_event(Event(kind, count["proposed"], count["rejected"], count["scored"], count["failed"], trial, replayed))


def trial_seed(seed: int, architecture: str) -> int:
    """Seed of one trial, from the run's seed and the candidate's hash: the same whenever and wherever it is trained."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{architecture}".encode()).digest()[:4], "big") >> 1


def proposal_record(proposal: Proposal) -> Record:
    """What the log says of a proposal, exactly as it will be read back."""
    verdict = proposal.verdict
    record: Record = {"kind": proposal.kind, "hash": verdict.hash}
    if proposal.kind != "duplicate":
        record |= {"parameters": proposal.parameters, "cost": dict(verdict.cost)}
    if proposal.kind == "proposed":
        record["id"] = proposal.id
    if proposal.kind == "rejected":
        record["violations"] = {name: list(pair) for name, pair in verdict.violations.items()}
    plain: Record = json.loads(json.dumps(record, allow_nan=False))
    return plain


def write_result(log: TrialLog, trial: Trial) -> None:
    """Log the result of `trial`, with the time."""
    outcome: Record = {"reason": trial.reason} if trial.metrics is None else {"metrics": trial.metrics}
    times = {"seconds": round(trial.seconds, 3), "at": round(time.time(), 3)}
    log.append("failed" if trial.metrics is None else "scored", id=trial.id, hash=trial.hash, **outcome, times=times)


def with_result(trial: Trial, record: Record) -> Trial:
    """`trial` with the result that a "scored" or "failed" record holds."""
    return replace(trial, metrics=record.get("metrics"), reason=record.get("reason", ""), seconds=record["times"]["seconds"])


def read_trials(records: Iterable[Record]) -> list[Trial]:
    """Every trial of a log, in the order of proposal; those without a result are `abandoned`."""
    trials: dict[int, Trial] = {}
    for record in records:
        if record["kind"] == "proposed":
            trials[record["id"]] = Trial(record["id"], record["hash"], record["parameters"], record["cost"])
        elif record["kind"] in RESULTS:
            trials[record["id"]] = with_result(trials[record["id"]], record)
    return [trials[i] for i in sorted(trials)]


def count_proposals(records: Iterable[Record]) -> GateCounts:
    """How many proposals of each kind a log holds."""
    counts = GateCounts()
    for record in records:
        if record["kind"] in PROPOSALS:
            setattr(counts, record["kind"], getattr(counts, record["kind"]) + 1)
    return counts


def scored_results(trials: Iterable[Trial]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Parameters, and metrics with cost, of the trials that were scored."""
    return [(t.parameters, merged(t.cost, t.metrics)) for t in trials if t.metrics is not None]
