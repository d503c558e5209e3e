"""`Trial`, and how trials and proposals look in the log. Pure; shared by both drivers."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hwnas.pareto import Objectives
from hwnas.search.gate import Proposal, merged
from hwnas.search.trial_log import Record, TrialLog

PROPOSALS = ("proposed", "rejected", "duplicate")
RESULTS = ("scored", "failed")


@dataclass(frozen=True)
class Trial:
    """A candidate that passed the gate, and its result once there is one: it was scored, has failed or was abandoned.

    Attributes:
        family: student family; empty where the problem knows only one.
        cost: the gate's predicted figures.
        metrics: None for a trial that failed (`reason` says why) or has no result yet.
        seconds: wall clock of scoring.
    """

    id: int
    hash: str
    family: str
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


@dataclass(slots=True)
class Counts:
    """How many proposals passed the gate, were over budget or known already, and what became of those that passed."""

    proposed: int = 0
    rejected: int = 0
    duplicate: int = 0
    scored: int = 0
    failed: int = 0

    def add(self, kind: str) -> None:
        """One more of a kind."""
        setattr(self, kind, getattr(self, kind) + 1)


@dataclass(slots=True)
class Tally:
    """Counts of a whole search and of every family in it, in the order in which families came up."""

    total: Counts = field(default_factory=Counts)
    families: dict[str, Counts] = field(default_factory=dict)

    def add(self, kind: str, family: str) -> None:
        """One more of a kind in a family."""
        self.total.add(kind)
        self.families.setdefault(family, Counts()).add(kind)


@dataclass(frozen=True, slots=True)
class Event:
    """Progress of a search: what just happened, and the counts so far.

    Attributes:
        kind: "proposed", "rejected", "duplicate", "scored" or "failed".
        tally: is counted on after the event.
        trial: the trial of a "scored" or "failed" event.
        replayed: read from the log of an earlier, interrupted run.
    """

    kind: str
    tally: Tally
    trial: Trial | None = None
    replayed: bool = False


OnEvent = Callable[[Event], None]


class Announcer:
    """Counts what happens and tells `on_event`."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event, self._tally = on_event, Tally()

    def __call__(self, kind: str, family: str, trial: Trial | None = None, replayed: bool = False) -> None:
        """Pass one event on."""
        self._tally.add(kind, family)
        self._on_event(Event(kind, self._tally, trial, replayed))


def trial_seed(seed: int, architecture: str) -> int:
    """Seed of one trial, from the run's seed and the candidate's hash: the same whenever and wherever it is trained."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{architecture}".encode()).digest()[:4], "big") >> 1


def proposal_record(proposal: Proposal) -> Record:
    """What the log says of a proposal, exactly as it will be read back."""
    verdict = proposal.verdict
    record: Record = {"kind": proposal.kind, "hash": verdict.hash, "family": verdict.family}
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
            trials[record["id"]] = Trial(record["id"], record["hash"], record["family"], record["parameters"], record["cost"])
        elif record["kind"] in RESULTS:
            trials[record["id"]] = with_result(trials[record["id"]], record)
    return [trials[i] for i in sorted(trials)]


def count(records: Iterable[Record]) -> Tally:
    """How many records of each kind a log holds, by family."""
    tally, families = Tally(), dict[int, str]()
    for record in records:
        if record["kind"] in PROPOSALS:
            tally.add(record["kind"], record["family"])
            families[record.get("id", -1)] = record["family"]
        elif record["kind"] in RESULTS:
            tally.add(record["kind"], families[record["id"]])
    return tally


def scored_results(trials: Iterable[Trial]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Parameters, and metrics with cost, of the trials that were scored."""
    return [(t.parameters, merged(t.cost, t.metrics)) for t in trials if t.metrics is not None]
