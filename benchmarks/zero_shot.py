"""How much of real rhythms the signal generator carries: trained on generated 10 s windows only, scored on real recordings.

The teacher is the product's own, trained by the product's recipe; no real recording is used for training, calibration or choice.
Give the folder of Liu 2022 recordings as the argument, or set HWNAS_DATA. Writes `benchmarks/results/zero_shot.json`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hwnas.cli.display import TerminalProgress
from hwnas.pipeline.config import RunConfig
from hwnas.pipeline.data import load_data
from hwnas.pipeline.rundir import RunDirectory
from hwnas.pipeline.teacher import ensure_teacher
from hwnas.teachers.cache import predict
from hwnas.teachers.card import load_teacher

WINDOWS, SUBJECTS = 15_000, 150


def main() -> None:
    """Train, score, print and write."""
    named = os.environ.get("HWNAS_DATA", "../shared/data") + "/rhythm/liu2022"
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else named)
    config = RunConfig(profile="cortex-m4-192k", window_s=10.0, windows=WINDOWS, subjects=SUBJECTS)
    data = load_data(config)
    real = data.task.load(folder, window_s=None, seed=0)
    with tempfile.TemporaryDirectory() as work, TerminalProgress(Console(stderr=True)) as progress:
        run = RunDirectory(Path(work))
        ensure_teacher(config, data, run.teacher, progress)
        module, card = load_teacher(run.teacher)
    rows = [
        {"trained_on": "generator", "scored_on": name, "parameters": card.parameters, "windows": len(w), "subjects": len(w.subjects)}
        | {key: round(value, 4) for key, value in data.task.metrics(predict(module, w.x), w).items()}
        for name, w in (("generator, other subjects (synthetic)", data.split.test), (f"{folder.name} (real)", real))
    ]
    table = Table(*rows[0], title=f"{card.name}, float32")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=200).print(table)
    (Path(__file__).parent / "results" / "zero_shot.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
