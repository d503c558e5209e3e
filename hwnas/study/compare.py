"""`compare`: does a distillation help? Folds of patients, several seeds, a control arm, paired statistics. Writes the folder of a study.

study.yaml             the settings
teachers/fold-K/       the teacher of every fold, unless others are given
trainings/fold-K/*.npz outputs for the test patients of every training
compare.json           all figures; compare.md and differences.png are made of it
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.distill import read
from hwnas.errors import UsageError
from hwnas.graph import Graph
from hwnas.pipeline.data import task_of
from hwnas.pipeline.progress import Progress
from hwnas.pipeline.teacher import check_learning
from hwnas.resources import write_bytes, write_text
from hwnas.study import folder, render, student
from hwnas.study.arms import CONTROL, HARD, TEACHER, Result, Training, run_trainings, student_recipe, taught_by
from hwnas.study.folds import Fold, StudyConfig, check_given, ensure_teachers, read_folds
from hwnas.study.measures import Measure, Scored, measures
from hwnas.study.statistics import DRAWS, Average, Floats, Folds, Ints, difference, draws, everyone, paired, share_closed, standard_error
from hwnas.teachers import members
from hwnas.teachers.card import read_card

MAY_CHANGE = ("recipes", "seeds", "data", "teachers")  # a study may grow, and its parts are known by their content
FEW_SEEDS = 3
FLOAT, INT8 = "float32", "int8"
Content = dict[str, Any]


def compare(config: StudyConfig, out: Path, *, jobs: int, resume: bool, progress: Progress) -> Content:
    """Run a comparison, or what is missing of it, and write its figures; returns the content of `compare.json`.

    Raises:
        UsageError, ConfigError: settings that do not fit together, or a folder that is taken.
        DataError: recordings that cannot be used or parted.
        RunError: a training failed.
    """
    check(config)
    folder.check_free(out, resume=resume)
    progress.stage("reading recordings" if config.data else "generating signals")
    folds = read_folds(config, out)
    data = folds[0].data
    for recipe in config.recipes:
        check_learning(taught_by(config, recipe), data)
    check_given(config, folds)
    graph = student.architecture(config, data)
    folder.claim(out, "compare", config.model_dump(mode="json"), resume=resume, may_change=MAY_CHANGE)
    warnings = ensure_teachers(config, folds, out, jobs=jobs, progress=progress)
    results = run_trainings(config, graph, folds, out, jobs=jobs, progress=progress)
    progress.stage("statistics")
    content = _content(config, graph, folds, results, [*_doubts(config), *warnings])
    write_text(out / "compare.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_bytes(out / render.FIGURE, render.png(content))
    write_text(out / "compare.md", render.markdown(content))
    return content


def check(config: StudyConfig) -> None:
    """Refuse settings that cannot be, before anything is read; raises UsageError or ConfigError."""
    kind = task_of(config.task).kind
    members(config.teacher)
    student.check(config)
    for recipe in config.recipes:
        read(recipe).allow(kind)
        if not read(recipe).needs_teacher and not read(recipe).teacher_taps:
            raise UsageError(f"recipe '{recipe}' learns nothing from a teacher, as the control does; name one such as soft or dkd")
    if len(set(config.recipes)) < len(config.recipes):
        raise UsageError(f"recipes {', '.join(config.recipes)}: one is given twice; give each once")


@dataclass(frozen=True)
class Row:
    """An arm in one form, scored by one measure: by seed, and averaged over them."""

    seeds: tuple[Folds, ...]
    mean: Folds
    patients: Floats


def _content(
    config: StudyConfig, graph: Graph, folds: Sequence[Fold], results: Mapping[Training, Result], warnings: Sequence[str]
) -> Content:
    task, whole = folds[0].task, folds[0].whole
    subjects = [subject for fold in folds for subject in fold.subjects[2]]
    weights = draws(len(subjects), DRAWS, np.random.default_rng(config.seed))
    forms = (FLOAT, INT8) if config.int8 else (FLOAT,)
    arms: list[Content] = [{"arm": arm, "form": form, "measures": {}} for arm, form in _rows(config, forms)]
    told, parts = [], [_fold(config, fold) for fold in folds]
    for measure in measures(task):
        rows = {(arm, form): _row(measure, arm, form, folds, results) for arm, form in _rows(config, forms)}
        told.append({name: getattr(measure, name) for name in ("name", "title", "unit", "better", "pooling", "own")})
        for row in arms:
            row["measures"][measure.name] = _figures(measure, rows, (row["arm"], row["form"]), subjects, weights)
    return {
        "task": task.name,
        "data": {
            "name": folds[0].name,
            "source": whole.source,
            "hash": folds[0].hash,
            "window_s": whole.window_s,
            "subjects": len(subjects),
        },
        "provenance": {
            FLOAT: f"float32 on the host, {whole.source} data",
            INT8: f"int8 reference on the host, bit for bit what ships, {whole.source} data",
            "interval": f"95 %, expanded percentiles of {DRAWS:,} bootstrap samples of the patients, seeds averaged inside",
        },
        "student": {"hash": graph.hash, "parameters": graph.parameters, "macs": graph.macs},
        "teacher": " and ".join(sorted({row["teacher_name"] for row in parts})),
        "folds": parts,
        "seeds": config.seeds,
        "effort": config.effort,
        "claims": config.effort == "normal" and config.seeds >= FEW_SEEDS,
        "warnings": list(warnings),
        "measures": told,
        "arms": arms,
        "subjects": [{"subject": s, "fold": f.number} for f in folds for s in f.subjects[2]],
    }


def _rows(config: StudyConfig, forms: Sequence[str]) -> list[tuple[str, str]]:
    return [(TEACHER, FLOAT), *((arm, form) for form in forms for arm in (CONTROL, *config.recipes))]


def _row(measure: Measure, arm: str, form: str, folds: Sequence[Fold], results: Mapping[Training, Result]) -> Row:
    scored: dict[tuple[int, int], Scored] = {}
    for t in results:
        if t.arm == arm:
            result = results[t]
            outputs = result.calibrated if form == FLOAT else result.int8
            if outputs is not None:
                scored[t.fold, t.seed] = measure.score(outputs, folds[t.fold - 1].test)
    seeds = sorted({seed for _, seed in scored})
    sizes = tuple(len(fold.subjects[2]) for fold in folds)
    each = {seed: tuple(scored[fold.number, seed].pooled for fold in folds) for seed in seeds}
    mean = tuple(Average(of) for of in zip(*each.values(), strict=True))
    patients = np.mean([np.concatenate([scored[fold.number, seed].patients for fold in folds]) for seed in seeds], axis=0)
    return Row(tuple(Folds(of, sizes) for of in each.values()), Folds(mean, sizes), patients)


def _figures(
    measure: Measure, rows: Mapping[tuple[str, str], Row], which: tuple[str, str], subjects: Sequence[str], weights: Ints
) -> Content:
    """What one arm in one form comes to by one measure, alone and beside its control."""
    row, control, teacher = rows[which], rows[CONTROL, which[1]], rows[TEACHER, FLOAT]
    one = everyone(len(subjects))
    found: Content = {
        "value": _plain(row.mean(one)[0]),
        "seeds_se": standard_error([float(seed(one)[0]) for seed in row.seeds]),
        "folds": [_plain(value) for value in row.mean.each(one)[0]],
        "patients": [_plain(value) for value in row.patients],
    }
    if which[0] == CONTROL:
        return found
    own = row.patients - control.patients
    found["difference"] = asdict(difference(row.mean, control.mean, weights)) | {
        "folds": [_plain(value) for value in (row.mean.each(one) - control.mean.each(one))[0]],
        "patients": [_plain(value) for value in own],
        "paired": asdict(paired(own)),
    }
    if which[0] != TEACHER:
        gains = [float((seed(one) - other(one))[0]) for seed, other in zip(row.seeds, control.seeds, strict=True)]
        found["difference"]["seeds_se"] = standard_error(gains)
        found["share"] = asdict(share_closed(row.mean, control.mean, teacher.mean, weights, measure.better))
    return found


def _fold(config: StudyConfig, fold: Fold) -> Content:
    card, (train, validation, test) = read_card(fold.teacher), fold.subjects
    return {
        "fold": fold.number,
        "train": len(train),
        "validation": len(validation),
        "test": list(test),
        "test_windows": len(fold.places[2]),
        "teacher": card.id,
        "teacher_name": card.name,
        "teacher_validation": card.metrics["validation"],
        "epochs": student_recipe(config, HARD, card, fold.whole.x.shape[2]).epochs,
        "temperature": card.distillation_temperature,
    }


def _doubts(config: StudyConfig) -> list[str]:
    found = []
    if config.effort == "quick":
        found.append("effort quick: a look at how it works; its figures are no results")
    if config.seeds < FEW_SEEDS:
        found.append(f"{config.seeds} seed(s): a gain is claimed from {FEW_SEEDS} on")
    return found


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
