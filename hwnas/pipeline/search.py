"""`run_search`: from a configuration to a run directory with a front and a report. Every stage resumes from its files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hwnas import families, report
from hwnas.errors import RunError
from hwnas.hardware.table import read as read_table
from hwnas.hardware.table import write as write_table
from hwnas.pareto import Objectives, select
from hwnas.pipeline.config import RunConfig
from hwnas.pipeline.data import RunData, load_data
from hwnas.pipeline.finishing import StudentFinisher, describe_hardware
from hwnas.pipeline.front import best, describe_metric, freeze, hypervolume, over_budget, read_cards, score_test
from hwnas.pipeline.gate import Gate, Survey, open_gate, survey
from hwnas.pipeline.identity import fingerprint
from hwnas.pipeline.profiling import check_kernels, extended, missing, reachable
from hwnas.pipeline.progress import Progress
from hwnas.pipeline.rundir import RunDirectory, check_free, claim, read_json
from hwnas.pipeline.teacher import check_learning, describe, ensure_teacher, test_metrics
from hwnas.pipeline.workshop import CandidateScorer
from hwnas.report.content import Metric, measure
from hwnas.search import nni_service
from hwnas.search.driver import SearchStats, search
from hwnas.search.gate import GatedTuner
from hwnas.search.nni_tuner import Service
from hwnas.search.trial_log import TrialLog
from hwnas.search.trial_log import parse as parse_log
from hwnas.search.trials import Counts, Event, Tally, Trial, count, trial_seed
from hwnas.search.tuners import make
from hwnas.search.workers import Task, WorkerPool
from hwnas.teachers.card import TeacherCard

Front = dict[str, Any]


def run_search(config: RunConfig, root: Path, *, jobs: int, resume: bool, progress: Progress) -> Front:
    """Run, or continue, the whole search in `root`; returns the content of `front.json`.

    Raises:
        HwnasError: whatever stage failed; what was finished before stays and is taken up by `resume`.
    """
    check_free(root, resume=resume)
    progress.stage("reading recordings" if config.data else "generating signals")
    data = load_data(config)
    check_learning(config, data)
    gate = open_gate(config, data, RunDirectory(root))
    check_kernels(read_table(config.hardware.table_path), config.hardware)
    gate = _complete(gate, jobs, progress)
    seen = survey(gate, config.seed)
    run = claim(root, config, data.hash, resume=resume)
    write_table(gate.table, run.table)
    _tell(seen, config.profile, progress)
    teacher = ensure_teacher(config, data, run.teacher, progress)
    trials, stats = _search(config, run, gate, teacher, data, jobs, progress)
    cards = _finish(config, run, trials, data, jobs, progress)
    front = _conclude(config, run, gate, data, seen, teacher, trials, cards, progress)
    _write_timing(run, [trial for trial in trials if trial.metrics is not None], stats)
    _remove_others(run, [card["id"] for card in cards])
    return front


def _complete(gate: Gate, jobs: int, progress: Progress) -> Gate:
    """The gate with a table that covers its whole space: shapes that the shipped table lacks are profiled on the spot.

    Raises:
        MissingEntryError: an operator of the space failed in every layout; better now than in the middle of the search.
    """
    spaces, window, outputs = gate.space.spaces, gate.window, gate.outputs
    absent = missing(gate.table, {shape for space in spaces for shape in reachable(space, window, outputs)})
    table = extended(gate.table, absent, progress, jobs=jobs) if absent else gate.table
    for space in spaces:
        for node, source in families.reach(space, window, outputs):
            table.choices(node.op, source, node.shape)
    return replace(gate, table=table)


def _tell(seen: Mapping[str, Survey], profile: str, progress: Progress) -> None:
    """Say how much of every family is over budget, and which family has nothing that fits."""
    for family, found in seen.items():
        line = f"{family}: {found.reject_share:.0%} of {found.candidates:,} random candidates are over budget on {profile} (predicted)"
        progress.say(line + (f"; none is known that fits, the smallest still needs {found.needs}" if found.needs else ""))


def _search(
    config: RunConfig, run: RunDirectory, gate: Gate, teacher: TeacherCard, data: RunData, jobs: int, progress: Progress
) -> tuple[list[Trial], SearchStats | None]:
    """Score candidates with the driver that the configuration names; NNI's does not say where its time went."""
    progress.stage(f"searching {', '.join(gate.space.families)} ({jobs} processes)", config.trials)
    seen = _Watcher(measure(data.task.primary), data.task.primary, progress)
    identity = fingerprint(config, data.hash) | {"teacher_id": teacher.id}
    if config.service == "nni":
        ours = "hwnas.pipeline.service"
        service = Service(f"{ours}:judge", f"{ours}:active", f"{ours}:scorer", config.tuner, config.seed, identity)
        trials = nni_service.search(run.root, service, gate.space.to_nni(), trials=config.trials, jobs=jobs, on_event=seen)
        return trials, None
    tuner = GatedTuner(make(config.tuner, config.seed, gate.space.active), gate.judge)
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

    def __init__(self, metric: Metric, primary: str, progress: Progress) -> None:
        self._metric, self._primary, self._progress = metric, primary, progress
        self._best: dict[str, float] | None = None

    def __call__(self, event: Event) -> None:
        found = event.trial.metrics if event.trial is not None else None
        if found is not None and (self._best is None or found["error"] < self._best["error"]):
            self._best = found
        total, families = event.tally.total, event.tally.families
        note = f"proposed {total.proposed + total.rejected}, rejected {total.rejected}"
        note += f", best {self._metric.title} {self._metric.show(self._best[self._primary])}" if self._best is not None else ""
        note += f", failed {total.failed}" if total.failed else ""
        if len(families) > 1:
            note += "; scored: " + ", ".join(f"{family} {counts.scored}" for family, counts in families.items())
        self._progress.step(total.scored, note)


def _finish(config: RunConfig, run: RunDirectory, trials: list[Trial], data: RunData, jobs: int, progress: Progress) -> list[Front]:
    """Fully distil the trials that add the most hypervolume; cards in the order of choice. One that fails is told and left out."""
    chosen = _choose(config, run, trials, data.chance_error)
    primary = data.task.primary
    metric = measure(primary)
    progress.stage("distilling, exporting and emulating students", len(chosen))
    waiting = [t for t in chosen if not (run.student(t.hash) / "card.json").exists()]
    done = len(chosen) - len(waiting)
    progress.step(done)
    with WorkerPool(StudentFinisher(config, run.root), min(jobs, max(len(waiting), 1))) as pool:
        for score in pool.score(Task(t.id, t.parameters, trial_seed(config.seed, t.hash)) for t in waiting):
            done += 1
            progress.step(done, f"last {metric.title} {metric.show(score.metrics[primary])}" if score.metrics else "")
            if score.metrics is None:
                progress.say(f"trial {score.id} could not be finished and is left out; --resume tries again: {score.reason}")
    finished = [trial for trial in chosen if (run.student(trial.hash) / "card.json").exists()]
    if not finished:
        raise RunError(f"{run.root}: no student could be finished; the reasons stand above. Correct the cause and continue with --resume")
    cards = read_cards(run, [trial.hash for trial in finished])
    for trial, card in zip(finished, cards, strict=True):
        card["short_validation"] = {name: value for name, value in (trial.metrics or {}).items() if name != "error"}
    return cards


def _choose(config: RunConfig, run: RunDirectory, trials: list[Trial], chance_error: float) -> list[Trial]:
    """At most `students` trials by hypervolume contribution within the budget and below chance; the best one where none adds any."""
    scored = [trial for trial in trials if trial.metrics is not None]
    if not scored:
        raise RunError(f"{run.root}: no candidate could be scored; {run.trials} says why each failed")
    limits = config.limits
    corner = Objectives(chance_error, limits.latency_us * 1.001, limits.ram_bytes + 1, limits.flash_bytes + 1)
    chosen = select([trial.objectives for trial in scored], config.students, corner)
    return [scored[i] for i in chosen] or [min(scored, key=lambda t: t.objectives.error)]


def _conclude(
    config: RunConfig,
    run: RunDirectory,
    gate: Gate,
    data: RunData,
    seen: Mapping[str, Survey],
    teacher: TeacherCard,
    trials: list[Trial],
    cards: list[Front],
    progress: Progress,
) -> Front:
    """Freeze the front, score test subjects once, and write front.json and the report."""
    progress.stage("freezing the front and writing the report")
    task, limits = data.task, config.limits
    front, fallen = freeze(cards, task, limits)
    if not front:
        broken = "; ".join(f"{card['id']}: {', '.join(over_budget(card, limits))}" for card in fallen)
        raise RunError(f"{run.root}: every student is over budget as emulated ({broken}), although none is as predicted; report this")
    score_test(run, front, data)
    winner = best(front, task)
    scored = [trial for trial in trials if trial.metrics is not None]
    records = parse_log(run.trials)[0]
    tally = count(records)
    content = {
        "profile": config.profile,
        "hardware": describe_hardware(config.hardware, gate.table),
        "task": config.task,
        "data": data.name,
        "source": data.split.train.source,
        "windows": data.provenance,
        "primary": task.primary,
        "metric": describe_metric(task),
        "chance_error": data.chance_error,
        "effort": config.effort,
        "service": config.service,
        "seed": config.seed,
        "split_seed": config.split_seed,
        "budget": asdict(limits),
        "teacher": describe(teacher, test_metrics(run.teacher, data)),
        "search": {
            "spaces": list(config.spaces),
            "tuner": config.tuner,
            **_counts(tally.total),
            "reject_share": sum(s.rejected for s in seen.values()) / sum(s.candidates for s in seen.values()),
            "hypervolume": hypervolume([trial.objectives for trial in scored], limits, data.chance_error),
            "families": {family: _family(family, tally, seen[family], cards, front) for family in gate.space.families},
        },
        "best": winner["id"] if winner else None,
        "students": front,
        "fallen": fallen,
    }
    run.write_json(run.front, content)
    report.write(run.root, content, report.from_log(records))
    return content


def _counts(counts: Counts) -> Front:
    """How a search's counts stand in `front.json`: what was proposed includes what was rejected, but no duplicates."""
    return {
        "proposed": counts.proposed + counts.rejected,
        "rejected": counts.rejected,
        "duplicates": counts.duplicate,
        "scored": counts.scored,
        "failed": counts.failed,
    }


def _family(family: str, tally: Tally, seen: Survey, finished: list[Front], front: list[Front]) -> Front:
    """What became of one family, from the survey to the front."""
    return _counts(tally.families.get(family, Counts())) | {
        "finished": sum(card["family"] == family for card in finished),
        "front": sum(card["family"] == family for card in front),
        "reject_share": seen.reject_share,
        "needs": seen.needs,
    }


def _write_timing(run: RunDirectory, scored: list[Trial], stats: SearchStats | None) -> None:
    """Where the search's time went; apart from front.json, which two runs share byte for byte.

    Where nothing was scored in this process (all was read from the log, or NNI ran it), the times of an earlier one stay.
    """
    path = run.root / "timing.json"
    seconds = sorted(trial.seconds for trial in scored)
    content: Front = {"trials": len(seconds), "trial_median_s": seconds[len(seconds) // 2], "trial_worst_s": seconds[-1]}
    if stats is not None and stats.busy_s:
        content["last_process"] = asdict(stats) | {"overhead": stats.overhead}
    elif path.exists():
        content["last_process"] = read_json(path).get("last_process")
    run.write_json(path, content)


def _remove_others(run: RunDirectory, kept: list[str]) -> None:
    """Delete students that an extended run no longer chooses, so that the folder holds what front.json names."""
    for folder in (run.root / "students").iterdir():
        if folder.is_dir() and folder.name not in kept:
            shutil.rmtree(folder)
