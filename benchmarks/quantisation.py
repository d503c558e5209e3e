"""What int8 costs on real recordings: students of three families in float, quantised after training only, and as they ship.

    python benchmarks/quantisation.py FOLDER      searches three spaces at once, three seeds (below `runs/quantisation-SEED`)

Every run (seed and split alike) searches mobilenet1d, microresnet and lstm on the recordings in FOLDER. Looked at are the students of
the front, and of a family that has none there the best one that was scored, finished like the others. All three forms of a
student are scored on the run's test patients. Writes `benchmarks/results/quantisation.json`.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from hwnas.cli.display import TerminalProgress
from hwnas.export import floats
from hwnas.pipeline.config import RunConfig
from hwnas.pipeline.data import RunData, load_data
from hwnas.pipeline.finishing import finish
from hwnas.pipeline.resolve import resolve
from hwnas.pipeline.rundir import RunDirectory, read_json
from hwnas.pipeline.search import run_search
from hwnas.pipeline.workshop import Workshop
from hwnas.quantize import storage
from hwnas.quantize.ptq import quantize
from hwnas.quantize.scoring import score_int8
from hwnas.search.trial_log import parse
from hwnas.search.trials import Trial, read_trials, trial_seed
from hwnas.teachers.cache import predict

SEEDS = (0, 1, 2)
SPACES = ("mobilenet1d", "microresnet", "lstm")
TRIALS, STUDENTS = 20, 6
METRICS = ("af_auc", "accuracy")
MEAN_AUC_LIMIT, WORST_AUC_LIMIT, MEAN_ACCURACY_LIMIT = 0.002, 0.005, 0.005
Row = dict[str, Any]


def config(folder: Path, seed: int) -> RunConfig:
    """The settings of one run."""
    flags = {"profile": "cortex-m4-192k", "data": str(folder.resolve()), "spaces": list(SPACES), "trials": TRIALS, "students": STUDENTS}
    return resolve(None, flags | {"seed": seed, "split_seed": seed}, {})


def students(settings: RunConfig, root: Path) -> list[Path]:
    """Folders of the students of the front, and of the best student of each family without one."""
    run, front = RunDirectory(root), read_json(root / "front.json")
    folders = [root / student["folder"] for student in front["students"]]
    absent = set(SPACES) - {student["family"] for student in front["students"]}
    if absent:
        shop = Workshop.open(settings, root)
        trials = [trial for trial in read_trials(parse(run.trials)[0]) if trial.metrics is not None]
        for family in sorted(absent):
            of_family = [trial for trial in trials if trial.parameters["space"] == family]
            folders += [_finished(shop, min(of_family, key=lambda trial: trial.objectives.error))] if of_family else []
    return folders


def _finished(shop: Workshop, trial: Trial) -> Path:
    folder = shop.run.student(trial.hash)
    if not (folder / "card.json").exists():
        finish(shop, trial.parameters, trial_seed(shop.config.seed, trial.hash))
    return folder


def row(seed: int, folder: Path, data: RunData) -> Row:
    """Metrics of one student on the test patients in every form."""
    card, test, task = read_json(folder / "card.json"), data.split.test, data.task
    student, shipped = floats.load(folder), storage.load(folder)
    found = {
        "float": task.metrics(predict(student, test.x), test),
        "ptq": score_int8(quantize(student, data.split.train.x, task.labels), test, task),
        "shipped": score_int8(shipped, test, task),
    }
    return {
        "seed": seed,
        "student": card["id"],
        "family": card["family"],
        "parameters": card["parameters"],
        "method": card["quantisation"]["method"],
        "test_subjects": len(test.subjects),
        "test_windows": len(test),
        **{form: {name: metrics[name] for name in METRICS} for form, metrics in found.items()},
    }


def losses(rows: list[Row], form: str, metric: str) -> list[float]:
    """What a form loses against float, student by student."""
    return [r["float"][metric] - r[form][metric] for r in rows]


def main() -> None:
    """All seeds; print, write."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    console, rows = Console(), []
    torch.set_num_threads(1)
    for seed in SEEDS:
        root, settings = Path("runs") / f"quantisation-{seed}", config(Path(sys.argv[1]), seed)
        with TerminalProgress(Console(stderr=True)) as progress:
            run_search(settings, root, jobs=os.cpu_count() or 1, resume=root.exists(), progress=progress)
        data = load_data(settings)
        rows += [row(seed, folder, data) for folder in students(settings, root)]
    shown = Table("seed", "student", "family", "parameters", "method", *(f"{f} {m}" for m in METRICS for f in ("float", "ptq", "shipped")))
    for r in rows:
        figures = (f"{r[form][metric]:.4f}" for metric in METRICS for form in ("float", "ptq", "shipped"))
        shown.add_row(str(r["seed"]), r["student"], r["family"], f"{r['parameters']:,}", r["method"], *figures)
    console.print(shown)
    summary = {
        f"{form} {metric} lost": {"mean": statistics.mean(found), "worst": max(found), "best": min(found)}
        for form in ("ptq", "shipped")
        for metric in METRICS
        if (found := losses(rows, form, metric))
    }
    for name, figures in summary.items():
        console.print(f"{name}: " + ", ".join(f"{kind} {value:+.4f}" for kind, value in figures.items()))
    auc, accuracy = summary["shipped af_auc lost"], summary["shipped accuracy lost"]
    kept = auc["mean"] <= MEAN_AUC_LIMIT and auc["worst"] <= WORST_AUC_LIMIT and accuracy["mean"] <= MEAN_ACCURACY_LIMIT
    console.print("within the limits" if kept else "NOT within the limits")
    results = Path(__file__).parent / "results" / "quantisation.json"
    results.write_text(json.dumps({"summary": summary, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
