"""`run_search`: from a configuration to a run directory with a front and a report. Every stage resumes from its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hwnas import report
from hwnas.config import parse
from hwnas.errors import RunError, UsageError, lookup
from hwnas.hardware.table import write as write_table
from hwnas.pareto import Objectives, select
from hwnas.pipeline.config import RunConfig, fingerprint, read_run_yaml
from hwnas.pipeline.data import RunData, load_data, task_of
from hwnas.pipeline.finishing import StudentFinisher
from hwnas.pipeline.front import best, freeze, hypervolume, over_budget, read_cards, score_test
from hwnas.pipeline.gate import Gate, Survey, open_gate, survey
from hwnas.pipeline.profiling import check_kernels, extended, missing, reachable
from hwnas.pipeline.progress import Progress
from hwnas.pipeline.rundir import RunDirectory, check_free, claim
from hwnas.pipeline.teacher import describe, ensure_teacher, test_metrics
from hwnas.pipeline.workshop import CandidateScorer
from hwnas.search import nni_service
from hwnas.search.driver import SearchStats, search
from hwnas.search.gate import GatedTuner
from hwnas.search.nni_tuner import Service
from hwnas.search.trial_log import TrialLog
from hwnas.search.trial_log import parse as parse_log
from hwnas.search.trials import Event, Trial, count_proposals, trial_seed
from hwnas.search.tuners import make
from hwnas.search.workers import Task, WorkerPool
from hwnas.space import read as read_space
from hwnas.teachers import TEACHERS
from hwnas.teachers.card import TeacherCard

Front = dict[str, Any]


def resolve(config: Path | None, flags: Mapping[str, Any], limits: Mapping[str, Any]) -> RunConfig:
    """The configuration of a run: the file's values, with the flags that were given winning over them.

    Raises:
        ConfigError, UsageError: an unknown key, profile, task, space, teacher or preset, or no profile at all.
    """
    values = dict(read_run_yaml(config)[0]) if config else {}
    values |= {name: value for name, value in flags.items() if value is not None}
    budget = dict(values.get("budget", {})) | {name: value for name, value in limits.items() if value is not None}
    if "profile" not in values:
        raise UsageError("no hardware profile given; name one with --profile (`hwnas profiles` lists them)")
    run = parse(values | {"budget": budget}, RunConfig, str(config or "command line"))
    task_of(run.task)
    lookup(TEACHERS, run.teacher, "teacher")
    read_space(run.space)
    _ = run.limits  # an unknown profile or preset is refused here
    return run


def run_search(config: RunConfig, root: Path, *, jobs: int, resume: bool, progress: Progress) -> Front:
    """Run, or continue, the whole search in `root`; returns the content of `front.json`.

    Raises:
        HwnasError: whatever stage failed; what was finished before stays and is taken up by `resume`.
    """
    check_free(root, resume=resume)
    progress.stage("reading recordings" if config.data else "generating signals")
    data = load_data(config)
    gate = open_gate(config, data)
    check_kernels(gate.table)
    gate = _complete(gate, progress)
    seen = survey(gate, config.seed)
    run = claim(root, config, data.hash, resume=resume)
    write_table(gate.table, run.table)
    progress.say(f"{seen.reject_share:.0%} of {seen.candidates:,} random candidates are over budget on {config.profile} (predicted)")
    teacher = ensure_teacher(config, data, run, progress)
    trials, stats = _search(config, run, gate, teacher, data, jobs, progress)
    cards = _finish(config, run, gate, trials, data.task.primary, jobs, progress)
    return _conclude(config, run, data, seen, teacher, trials, cards, stats, progress)


def _complete(gate: Gate, progress: Progress) -> Gate:
    """The gate with a table that covers its whole space: shapes that the shipped table lacks are profiled on the spot."""
    absent = missing(gate.table, reachable(gate.space, gate.window, gate.outputs))
    return replace(gate, table=extended(gate.table, absent, progress)) if absent else gate


def _search(
    config: RunConfig, run: RunDirectory, gate: Gate, teacher: TeacherCard, data: RunData, jobs: int, progress: Progress
) -> tuple[list[Trial], SearchStats]:
    """Score candidates with the driver that the configuration names."""
    progress.stage(f"searching {config.space} ({jobs} processes)", config.trials)
    seen = _Watcher(config, data.task.primary, progress)
    identity = fingerprint(config, data.hash) | {"teacher_id": teacher.id}
    if config.service == "nni":
        service = Service("hwnas.pipeline.service:judge", "hwnas.pipeline.service:scorer", config.tuner, config.seed, identity)
        trials = nni_service.search(run.root, service, gate.space.to_nni(), trials=config.trials, jobs=jobs, on_event=seen)
        return trials, SearchStats()
    tuner = GatedTuner(make(config.tuner, config.seed), gate.judge)
    tuner.update_search_space(gate.space.to_nni())
    with TrialLog.resume(run.trials, identity) as log:
        if log.torn_bytes:
            progress.say(f"{run.trials}: the last line was torn; {log.torn_bytes} bytes were cut off")
        outcome = search(
            tuner,
            CandidateScorer(config, run.root),
            log,
            trials=config.trials,
            generation=config.generation,
            jobs=jobs,
            seed=config.seed,
            on_event=seen,
        )
    if outcome.exhausted:
        progress.say(f"the space holds no further candidate within budget: {len(outcome.scored)} of {config.trials} were scored")
    return outcome.trials, outcome.stats


class _Watcher:
    """Turns events of the search into progress."""

    def __init__(self, config: RunConfig, primary: str, progress: Progress) -> None:
        self._primary, self._progress = primary, progress
        self._best = 0.0

    def __call__(self, event: Event) -> None:
        if event.trial is not None and event.trial.metrics is not None:
            self._best = max(self._best, event.trial.metrics[self._primary])
        note = f"proposed {event.proposed + event.rejected}, rejected {event.rejected}, best {self._primary} {self._best:.3f}"
        self._progress.step(event.scored, note + (f", failed {event.failed}" if event.failed else ""))


def _finish(
    config: RunConfig, run: RunDirectory, gate: Gate, trials: list[Trial], primary: str, jobs: int, progress: Progress
) -> list[Front]:
    """Fully distil the trials that add the most hypervolume; cards in the order of choice."""
    scored = [trial for trial in trials if trial.metrics is not None]
    if not scored:
        raise RunError(f"{run.root}: no candidate could be scored; {run.trials} says why each failed")
    points = [trial.objectives for trial in scored]
    limits = config.limits
    corner = Objectives(0.5, limits.latency_us * 1.001, limits.ram_bytes + 1, limits.flash_bytes + 1)
    chosen = [scored[i] for i in select(points, config.students, corner)] or [min(scored, key=lambda t: t.objectives.error)]
    progress.stage("distilling, exporting and emulating students", len(chosen))
    waiting = [t for t in chosen if not (run.student(t.hash) / "card.json").exists()]
    done = len(chosen) - len(waiting)
    progress.step(done)
    with WorkerPool(StudentFinisher(config, run.root), min(jobs, max(len(waiting), 1))) as pool:
        for score in pool.score(Task(t.id, t.parameters, trial_seed(config.seed, t.hash)) for t in waiting):
            if score.metrics is None:
                raise RunError(f"{run.root}: a student could not be finished: {score.reason}; correct the cause and continue with --resume")
            done += 1
            progress.step(done, f"last {primary} {score.metrics[primary]:.3f}")
    cards = read_cards(run, [trial.hash for trial in chosen])
    for trial, card in zip(chosen, cards, strict=True):
        card["short_validation"] = {name: value for name, value in (trial.metrics or {}).items() if name != "error"}
    return cards


def _conclude(
    config: RunConfig,
    run: RunDirectory,
    data: RunData,
    seen: Survey,
    teacher: TeacherCard,
    trials: list[Trial],
    cards: list[Front],
    stats: SearchStats,
    progress: Progress,
) -> Front:
    """Freeze the front, score test subjects once, and write front.json and the report."""
    progress.stage("freezing the front and writing the report")
    primary, limits = data.task.primary, config.limits
    front, fallen = freeze(cards, primary, limits)
    if not front:
        broken = "; ".join(f"{card['id']}: {', '.join(over_budget(card, limits))}" for card in fallen)
        raise RunError(f"{run.root}: every student is over budget as emulated ({broken}), although none is as predicted; report this")
    score_test(run, front, data)
    winner = best(front, primary)
    scored = [trial for trial in trials if trial.metrics is not None]
    records = parse_log(run.trials)[0]
    counts = count_proposals(records)
    content = {
        "profile": config.profile,
        "task": config.task,
        "data": data.name,
        "source": data.split.train.source,
        "windows": data.provenance,
        "primary": primary,
        "seed": config.seed,
        "split_seed": config.split_seed,
        "budget": asdict(limits),
        "teacher": describe(teacher, test_metrics(run, data)),
        "search": {
            "space": config.space,
            "tuner": config.tuner,
            "proposed": counts.proposed + counts.rejected,
            "rejected": counts.rejected,
            "duplicates": counts.duplicate,
            "scored": len(scored),
            "failed": len(trials) - len(scored),
            "reject_share": seen.reject_share,
            "hypervolume": hypervolume([trial.objectives for trial in scored], limits),
        },
        "best": winner["id"] if winner else None,
        "students": front,
        "fallen": fallen,
    }
    run.write_json(run.front, content)
    run.write_json(run.root / "timing.json", _timing(scored, stats))
    report.write(run.root, content, report.from_log(records))
    return content


def _timing(scored: list[Trial], stats: SearchStats) -> dict[str, Any]:
    """Where the search's time went; apart from front.json, which two runs share byte for byte."""
    seconds = sorted(trial.seconds for trial in scored)
    return {
        "trial_median_s": seconds[len(seconds) // 2],
        "trial_worst_s": seconds[-1],
        "workers_busy_s": stats.busy_s,
        "workers_waiting_s": stats.waiting_s,
        "main_cpu_s": stats.main_cpu_s,
        "overhead": stats.overhead,
    }
