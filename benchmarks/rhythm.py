"""The main job on real recordings, over five splits by patient: teacher, best int8 student, prediction against emulation, times.

    python benchmarks/rhythm.py FOLDER            runs the searches on the recordings in FOLDER (below `runs/benchmark-SEED`)
    python benchmarks/rhythm.py RUN [RUN ...]     reads finished run directories instead

The best student is chosen on validation patients; test patients are scored once, after the front is frozen. Writes
`benchmarks/results/rhythm.json`: a row a split, and the mean.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hwnas.cli.display import TerminalProgress
from hwnas.pipeline.resolve import resolve
from hwnas.pipeline.rundir import read_json
from hwnas.pipeline.search import run_search

SPLIT_SEEDS = (0, 1, 2, 3, 4)
TRIALS = 30


def run(folder: Path, split_seed: int) -> Path:
    """One search; continued if it was interrupted."""
    root = Path("runs") / f"benchmark-{split_seed}"
    flags = {"profile": "cortex-m4-192k", "data": str(folder.resolve()), "trials": TRIALS, "seed": 0, "split_seed": split_seed}
    with TerminalProgress(Console(stderr=True)) as progress:
        run_search(resolve(None, flags, {}), root, jobs=os.cpu_count() or 1, resume=root.exists(), progress=progress)
    return root


def row(root: Path) -> dict[str, Any]:
    """Figures of one run."""
    front, timing = read_json(root / "front.json"), read_json(root / "timing.json")
    students = front["students"]
    best = next(s for s in students if s["id"] == front["best"])
    benches = [read_json(root / s["folder"] / "bench.json") for s in students]
    teacher, excess = front["teacher"]["metrics"]["test"], [b["predicted"]["ram_bytes"] - b["emulated"]["ram_bytes"] for b in benches]
    exports = [s["exports"][form] for s in students for form in ("tflite", "onnx") if form in s["exports"]]
    return {
        "split_seed": front["split_seed"],
        "data": front["data"],
        "source": front["source"],
        "test_subjects": front["windows"]["parts"]["test"]["subjects"],
        "teacher_test_af_auc": teacher["af_auc"],
        "best_student": best["id"],
        "best_parameters": best["parameters"],
        "best_latency_us_emulated": best["cost"]["latency_us"]["emulated"],
        "best_validation_af_auc": best["metrics"]["validation"]["af_auc"],
        "best_test_af_auc": best["metrics"]["test"]["af_auc"],
        "gap": teacher["af_auc"] - best["metrics"]["test"]["af_auc"],
        "best_test_accuracy": best["metrics"]["test"]["accuracy"],
        "students": len(students),
        "smallest_parameters": min(s["parameters"] for s in students),
        "latency_predicted_over_emulated_min": min(b["ratios"]["cycles"] for b in benches),
        "latency_predicted_over_emulated_max": max(b["ratios"]["cycles"] for b in benches),
        "ram_excess_bytes_min": min(excess),
        "ram_excess_bytes_max": max(excess),
        "windows_per_student": min(b["windows"] for b in benches),
        "windows_different_from_reference": sum(b["windows_different_from_reference"] for b in benches),
        "operator_largest_step": max(e["operator_largest_step"] for e in exports),
        "tflite_largest_step": max(s["exports"]["tflite"]["largest_step"] for s in students),
        "tflite_share_differing_max": max(s["exports"]["tflite"]["share_differing"] for s in students),
        "reject_share": front["search"]["reject_share"],
        "trial_median_s": timing["trial_median_s"],
        "trial_worst_s": timing["trial_worst_s"],
        "search_overhead": (timing.get("last_process") or {}).get("overhead"),
        "workers_waiting_s": (timing.get("last_process") or {}).get("waiting_s"),
    }


def mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of every figure that all rows have."""
    numbers = [k for k in rows[0] if all(isinstance(r[k], int | float) for r in rows)]
    return {"split_seed": "mean", **{k: statistics.fmean(r[k] for r in rows) for k in numbers if k != "split_seed"}}


def main() -> None:
    """Run or read, print and write."""
    places = [Path(argument) for argument in sys.argv[1:]]
    if not places:
        sys.exit("usage: rhythm.py FOLDER_OF_RECORDINGS | RUN [RUN ...]")
    finished = all((place / "front.json").exists() for place in places)
    rows = [row(place) for place in (places if finished else [run(places[0], seed) for seed in SPLIT_SEEDS])]
    rows.append(mean(rows))
    table = Table("figure", *(f"split {r['split_seed']}" for r in rows), title="rhythm, real recordings, int8; emulated = modelled cycles")
    for name in rows[0]:
        table.add_row(name, *(f"{r[name]:.4f}" if isinstance(r.get(name), float) else str(r.get(name, "")) for r in rows))
    Console(width=140).print(table)
    (Path(__file__).parent / "results" / "rhythm.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
